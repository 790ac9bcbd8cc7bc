"use strict";
// The page of benchmark/report/page.py: where a number comes from, and the curves of runs. All text is set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Provenance

const dialog = document.getElementById("provenance");

function list(pairs) {
  const filled = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "" && value.length !== 0);
  return make("dl", {}, ...filled.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

const written = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));
const settings = (values) => Object.entries(values).map(([key, value]) => `${key}=${written(value)}`).join(", ");

function record(number, value) {
  const { path, task, method, preset, seed, changes, provenance, warnings, settings: own } = data.records[number];
  const { commit, modified, device, threads, python, torch, benchmark, seconds, finished, data: images, data_notes, ...more } = provenance;
  const versions = Object.entries({ benchmark, python, torch }).filter(([, version]) => version);
  return make(
    "section",
    {},
    make("h3", {}, `Seed ${seed}${value ? `: ${value}` : ""}`),
    list([
      ["Run", `${method} on ${task}, ${preset} preset${changes.length ? `, ${changes.join(", ")}` : ""}`],
      ["Record", path],
      ["Commit", commit ? commit + (modified ? ", with changes that were not committed" : "") : "unknown"],
      ["Finished", finished],
      ["Took", seconds === undefined ? "" : `${seconds} s`],
      ["Device", device],
      ["Threads", threads],
      ["Versions", versions.map(([name, version]) => `${name} ${version}`).join(", ")],
      ["Data fingerprint", images],
      ["Data notes", (data_notes || []).join(" ")],
      ["Warnings", warnings.join(" ")],
      ...Object.entries(more).map(([name, each]) => [name.replaceAll("_", " "), written(each)]),
      ["Settings", settings(own)],
    ]),
  );
}

function show(title, ...content) {
  document.getElementById("provenance-title").textContent = title;
  document.getElementById("provenance-body").replaceChildren(...content);
  dialog.showModal(); // Escape closes it and gives the focus back
  dialog.scrollTop = 0;
}

function showCell(cell) {
  const summary = list([
    ["Measured", cell.measured || "not measured"],
    ["Paper", cell.paper],
    ["Difference", cell.delta],
    ["Known of the paper’s number", cell.errata.join(" ")],
    ["Failed", cell.failures.join(" ")],
  ]);
  const command = cell.command
    ? [make("p", {}, "To measure it:"), make("p", {}, make("code", { class: "command" }, cell.command))]
    : [];
  show(cell.title, summary, ...command, ...cell.records.map(([number, value]) => record(number, value)));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && "cell" in button.dataset) showCell(data.cells[button.dataset.cell]);
  if (button && "record" in button.dataset) {
    const { method, task } = data.records[button.dataset.record];
    show(`${method} on ${task}`, record(button.dataset.record, ""));
  }
  if (event.target === dialog) dialog.close(); // beside its content
});

// Curves

const TONES = 9;
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [360, 220, 40, 34, 8];
const chooser = document.getElementById("chooser");
const taskChoice = document.getElementById("curve-task");
const networkChoice = document.getElementById("curve-network");
const runBoxes = document.getElementById("curve-runs");

/** The runs of the chosen task, each with a colour by method and a dash by run. */
function choices() {
  const methods = [];
  const counts = new Map();
  return data.curves[taskChoice.value].runs.map((number) => {
    const { method, changes, seed } = data.records[number];
    if (!methods.includes(method)) methods.push(method);
    const order = counts.get(method) || 0;
    counts.set(method, order + 1);
    const name = `${method}${changes.length ? ` (${changes.join(", ")})` : ""}, seed ${seed}`;
    const tone = methods.indexOf(method);
    const dash = DASHES[(order + Math.floor(tone / TONES)) % DASHES.length]; // no colours left: dashes
    return { number, name, first: order === 0, tone: tone % TONES, dash };
  });
}

const stroke = ({ tone, dash }) => ({ class: `line tone-${tone}`, "stroke-dasharray": dash || "none" });

function offerRuns() {
  const boxes = choices().map((run) => {
    const box = make("input", { type: "checkbox", value: run.number });
    box.checked = run.first;
    const sample = draw("svg", { width: 28, height: 8, "aria-hidden": "true" });
    sample.append(draw("path", { d: "M0 4H28", "stroke-width": 2, ...stroke(run) }));
    return make("label", {}, box, sample, make("span", {}, run.name));
  });
  runBoxes.replaceChildren(...boxes);
  drawCurves();
}

function drawCurves() {
  const checked = new Set([...runBoxes.querySelectorAll("input:checked")].map((box) => Number(box.value)));
  const chosen = choices().filter(({ number }) => checked.has(number));
  const charts = Object.entries(data.metrics).flatMap(([metric, title]) => {
    const lines = chosen.flatMap((run) => {
      const values = values_of(data.records[run.number].curves, metric);
      return values ? [{ ...run, values }] : [];
    });
    return lines.length ? [chart(title, lines)] : [];
  });
  document.getElementById("curve-charts").replaceChildren(...charts);
  document.getElementById("curve-status").textContent = charts.length
    ? `${chosen.length} of ${runBoxes.children.length} runs drawn.`
    : "Choose a run to see its curves.";
}

/** A metric after each epoch. Only the tested network has test accuracies; one trained plainly is its own biased model. */
function values_of({ target, biased }, metric) {
  const network = networkChoice.value === "biased" ? biased || target : target;
  return (network && network[metric]) || (target && ["avg_acc", "worst_acc", "model_bias"].includes(metric) ? target[metric] : undefined);
}

/** The least of 1, 2 or 5 times a power of ten that divides the range into five ticks at most. */
function step(range) {
  const power = 10 ** Math.floor(Math.log10(range / 5));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => range / each <= 5);
}

function chart(title, lines) {
  const epochs = Math.max(...lines.map(({ values }) => values.length));
  const highest = Math.max(...lines.flatMap(({ values }) => values.filter((each) => each !== null)), 1e-3);
  const tick = title.includes("%") && highest > 50 ? 20 : step(highest);
  const top = tick * Math.ceil(highest / tick - 1e-9);
  const x = (epoch) => LEFT + ((WIDTH - LEFT - 8) * (epochs === 1 ? 0.5 : (epoch - 1) / (epochs - 1)));
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top;
  const last = lines.map(({ name, values }) => `${name} ${values.at(-1)}`).join("; ");
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} over ${epochs} epochs. At the end: ${last}` });
  for (let value = 0; value <= top + tick / 2; value += tick) {
    picture.append(
      draw("path", { class: "axis", d: `M${LEFT} ${y(value)}H${WIDTH - 8}` }),
      draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(3)))),
    );
  }
  const apart = Math.max(1, Math.round(step(Math.max(epochs, 5))));
  for (let epoch = apart === 1 ? 1 : apart; epoch <= epochs; epoch += apart) {
    picture.append(draw("text", { x: x(epoch), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, String(epoch)));
  }
  picture.append(draw("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, "epoch"));
  for (const line of lines) {
    const points = line.values.flatMap((value, index) => (value === null ? [] : [`${x(index + 1).toFixed(1)} ${y(value).toFixed(1)}`]));
    // A single point would be no line: it is drawn as a short one.
    const path = points.length === 1 ? `M${points[0]}h4` : `M${points.join("L")}`;
    picture.append(draw("path", { d: path, ...stroke(line) }, draw("title", {}, line.name)));
  }
  const numbers = make("details", {}, make("summary", {}, "As numbers"));
  numbers.addEventListener("toggle", () => numbers.children.length > 1 || numbers.append(table(title, lines, epochs)), { once: true });
  return make("section", { class: "chart" }, make("h3", {}, title), picture, numbers);
}

function table(title, lines, epochs) {
  const head = ["epoch", ...lines.map(({ name }) => name)].map((name) => make("th", { scope: "col" }, name));
  const rows = Array.from({ length: epochs }, (_, index) =>
    make("tr", {}, make("th", { scope: "row" }, String(index + 1)), ...lines.map(({ values }) => make("td", {}, String(values[index] ?? "–")))),
  );
  const whole = make("table", {}, make("caption", { class: "unseen" }, title), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title} as numbers` }, whole);
}

taskChoice.append(...data.curves.map(({ title }, index) => make("option", { value: index }, title)));
taskChoice.addEventListener("change", offerRuns);
networkChoice.addEventListener("change", drawCurves);
runBoxes.addEventListener("change", drawCurves);
chooser.addEventListener("submit", (event) => event.preventDefault());
chooser.addEventListener("click", (event) => {
  const which = event.target.dataset.choose;
  if (!which) return;
  const first = new Map(choices().map((run) => [run.number, run.first]));
  for (const box of runBoxes.querySelectorAll("input")) box.checked = which === "all" || (which === "one" && first.get(Number(box.value)));
  drawCurves();
});
if (data.curves.length) offerRuns();
