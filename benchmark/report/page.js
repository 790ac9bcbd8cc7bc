"use strict";
// The page of page.py. Nothing is fetched and nothing moves by itself; text becomes text nodes, never HTML.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const FAIRNESS = ["model_bias", "avg_acc", "worst_acc"];
const RULES = all("#rule option").map((option) => option.value);
const view = { preset: $("preset").value, rule: D.rule, task: "", method: "", gaps: false };
document.documentElement.classList.add("js");

// --- small things -----------------------------------------------------------------------------------------------------

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== false) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
  return element;
}
const el = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, String(content));

/** Hundredths as the tables print them. */
const two = (value) => (value === null ? "" : (value < 0 ? "−" : "") + (Math.abs(value) / 100).toFixed(2));
const signed = (value) => (value === null ? "" : (value >= 0 ? "+" : "") + two(value));
const plain = (title) => title.replace(/[*†‡]+$/, "");
const seeds = (n) => (n === 1 ? "one seed" : `${n} seeds`);
/** Black is the colour of text: white on a dark screen. */
const ink = (colour) => (colour === "#000000" ? "currentColor" : colour);
const DASH = { "-": null, "--": "6 3", "-.": "7 3 2 3", ":": "2 3" };
const METHODS = Object.keys(D.methods);
const taskOf = (series) => D.series[series][0].split("/")[0];
const methodOf = (series) => D.series[series][0].split("/")[1];
const runsOf = (series) => D.runs.filter((run) => run[0] === series);

/** The name of a series: its method, and what sets it apart from the recipe. */
function nameOf(series) {
  const method = methodOf(series);
  const apart = D.series[series][2].join(", ").replaceAll(`${method}.`, "");
  return D.methods[method][0] + (apart && ` (${apart})`);
}

// --- grids: one tab stop each, arrow keys inside ----------------------------------------------------------------------

const shown = (element) => element.getClientRects().length > 0;
const rowsOf = (table) => all("tr", table).filter((row) => shown(row) && row.cells.length);

/** The visible cells of a row with the column where each begins. */
function placed(row) {
  let column = 0;
  return [...row.cells].filter(shown).map((cell) => {
    const place = { cell, from: column, to: column + cell.colSpan };
    column = place.to;
    return place;
  });
}

function moveTo(table, cell) {
  for (const old of all("[tabindex='0']", table)) if (old !== cell) old.removeAttribute("tabindex");
  cell.tabIndex = 0;
}

function asGrid(table) {
  table.setAttribute("role", "grid");
  const first = table.querySelector("tbody td") || table.querySelector("th");
  if (first) moveTo(table, first);
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("td, th");
    if (!cell || getSelection().toString()) return;
    moveTo(table, cell);
    cell.focus({ preventScroll: true });
    activate(table, cell);
  });
  table.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td, th");
    if (!cell || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return activate(table, cell);
    }
    const rows = rowsOf(table);
    const row = rows.indexOf(cell.parentElement);
    const cells = placed(cell.parentElement);
    const column = cells.findIndex((each) => each.cell === cell);
    const vertical = (to) => {
      const there = rows[Math.min(Math.max(to, 0), rows.length - 1)];
      return placed(there).find((each) => each.to > cells[column].from) || placed(there).at(-1);
    };
    const ends = (at) => placed(rows.at(event.ctrlKey ? at : row)).at(at);
    const step = {
      ArrowLeft: () => cells[column - 1], ArrowRight: () => cells[column + 1],
      ArrowUp: () => vertical(row - 1), ArrowDown: () => vertical(row + 1),
      PageUp: () => vertical(row - 8), PageDown: () => vertical(row + 8),
      Home: () => ends(0), End: () => ends(-1),
    }[event.key];
    if (!step) return;
    event.preventDefault();
    const target = step();
    if (!target) return;
    moveTo(table, target.cell);
    target.cell.focus();
    target.cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

function activate(table, cell) {
  if (cell.matches("thead tr:last-child th")) return sort(table, cell);
  const open = details.get(cell);
  if (open) show(cell, ...open());
}

/** What the dialog says of a cell, by the cell: a function that gives its title and its content. */
const details = new Map();

// --- tables -----------------------------------------------------------------------------------------------------------

const tables = new Map(D.tables.map((table) => [table.id, { ...table, cells: [], headings: [] }]));
const WORDS = { 0: ", best", 1: ", second" };

for (const element of all("table.numbers")) {
  const table = tables.get(element.dataset.table);
  table.element = element;
  table.body = element.tBodies[0];
  table.rowElements = [...table.body.rows];
  table.rowElements.forEach((row, r) => {
    [...row.cells].slice(1).forEach((cell, c) => {
      const place = r * table.columns.length + c;
      table.cells.push(cell);
      cell.classList.toggle("missing", table.missing[c]);
      details.set(cell, () => describe(table, r, c, place));
    });
  });
  for (const row of element.tFoot?.rows || [])
    [...row.cells].slice(1).forEach((cell, c) => cell.classList.toggle("missing", table.missing[c]));
  table.headings = all("thead tr:last-child th", element);
  for (const heading of table.headings) heading.setAttribute("aria-sort", "none");
}

/** The content of a cell; the template writes the same for the rule that is shown without JavaScript. */
function fill(table, place) {
  const cell = table.under[view.rule].cells[place];
  const paper = table.paper[place];
  const parts = [];
  if (cell) {
    const [mean, spread, n, rank, collapsed] = cell;
    const kind = `measured${collapsed ? " collapsed" : ""}${rank === 0 ? " best" : rank === 1 ? " second" : ""}`;
    parts.push(el("span", { class: kind }, two(mean)));
    if (spread !== null) parts.push(el("span", { class: "spread" }, ` ± ${(spread / 10).toFixed(1)}`));
    if (collapsed) parts.push(el("span", { class: "word" }, " collapsed"));
    if (n === 1) parts.push(el("span", { class: "word" }, " n = 1"));
  } else parts.push(el("span", { class: "measured none" }, "–"));
  if (paper !== null) {
    const note = table.errata[place] ? [el("sup", {}, "e")] : [];
    const delta = cell ? [" ", el("span", { class: "delta" }, signed(cell[5]))] : [];
    parts.push(el("span", { class: "paper" }, two(paper), ...note, ...delta));
  }
  return [el("span", { "aria-hidden": "true" }, parts), el("span", { class: "unseen" }, label(table, place))];
}

/** A cell as one says it: what a screen reader reads. */
function label(table, place) {
  const r = Math.floor(place / table.columns.length);
  const [task, metric] = table.columns[place % table.columns.length];
  const cell = table.under[view.rule].cells[place];
  const paper = table.paper[place];
  const said = [plain(table.rows[r].title), D.tasks[task], D.metrics[metric][0]];
  said.push(cell ? two(cell[0]) + (cell[4] ? ", collapsed" : WORDS[cell[3]] || "") : "not measured");
  if (cell) said.push(seeds(cell[2]));
  if (paper !== null) said.push(`published ${two(paper)}${table.errata[place] ? ", doubtful" : ""}`);
  return said.join(", ");
}

function fillTables() {
  for (const table of tables.values()) {
    if (!table.element) continue;
    table.cells.forEach((cell, place) => cell.replaceChildren(...fill(table, place)));
    const near = table.under[view.rule].near;
    [...(table.element.tFoot?.rows || [])].forEach((row, which) =>
      [...row.cells].slice(1).forEach((cell, c) => (cell.textContent = two(near[c][which]) || "–")),
    );
    const notes = table.element.closest("section").querySelector(".notes");
    notes.replaceChildren(...table.under[view.rule].notes.map((note) => el("li", {}, note)));
    arrange(table);
  }
}

/** The rows in the order of the chosen column, what is not measured last. */
function arrange(table) {
  const { column, down } = table.order || {};
  const width = table.columns.length;
  const order = table.rows.map((_, r) => r);
  if (column === -1) order.sort((a, b) => table.rows[a].title.localeCompare(table.rows[b].title) * (down ? -1 : 1));
  else if (column !== undefined) {
    const value = (r) => table.under[view.rule].cells[r * width + column]?.[0] ?? null;
    order.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return (down ? y - x : x - y) || a - b;
    });
  }
  table.body.append(...order.map((r) => table.rowElements[r]));
}

/** Best first, then worst first, then as the table was. */
function sort(element, heading) {
  const table = tables.get(element.dataset.table);
  if (!table) return;
  const column = table.headings.indexOf(heading) - 1;
  const best = column >= 0 && D.metrics[table.columns[column][1]][2] === "higher";
  const old = table.order?.column === column ? table.order : null;
  table.order = !old ? { column, down: best } : old.down === best ? { column, down: !best } : null;
  for (const each of table.headings) each.setAttribute("aria-sort", "none");
  if (table.order) heading.setAttribute("aria-sort", table.order.down ? "descending" : "ascending");
  arrange(table);
  say(table.order ? `Sorted, ${table.order.down ? "largest" : "smallest"} first` : "In the table’s own order");
}

function filterTables() {
  for (const table of tables.values()) {
    if (!table.element) continue;
    const hidden = (c) => (view.task !== "" && table.columns[c][0] !== view.task) || (!view.gaps && table.missing[c]);
    const width = table.columns.length;
    const columns = table.columns.map((_, c) => hidden(c));
    table.cells.forEach((cell, place) => (cell.hidden = columns[place % width]));
    for (const row of table.element.tFoot?.rows || []) [...row.cells].slice(1).forEach((cell, c) => (cell.hidden = columns[c]));
    table.headings.slice(1).forEach((heading, c) => (heading.hidden = columns[c]));
    for (const heading of all("thead [data-task]", table.element))
      heading.hidden = columns[table.columns.findIndex(([task]) => task === heading.dataset.task)];
    const measured = (r) => table.columns.some((_, c) => !columns[c] && table.under[view.rule].cells[r * width + c]);
    table.rowElements.forEach((row, r) => {
      row.hidden = (view.method !== "" && table.rows[r].method !== view.method) || (!view.gaps && !measured(r));
    });
    const empty = columns.every(Boolean) || table.rowElements.every((row) => row.hidden);
    table.element.closest(".scroll").hidden = empty;
    const section = table.element.closest("section");
    section.hidden = empty && (view.task !== "" || view.method !== "");
    section.querySelector(".nothing").hidden = !empty;
    section.querySelector(".notes").hidden = empty;
    const current = table.element.querySelector("[tabindex='0']");
    if (!empty && (!current || current.hidden || current.parentElement.hidden))
      moveTo(table.element, table.cells.find((cell) => !cell.hidden && !cell.parentElement.hidden));
  }
}

// --- the dialog -------------------------------------------------------------------------------------------------------

function show(cell, title, ...content) {
  $("dialog-title").textContent = title;
  if (cell.id) {
    const address = `#${cell.id}${view.rule === D.rule ? "" : `~${view.rule}`}`;
    history.replaceState(null, "", address);
    content.push(el("p", {}, el("a", { href: address }, "Link to this cell")));
  }
  $("dialog-body").replaceChildren(...content.filter(Boolean));
  $("dialog").showModal();
  $("dialog").scrollTop = 0;
}

const list = (pairs) => el("dl", {}, pairs.filter(([, value]) => value !== "").map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

/** Where a run comes from, folded away. */
function provenance(run, summary) {
  const [series, seed, , , places, notes] = run;
  const [id, preset, apart] = D.series[series];
  const pairs = D.provenance.map((name, place) => [name, D.texts[places[place]]]);
  const settings = D.series[series][3].map((place) => D.settings[place].split("\t"));
  return el(
    "details", {},
    el("summary", {}, summary),
    list([
      ["Record", `runs/${id}-s${seed}.json`],
      ["Preset", preset],
      ["Apart from the recipe", apart.join(", ")],
      ...pairs,
      ...notes.map((place) => ["Note", D.texts[place]]),
    ]),
    el("details", {}, el("summary", {}, "All settings"), list(settings)),
  );
}

/** The accuracy of every group of a series, where these are few. */
function groups(series) {
  const place = RULES.indexOf(view.rule);
  const lines = D.series[series][6].filter((line) => line[5][place] !== null);
  return lines.length ? el("table", { class: "list" },
    el("thead", {}, el("tr", {}, ...["Group", "Accuracy", "Training images", "Test images"].map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...lines.map(([target, bias, aligned, train, test, under]) =>
      el("tr", {}, el("th", { scope: "row" }, `${target}, ${bias}${aligned === null ? "" : aligned ? " (aligned)" : " (conflicting)"}`),
        ...[two(under[place]), ...[train, test].map((count) => (count === null ? "–" : count.toLocaleString("en")))].map((number) => el("td", {}, number)))))) : null;
}

function describe(table, r, c, place) {
  const [task, metric] = table.columns[c];
  const tasks = [...new Set(table.columns.map(([each]) => each))];
  const row = table.rows[r];
  const cell = table.under[view.rule].cells[place];
  const paper = table.paper[place];
  const among = table.series[r * tasks.length + tasks.indexOf(task)];
  const runs = among.flatMap(runsOf);
  const own = table.epochs[place];
  const title = `${row.title}, ${D.tasks[task]}: ${D.metrics[metric][0]}`;
  const measured = cell && `${two(cell[0])}${cell[1] === null ? "" : ` ± ${(cell[1] / 10).toFixed(1)}`}`;
  const [, , , , , , difference, low, high, pairs] = cell || [];
  const tested =
    difference === undefined
      ? ""
      : `${signed(difference)}${low === null ? "" : ` (95 % interval ${signed(low)} to ${signed(high)})`}, ${seeds(pairs)}`;
  const facts = list([
    ["Table", table.heading + (table.modified ? `, ${table.modified}` : "")],
    ["Measured", cell ? `${measured}, ${seeds(cell[2])}${cell[4] ? `; ${cell[4]} collapsed` : WORDS[cell[3]] || ""}` : "nothing"],
    ["Published", paper === null ? "" : two(paper)],
    ["Measured less published", cell && paper !== null ? signed(cell[5]) : ""],
    [`Difference to ${table.first}`, tested],
    ["Epoch", metric === "bias_acc" ? "of the biased model, as the row says" : $("rule-note").textContent],
  ]);
  const listed = runs.map((run, at) => {
    const under = run[2][RULES.indexOf(view.rule)];
    const value = own ? own[at] : under && under[1 + FAIRNESS.indexOf(metric)];
    const where = among.length > 1 ? `${D.tasks[taskOf(run[0])]}, ` : "";
    const epoch = own ? "" : under ? `, epoch ${under[0]}${under[4] ? ", collapsed" : ""}` : ", which the rule cannot choose from";
    return provenance(run, `${where}Seed ${run[1]}: ${two(value ?? null) || "–"}${epoch}`);
  });
  const failures = table.failures[`${row.key}|${task}`] || [];
  const command = table.commands[tasks.indexOf(task)].replace("METHOD", () => row.asked);
  return [
    title, facts,
    among.length === 1 && !own ? groups(among[0]) : null,
    ...(table.errata[place] || []).map((note) => el("p", {}, el("b", {}, "Erratum. "), note)),
    ...failures.map((note) => el("p", {}, el("b", {}, "Failed. "), note)),
    ...listed,
    runs.length ? null : el("p", {}, "To measure it: ", el("code", { class: "command" }, command)),
  ];
}

// --- claims and best methods ------------------------------------------------------------------------------------------

const SYMBOLS = { holds: "✓", "does not hold": "✗", undecided: "?", "not measured": "·" };
const matrices = all("table.matrix").map((element) => {
  const claims = D.views[Number(element.dataset.view)].claims;
  const rows = claims.groups.flatMap((group) => group.rows);
  const cells = all("tbody tr:not(.group)", element).map((row) => [...row.cells].slice(1));
  cells.forEach((line, r) => line.forEach((cell, c) => details.set(cell, () => judged(claims, rows[r], c))));
  return { element, claims, rows, cells };
});

/** The verdict of a cell; only what another rule changes is stored under it. */
const verdictOf = ({ under }) => (view.rule in under ? under[view.rule] : under[D.rule]);

function judged(claims, claim, c) {
  const line = verdictOf(claim.cells[c]);
  const title = `Claim ${claim.number} on ${claims.tasks[c][1]}`;
  const about = [el("p", {}, claim.sentence), el("p", { class: "soft" }, `${claim.where}.`)];
  if (!line) return [title, ...about, el("p", {}, "Nothing is measured here, and the paper does not make the claim on this task.")];
  const facts = list([
    ["Verdict", `${line.kind}${line.n === 1 ? ", one seed: a hint" : ""}`],
    ["Where", line.own ? "The paper makes the claim on this task." : "The paper does not make the claim on this task."],
    ["Decided by", line.comparison],
    ["Measured", line.difference],
    ["95 % interval", line.interval],
    ["Seeds", line.n ? String(line.n) : ""],
    ["In the printed numbers", line.paper],
    ["Notes", line.note],
  ]);
  return [title, ...about, facts];
}

function fillClaims() {
  for (const { element, claims, rows, cells } of matrices) {
    cells.forEach((line, r) =>
      line.forEach((cell, c) => {
        const found = verdictOf(rows[r].cells[c]);
        const name = `${rows[r].sentence} ${claims.tasks[c][1]}: ${found ? `${found.kind}, ${seeds(found.n)}` : "not measured"}${found && !found.own ? ", not claimed there" : ""}`;
        const kind = found && `verdict ${found.kind.replaceAll(" ", "-")}${found.n === 1 ? " hint" : ""}${found.own ? "" : " elsewhere"}`;
        const seen = found ? el("span", { class: kind, "aria-hidden": "true" }, SYMBOLS[found.kind], found.n ? el("small", {}, String(found.n)) : "") : "";
        cell.replaceChildren(seen, el("span", { class: "unseen" }, name));
      }),
    );
    element.closest("details").querySelector(".counts").textContent = claims.counts[view.rule];
  }
}

function fillBest() {
  for (const element of all("table.winners")) {
    const lines = D.views[Number(element.dataset.view)].best;
    [...element.tBodies[0].rows].forEach((row, r) =>
      [...row.cells].slice(1).forEach((cell, c) => {
        const best = lines[r].under[view.rule][c];
        const soft = (content) => el("span", { class: "soft" }, content);
        cell.replaceChildren(
          ...(best
            ? [
                el("b", {}, best.title), ` ${best.mean}`, ...(best.interval ? [" ", soft(`(${best.interval})`)] : []), " ",
                soft(`n\u00a0=\u00a0${best.n}${best.average ? `, at an average of ${best.average}` : ""}`), el("br"), el("small", {}, best.lead + (best.informed ? `; ${best.informed}` : "")),
              ]
            : [soft("–")]),
        );
      }),
    );
  }
}

// --- charts -----------------------------------------------------------------------------------------------------------

/** Measured beside published: a panel for each measured column of the paper's tables, methods from top to bottom. */
function drawDumbbells() {
  const target = $("dumbbells");
  const width = Math.max(280, target.clientWidth || 600);
  const parts = [];
  for (const table of tables.values()) {
    if (table.preset !== view.preset || table.paper.every((value) => value === null)) continue;
    const columns = table.columns.map((column, c) => [...column, c]).filter(([, , c]) => !table.missing[c]);
    const single = new Set(columns.map(([, metric]) => metric)).size === 1;
    const groups = new Map();
    for (const column of columns) {
      const key = single ? "" : column[0];
      groups.set(key, [...(groups.get(key) || []), column]);
    }
    for (const [task, members] of groups) {
      const rows = table.rows.map((_, r) => r).filter((r) => members.some(([, , c]) => table.under[view.rule].cells[r * table.columns.length + c]));
      if (rows.length) parts.push(dumbbells(table, task, members, rows, width));
    }
  }
  target.replaceChildren(...(parts.length ? parts : [el("p", {}, "Nothing is measured under this rule.")]));
}

function dumbbells(table, task, columns, rows, width) {
  const names = rows.map((r) => table.rows[r].title);
  const left = Math.min(150, 12 + 6.6 * Math.max(...names.map((name) => name.length)));
  const across = Math.max(1, Math.min(columns.length, Math.floor((width - left) / 150)));
  const panel = (width - left) / across;
  const deltas = 40, step = 15, top = 20, low = 16;
  const height = top + step * rows.length + low;
  const lines = Math.ceil(columns.length / across);
  const heading = `${table.heading}, ${task ? D.tasks[task] : D.metrics[columns[0][1]][1]}`;
  const chart = svg("svg", {
    viewBox: `0 0 ${width} ${height * lines}`, width, height: height * lines, role: "img",
    "aria-label": `${heading}: measured and published numbers of ${rows.length} methods; the same stands in the table.`,
  });
  columns.forEach(([of, metric, c], place) => {
    const x0 = left + (place % across) * panel;
    const y0 = Math.floor(place / across) * height;
    const x = d3.scaleLinear([0, 100], [x0 + 6, x0 + panel - deltas]);
    const bottom = y0 + top + step * rows.length;
    const name = task ? D.metrics[metric][1] : D.tasks[of];
    const room = Math.floor((panel - 6) / 7);
    chart.append(text(x0 + 6, y0 + 12, name.length > room ? `${name.slice(0, room - 1)}…` : name, { class: "title" }));
    for (const tick of [0, 50, 100]) {
      chart.append(svg("path", { class: "rule", d: `M${x(tick)} ${y0 + top}V${bottom}` }));
      chart.append(text(x(tick), bottom + 11, tick, { class: "tick-label", "text-anchor": "middle" }));
    }
    rows.forEach((r, line) => {
      const y = y0 + top + step * (line + 0.5);
      if (place % across === 0) chart.append(text(x0 - 4, y + 4, names[line], { "text-anchor": "end" }));
      const cell = table.under[view.rule].cells[r * table.columns.length + c];
      const paper = table.paper[r * table.columns.length + c];
      const colour = ink(D.methods[table.rows[r].method]?.[2] || "#000000");
      if (cell && paper !== null) chart.append(svg("path", { class: "join", d: `M${x(cell[0] / 100)} ${y}H${x(paper / 100)}` }));
      if (paper !== null) chart.append(svg("path", { class: "tick", d: `M${x(paper / 100)} ${y - 5}V${y + 5}` }));
      if (!cell) return;
      const look = cell[2] === 1 ? { class: "dot hollow", stroke: colour } : { class: "dot", fill: colour };
      chart.append(svg("circle", { cx: x(cell[0] / 100), cy: y, r: 4, ...look }));
      if (cell[4]) chart.append(svg("path", { class: "cross", d: `M${x(cell[0] / 100) - 5} ${y - 5}l10 10m0 -10l-10 10` }));
      if (paper !== null) chart.append(text(x0 + panel - 4, y + 4, (cell[5] >= 0 ? "+" : "−") + (Math.abs(cell[5]) / 100).toFixed(1), { class: "soft", "text-anchor": "end" }));
    });
  });
  return el("figure", {}, el("figcaption", {}, heading), chart);
}

/** A chart of lines: each {name, colour, dash, points: [[x, mean, deviation]], published, single}. */
function lineChart({ title, x, y, log = false, logX = false, lines, marks = [], ticksX = null }) {
  const longest = Math.min(26, Math.max(8, ...lines.map((line) => line.name.length + 2)));
  const width = 400, height = 280, top = 26, right = 24 + 5.7 * longest, bottom = 36, left = 40;
  const sx = (logX ? d3.scaleLog : d3.scaleLinear)(x.domain, [left, width - right]);
  const sy = (log ? d3.scaleLog : d3.scaleLinear)(y, [height - bottom, top]).clamp(true);
  const chart = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${title}: ${lines.map((line) => `${line.name} ends at ${tell(line.points.at(-1)?.[1])}`).join("; ")}`,
  });
  chart.append(text(4, 14, title, { class: "title" }));
  const yTicks = log ? sy.ticks(4).filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6)) : sy.ticks(5);
  for (const tick of yTicks) {
    chart.append(svg("path", { class: "rule", d: `M${left} ${sy(tick)}H${width - right}` }));
    chart.append(text(left - 4, sy(tick) + 4, log ? +tick.toPrecision(1) : tick, { class: "tick-label", "text-anchor": "end" }));
  }
  for (const tick of ticksX || sx.ticks(6).filter(Number.isInteger))
    chart.append(text(sx(tick), height - bottom + 14, +tick.toPrecision(tick < 0.1 ? 2 : 3), { class: "tick-label", "text-anchor": "middle" }));
  chart.append(text((left + width - right) / 2, height - 6, x.title, { class: "tick-label", "text-anchor": "middle" }));
  const path = d3.line((point) => sx(point[0]), (point) => sy(point[1]));
  const floor = log ? y[0] : -Infinity;
  const band = d3.area().x((point) => sx(point[0]))
    .y0((point) => sy(Math.max(point[1] - point[2], floor))).y1((point) => sy(point[1] + point[2]))
    .defined((point) => point[2] !== null);
  const ends = [];
  for (const line of lines) {
    const colour = ink(line.colour);
    const measured = line.points.filter((point) => point[1] !== null);
    chart.append(svg("path", { class: "band", d: band(measured) || "", fill: colour }));
    chart.append(svg("path", { class: "line", d: path(measured) || "", stroke: colour, "stroke-dasharray": DASH[line.dash] }));
    if (line.dots || measured.length === 1)
      for (const [px, mean, , n] of measured)
        chart.append(svg("circle", { cx: sx(px), cy: sy(mean), r: 3.5, ...(n === 1 || line.single ? { class: "dot hollow", stroke: colour } : { class: "dot", fill: colour }) }));
    for (const [px, value] of line.published)
      chart.append(svg("path", { class: "tick", color: colour, d: `M${sx(px) + 2} ${sy(value)}h9` }));
    const last = measured.at(-1);
    if (last) ends.push({ y: sy(last[1]), from: sx(last[0]), name: line.name + (line.single ? " °" : ""), colour });
  }
  for (const [px, py, content] of marks) {
    chart.append(svg("path", { class: "tick", d: `M${sx(px) - 5} ${sy(py)}h10` }));
    chart.append(text(sx(px) + 7, sy(py) - 4, content, { class: "tick-label" }));
  }
  // Names stand at the ends of their lines, pushed apart where these lie close.
  const space = Math.min(12, (height - bottom - top + 10) / Math.max(ends.length, 1));
  ends.sort((a, b) => a.y - b.y);
  let free = top - 6;
  for (const end of ends) { end.at = Math.max(end.y, free); free = end.at + space; }
  let most = height - bottom + 8;
  for (const end of [...ends].reverse()) { end.at = Math.min(end.at, most); most = end.at - space; }
  for (const { at, y: there, from, name, colour } of ends) {
    const edge = width - right;
    if (from < edge - 1) chart.append(svg("path", { class: "short", stroke: colour, d: `M${from} ${there}H${edge + 12}` }));
    chart.append(svg("path", { class: "lead", stroke: colour, d: `M${edge + 12} ${there}L${edge + 18} ${at}` }));
    chart.append(text(edge + 20, at + 3.5, name.length > 26 ? `${name.slice(0, 25)}…` : name, { class: "name", fill: colour }));
  }
  return el("figure", {}, chart);
}
const tell = (value) => (value === null || value === undefined ? "nothing" : value >= 1 || value === 0 ? value.toFixed(1) : value.toPrecision(2));

// --- curves -----------------------------------------------------------------------------------------------------------

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const isLoss = (metric) => D.curves[metric][0].toLowerCase().includes("loss");

function decode(code, loss) {
  const values = [];
  for (let place = 0; place < code.length; place += 2) {
    const value = DIGITS.indexOf(code[place]) * 64 + DIGITS.indexOf(code[place + 1]);
    values.push(value === 4095 ? null : loss ? 10 ** (value / D.decade + D.least) : value / 10);
  }
  return values;
}

/** Points [epoch, mean, deviation] of a network's metric. */
function curve(series, network, metric) {
  const found = D.series[series][4].find(([each, which]) => each === network && which === metric);
  if (!found) return [];
  const mean = decode(found[2], isLoss(metric));
  const spread = found[3] ? decode(found[3], isLoss(metric)) : mean.map(() => null);
  return mean.map((value, place) => [place + 1, value, spread[place]]);
}

const WHAT = [[0, [0, 1, 2]], [1, [3, 4, 5]], [1, [6, 7]], [0, [3, 4, 5]]];
let chosen = new Set();
let offered = [];

const nameOfCurve = (metric) => D.curves[metric][0];
const hasCollapsed = (series) => runsOf(series).some((run) => [view.rule, "last"].some((rule) => (run[2][RULES.indexOf(rule)] || [])[4]));
const isRecipe = (series) => !D.series[series][2].length;

function offerTasks() {
  const tasks = [...new Set(D.series.map((each, s) => (each[1] === view.preset ? taskOf(s) : null)))].filter(Boolean);
  const count = (task) => D.series.filter((each, s) => each[1] === view.preset && taskOf(s) === task).length;
  tasks.sort((a, b) => count(b) - count(a));
  const old = $("curve-task").value;
  $("curve-task").replaceChildren(...tasks.map((task) => el("option", { value: task }, D.tasks[task] || task)));
  if (tasks.includes(old)) $("curve-task").value = old;
}

function offerLines() {
  const task = $("curve-task").value;
  offered = D.series.map((_, s) => s).filter((s) => D.series[s][1] === view.preset && taskOf(s) === task);
  const rank = (s) => [isRecipe(s) ? 0 : 1, METHODS.indexOf(methodOf(s))];
  offered.sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1] || nameOf(a).localeCompare(nameOf(b)));
  resetLines();
}

function resetLines() {
  const task = $("curve-task").value;
  const paper = D.tables.find((table) => table.preset === view.preset && table.columns.some(([each]) => each === task) && table.paper.some((value) => value !== null));
  const recipes = offered.filter(isRecipe);
  const own = recipes.length ? recipes : offered;
  const compared = paper ? own.filter((s) => paper.rows.some((row) => row.method === methodOf(s))) : [];
  chosen = new Set((compared.length ? compared : own).slice(0, 12));
  listLines();
  drawCurves();
}

function listLines() {
  $("curve-lines").replaceChildren(
    ...offered.map((s, place) => {
      const [, , colour, dash] = D.methods[methodOf(s)];
      const sample = svg("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" },
        svg("path", { class: "line", d: "M1 5H25", stroke: ink(colour), "stroke-dasharray": DASH[dash] }));
      const n = runsOf(s).length;
      const option = el("div", { role: "option", id: `curve-${s}`, "aria-selected": String(chosen.has(s)), "data-series": s },
        sample, el("span", {}, nameOf(s)), el("span", { class: "soft" }, n === 1 ? "one seed" : `n = ${n}`));
      if (place === 0) option.tabIndex = 0;
      return option;
    }),
  );
}

function toggle(option) {
  const series = Number(option.dataset.series);
  if (!chosen.delete(series)) chosen.add(series);
  option.setAttribute("aria-selected", String(chosen.has(series)));
  drawCurves();
}

$("curve-lines").addEventListener("click", (event) => {
  const option = event.target.closest("[role=option]");
  if (option) { roam(option); toggle(option); }
});
function roam(option) {
  for (const each of all("[tabindex]", $("curve-lines"))) each.removeAttribute("tabindex");
  option.tabIndex = 0;
  option.focus();
}
$("curve-lines").addEventListener("keydown", (event) => {
  const options = all("[role=option]", $("curve-lines"));
  const at = options.indexOf(event.target);
  const target = {
    ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: options.length - 1,
  }[event.key];
  if (target !== undefined) {
    event.preventDefault();
    roam(options[Math.min(Math.max(target, 0), options.length - 1)]);
  } else if (event.key === " " || event.key === "Enter") {
    event.preventDefault();
    toggle(event.target);
  }
});

/** Lines of a method have its colour; all but the first of it have other dashes. */
function looks(series) {
  const used = new Set();
  return series.map((s) => {
    const [, , colour, dash] = D.methods[methodOf(s)];
    const free = [dash, "-", "--", "-.", ":"].find((each) => !used.has(colour + each)) || dash;
    used.add(colour + free);
    return [colour, free];
  });
}

function drawCurves() {
  const [network, metrics] = WHAT[Number($("curve-what").value)];
  const series = offered.filter((s) => chosen.has(s));
  const styles = looks(series);
  series.forEach((s, place) => {
    const sample = $(`curve-${s}`).querySelector("path");
    if (DASH[styles[place][1]]) sample.setAttribute("stroke-dasharray", DASH[styles[place][1]]);
    else sample.removeAttribute("stroke-dasharray");
  });
  const charts = metrics.map((metric) => {
    const lines = series.map((s, place) => {
      const points = curve(s, network, metric);
      const printed = metric < 3 || network === 1 ? D.series[s][5][metric] : undefined; // Table 3 is of biased models
      const [colour, dash] = styles[place];
      return {
        name: `${nameOf(s)}${hasCollapsed(s) ? " §" : ""}`, colour, dash, points, single: runsOf(s).length === 1,
        published: printed === undefined || !points.length ? [] : [[points.length, printed]],
      };
    }).filter((line) => line.points.length);
    const longest = Math.max(2, ...lines.map((line) => line.points.length));
    for (const line of lines) line.published = line.published.map(([, value]) => [longest, value]);
    const log = isLoss(metric);
    const values = lines.flatMap((line) => line.points.map((point) => point[1])).filter((value) => value > 0);
    const most = metric === 2 ? Math.ceil(Math.max(10, ...values, ...lines.flatMap((line) => line.published.map((each) => each[1]))) / 10) * 10 : 100;
    const domain = log ? [Math.max(Math.min(...values, 1), 1e-6), Math.max(...values, 1)] : [0, most];
    return lines.length ? lineChart({ title: nameOfCurve(metric), x: { title: "epoch", domain: [1, longest] }, y: domain, log, lines }) : null;
  });
  $("curve-charts").replaceChildren(...charts.filter(Boolean), ...(charts.some(Boolean) ? [] : [el("p", {}, "Nothing is chosen, or it was not measured.")]));
  if ($("curve-numbers").open) tellCurves();
}

function tellCurves() {
  const [network, metrics] = WHAT[Number($("curve-what").value)];
  const series = offered.filter((s) => chosen.has(s));
  const there = [...new Set(series.flatMap((s) => curve(s, network, metrics[0]).flatMap((point, e) => (point[1] === null ? [] : [e + 1]))))].sort((a, b) => a - b);
  const epochs = [...new Set([0, 1, ...[0.25, 0.5, 0.75, 1].map((share) => Math.round(there.length * share) - 1)])].filter((i) => i in there).sort((a, b) => a - b).map((i) => there[i]);
  const rows = metrics.flatMap((metric) => series.map((s) => [nameOfCurve(metric), nameOf(s), curve(s, network, metric)]));
  $("curve-numbers").querySelector(".scroll").replaceChildren(
    el("table", { class: "list" },
      el("thead", {}, el("tr", {}, ...["Metric", "Method", ...epochs.map((e) => `epoch ${e}`)].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...rows.filter(([, , points]) => points.length).map(([metric, name, points]) =>
        el("tr", {}, el("td", {}, metric), el("th", { scope: "row" }, name), ...epochs.map((e) => el("td", {}, points[e - 1] ? tell(points[e - 1][1]) : "–")))))),
  );
}

// --- the paper's figures ----------------------------------------------------------------------------------------------

function offerFigures() {
  const own = D.figures.filter((figure) => figure.preset === view.preset);
  const old = $("figure").value;
  $("figure").replaceChildren(...own.map((figure) => el("option", { value: figure.id }, `${figure.heading}: ${figure.title} – ${figure.on}`)));
  if (own.some((figure) => figure.id === old)) $("figure").value = old;
  $("figure-form").hidden = !own.length;
}

function drawFigure() {
  const figure = D.figures.find((each) => each.id === $("figure").value);
  if (!figure) {
    $("figure-caption").textContent = "None of the paper’s figures is measured.";
    return $("figure-charts").replaceChildren();
  }
  $("figure-caption").replaceChildren(figure.captions[view.rule], ...(figure.command ? [" Some of its runs are missing: ", el("code", { class: "command" }, figure.command)] : []));
  const charts = figure.panels.map((panel) => (panel.curves ? epochs(panel) : sweep(panel)));
  $("figure-charts").replaceChildren(...charts.filter(Boolean));
}

function epochs(panel) {
  const lines = panel.curves.map(([series, network, metric, name, colour, dash]) => ({
    name, colour, dash, published: [], single: runsOf(series).length === 1, points: curve(series, network, metric),
  })).filter((line) => line.points.length);
  if (!lines.length) return null;
  const longest = Math.max(2, ...lines.map((line) => line.points.length));
  const loss = isLoss(panel.curves[0][2]);
  const most = Math.max(...lines.flatMap((line) => line.points.map((point) => point[1] || 0)));
  return lineChart({ title: panel.title, x: { title: panel.x, domain: [1, longest] }, y: loss ? [0, most] : [0, 100], lines, marks: panel.marks });
}

function sweep(panel) {
  const found = panel.sweeps[view.rule];
  const xs = [...new Set(found.flatMap(([, , , points]) => points.map((point) => point[0])))].sort((a, b) => a - b);
  if (!xs.length) return null;
  const lines = found.map(([name, colour, dash, points]) => ({
    name, colour, dash, points: points.map(([x, mean, spread, n]) => [x, mean, n > 1 ? spread : null, n]), dots: true,
    published: points.filter((point) => point[4] !== null).map((point) => [point[0], point[4]]),
  }));
  const domain = xs.length > 1 ? [xs[0], xs.at(-1)] : [xs[0] * 0.9, xs[0] * 1.1 + 1e-9];
  return lineChart({ title: panel.title, x: { title: panel.x, domain }, y: [0, 100], logX: panel.log && xs[0] > 0, lines, ticksX: xs });
}

// --- runs -------------------------------------------------------------------------------------------------------------

function listRuns() {
  const target = $("all-runs").querySelector(".scroll");
  if (!$("all-runs").open) return target.replaceChildren();
  const place = RULES.indexOf(view.rule);
  const runs = D.runs.filter(([s]) => D.series[s][1] === view.preset && (!view.task || taskOf(s) === view.task) && (!view.method || methodOf(s) === view.method));
  const head = ["Task", "Method and settings", "Seed", "Epoch", ...FAIRNESS.map((metric) => D.metrics[metric][1]), "Finished", "Commit"];
  const body = runs.map((run) => {
    const under = run[2][place];
    const [s, seed, , , places] = run;
    const task = D.tasks[taskOf(s)] || taskOf(s);
    const row = el("tr", {}, el("td", {}, task), el("td", {}, nameOf(s)), el("td", {}, String(seed)), el("td", {}, under ? `${under[0]}${under[4] ? ", collapsed" : ""}` : "–"),
      ...FAIRNESS.map((_, m) => el("td", {}, under ? two(under[1 + m]) || "–" : "–")), el("td", {}, D.texts[places[1]].slice(0, 10)), el("td", { class: "code" }, `${D.texts[places[0]].slice(0, 10)}${D.texts[places[11]] ? ", stale" : ""}`));
    const open = () => [`${nameOf(s)}, ${task}, seed ${seed}`, Object.assign(provenance(run, "Where it comes from"), { open: true })];
    for (const cell of row.cells) details.set(cell, open);
    return row;
  });
  const table = el("table", { class: "grid list", "aria-label": "Every run" },
    el("thead", {}, el("tr", {}, ...head.map((each) => el("th", { scope: "col" }, each)))), el("tbody", {}, ...body));
  asGrid(table);
  target.replaceChildren(table);
}

// --- what is shown ----------------------------------------------------------------------------------------------------

const say = (content) => ($("said").textContent = content);

function offerFilters() {
  const own = [...tables.values()].filter((table) => table.preset === view.preset);
  const tasks = [...new Set(own.flatMap((table) => table.columns.map(([task]) => task)))];
  const methods = [...new Set(own.flatMap((table) => table.rows.map((row) => row.method)))];
  const offer = (select, values, names) => {
    select.replaceChildren(el("option", { value: "" }, "all"), ...values.map((value) => el("option", { value }, names(value))));
  };
  offer($("task-filter"), tasks, (task) => D.tasks[task]);
  offer($("method-filter"), methods, (method) => D.methods[method]?.[0] || method);
  if (!tasks.includes(view.task)) view.task = "";
  if (!methods.includes(view.method)) view.method = "";
  $("task-filter").value = view.task;
  $("method-filter").value = view.method;
}

function showPreset() {
  $("preset").value = view.preset;
  for (const each of all("[data-preset]")) {
    each.hidden = each.dataset.preset !== view.preset;
    if (each.matches(".of-preset")) each.open = true;
  }
  $("preset-note").textContent = D.views.find((each) => each.preset === view.preset).note;
  $("state").classList.toggle("orientation", view.preset !== D.paper);
  offerFilters();
  filterTables();
  offerTasks();
  offerLines();
  offerFigures();
  showRule();
}

function showRule() {
  $("rule").value = view.rule;
  const option = D.rules[view.rule];
  $("rule-note").textContent = option;
  fillClaims();
  fillBest();
  fillTables();
  filterTables();
  drawDumbbells();
  drawCurves();
  drawFigure();
  listRuns();
}

/** Go to the cell that the address names, whatever hides it. */
function follow() {
  const [id, rule] = decodeURIComponent(location.hash.slice(1)).split("~");
  if (rule && RULES.includes(rule) && rule !== view.rule) { view.rule = rule; showRule(); }
  const cell = id && $(id);
  if (!cell || !cell.matches("td, tr")) return;
  const preset = cell.closest("[data-preset]")?.dataset.preset;
  if (preset && preset !== view.preset) { view.preset = preset; showPreset(); }
  if (!shown(cell)) {
    view.task = view.method = "";
    view.gaps = $("gaps").checked = true;
    offerFilters();
    filterTables();
  }
  const target = cell.matches("tr") ? cell.cells[1] || cell.cells[0] : cell;
  for (const old of all(".linked")) old.classList.remove("linked");
  target.classList.add("linked");
  moveTo(target.closest("table"), target);
  if ($("dialog").open) $("dialog").close();
  target.focus();
  target.scrollIntoView({ block: "center", inline: "nearest" });
}

for (const each of all("[data-drawn]")) each.hidden = false;
for (const form of ["view", "filters", "curve-form", "figure-form"]) {
  $(form).addEventListener("submit", (event) => event.preventDefault());
}
for (const table of all("table.grid")) asGrid(table);
$("preset").addEventListener("change", () => { view.preset = $("preset").value; showPreset(); say($("state").textContent); });
$("rule").addEventListener("change", () => { view.rule = $("rule").value; showRule(); say($("state").textContent); });
$("task-filter").addEventListener("change", () => { view.task = $("task-filter").value; filterTables(); listRuns(); });
$("method-filter").addEventListener("change", () => { view.method = $("method-filter").value; filterTables(); listRuns(); });
$("gaps").addEventListener("change", () => { view.gaps = $("gaps").checked; filterTables(); });
$("curve-task").addEventListener("change", offerLines);
$("curve-what").addEventListener("change", drawCurves);
$("curve-reset").addEventListener("click", resetLines);
$("curve-numbers").addEventListener("toggle", drawCurves);
$("figure").addEventListener("change", drawFigure);
$("all-runs").addEventListener("toggle", listRuns);
$("dialog").addEventListener("click", (event) => { if (event.target === $("dialog")) $("dialog").close(); });
addEventListener("hashchange", follow);
let drawnAt = innerWidth;
addEventListener("resize", () => { if (innerWidth !== drawnAt) { drawnAt = innerWidth; drawDumbbells(); } });
$("preset").closest("label").hidden = D.views.length < 2;
showPreset();
addEventListener("load", follow); // not before: the browser itself looks for the address then, and takes the focus away
