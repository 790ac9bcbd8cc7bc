"""Tables as pure functions of records and published numbers: tidy CSV, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from benchmark import quoting
from benchmark.compare import cells, published
from benchmark.compare.doubts import doubts
from benchmark.metrics import FAIRNESS, INVERTED, METRICS
from benchmark.plan.run import PAPER
from benchmark.plan.table import COMPARISONS, Row, Table
from benchmark.plan.uses import MARKS, WORDS
from benchmark.report.words import COLLAPSED, ONE_SEED
from benchmark.rules import LAST
from benchmark.store.atomic import write_atomically
from benchmark.store.record import Record
from benchmark.store.results import Results

LEGEND = (("*", "* uses them"), ("†", "† uses those of validation images"))
"""What footers say of the marks of methods with bias labels."""


def write(table: Table, results: Results, compare: str = COMPARISONS[0], said: Sequence[str] = ()) -> str:
    """Write tables/<stem>.csv, .md and .tex to the folder of results; returns the Markdown.

    ``compare`` puts the paper's numbers "beside" the measured ones, or "apart" in a table of their own. What is
    ``said`` stands before the other notes.
    """
    lines = cells.tidy(table, results)
    grid = Grid(table, lines, results)
    notes, commits = [*said, *footer(table, results), *grid.left_out()], commits_note(table, results)
    text = markdown(grid, [*notes, *commits], compare)
    folder, name = results.folder / "tables", results.name(table.stem)
    write_atomically(folder / f"{name}.csv", quoting.csv(lines))
    write_atomically(folder / f"{name}.md", text)
    write_atomically(folder / f"{name}.tex", latex(grid, notes, commits, compare))
    return text


def seeds(numbers: Iterable[int]) -> str:
    """How many seeds there are, such as "1 to 3", of what was measured; ``numbers`` are those of each."""
    counts = set(numbers) - {0} or {0}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def seeds_of(table: Table, results: Results) -> str:
    """How many seeds the cells of a table have; of numbers of the test, only those that the rule can be applied to."""
    of_test = bool({*table.metrics} & {*FAIRNESS})
    return seeds(
        sum(record.epoch(results.rule) is not None or not of_test for record in results.cell(table, row, task).records)
        for task in table.tasks
        for row in table.rows
    )


def footer(table: Table, results: Results, whole: bool = True) -> list[str]:
    """What a reader must know of the numbers: seeds, spread, selection, and why cells are empty.

    Without ``whole`` not what can be said once of many tables: the marks.
    """
    marks = "".join(results.mark(row.method) for row in table.rows)
    of_bias = [text for mark, text in LEGEND if mark in marks]
    fairness = f", among methods without bias labels ({', '.join(of_bias)})" if of_bias else ""
    empty = [results.task_title(task) for task in table.tasks if not results.measured(table, task)]
    return [
        f"Percent; {_seeds_note(table, results, marked=whole)}; selection: {selection(table, results)}.",
        *_unselected_note(table, results),
        *([f"Best in bold, second underlined{fairness}."] if whole else []),
        *(["‡ trains on validation images, without their bias labels."] if "‡" in marks and whole else []),
        *caveats(table, results),
        *([f"Left out, without records: {'; '.join(empty)}."] if empty else []),
        *(f"Failed: {failure}" for failure in failures(table, results)),
    ]


def provenance(table: Table, results: Results) -> list[str]:
    """What a reader must know of the records: ``caveats``, and the commits of their code."""
    return [*caveats(table, results), *commits_note(table, results)]


def caveats(table: Table, results: Results) -> list[str]:
    """What a reader must know of the records: which collapsed, their preset and data, and how old their code is."""
    found = results.records_of(table, table.tasks)
    return [
        *_collapsed_note(found, table, results),
        *_preset_note(table),
        *_data_notes(table, results),
        *_precision_note(found),
        *doubts(found, results),
    ]


def commits_note(table: Table, results: Results) -> list[str]:
    """The commits of the code that measured the table's records; nothing without records."""
    commits = sorted({record.provenance.short_commit for record in results.records_of(table, table.tasks)})
    return [f"Commit {', '.join(commits)}."] if commits else []


def selection(table: Table, results: Results) -> str:
    """Which epoch the table's numbers are of: Bias Accuracy follows no rule."""
    if not {*table.metrics} & {*FAIRNESS}:
        return LAST.note
    apart = results.rule is not LAST and "bias_acc" in table.metrics
    return results.rule.note + (f"; Bias Acc. of the {LAST.title}" if apart else "")


def _unselected_note(table: Table, results: Results) -> Iterator[str]:
    """Why runs that there are have no number under the rule, each reason once."""
    if not set(table.metrics) & set(FAIRNESS):
        return
    reasons: dict[tuple[str, str], int] = {}
    for task in table.tasks:
        for record in results.records_of(table, [task]):
            if reason := record.why_not(results.rule):
                reasons[task, reason] = reasons.get((task, reason), 0) + 1
    for (task, reason), count in reasons.items():
        runs = "1 run" if count == 1 else f"{count} runs"
        yield f"{results.task_title(task)}: {runs} cannot be selected so, since {reason}."


def _collapsed_note(found: Sequence[Record], table: Table, results: Results) -> list[str]:
    if "avg_acc" not in table.metrics or not any(record.collapsed(results.rule) for record in found):
        return []
    return [
        f"{COLLAPSED} collapsed: some or all of its runs are at chance, with one answer for everything, or with the "
        f"bias turned round (conflicting groups answered {INVERTED:.0f} points better than aligned ones); never the "
        "best."
    ]


def _seeds_note(table: Table, results: Results, marked: bool) -> str:
    """How many seeds, and where single ones are ``marked`` in the cells, by what."""
    n = seeds_of(table, results)
    if n == "0":
        return "no records yet"
    if n == "1":
        return f"n = 1 ({ONE_SEED} one seed)" if marked else "n = 1"
    alone = f"; {ONE_SEED} one seed" if marked and n.startswith("1 ") else ""
    return f"n = {n}, mean ± sample standard deviation (ddof 1) over seeds{alone}"


def _preset_note(table: Table) -> list[str]:
    if table.preset == PAPER:
        return []
    beside = "; the paper's numbers are for orientation, not for comparison" if published.prints(table.name) else ""
    return [f"Measured in the {table.preset} preset{beside}."]


def _data_notes(table: Table, results: Results) -> Iterator[str]:
    """What the records say of their data, such as that a part is missing, each note once."""
    titles: dict[str, list[str]] = {}
    for task in table.tasks:
        notes = [note for record in results.records_of(table, [task]) for note in record.provenance.data_notes]
        for note in dict.fromkeys(notes):
            titles.setdefault(note, []).append(results.task_title(task))
    for note, concerned in titles.items():
        yield f"{'; '.join(concerned)}: {note}"


def _precision_note(found: Sequence[Record]) -> list[str]:
    """How many of the shown runs computed in less than float32, which depends on the device."""
    lower = {record.run.id: record.provenance.precision for record in found}
    count = sum(each == "bfloat16" for each in lower.values())
    return [f"{count} of these {len(lower)} runs computed in bfloat16."] if count else []


def failures(table: Table, results: Results) -> Iterator[str]:
    """The table's failed runs, each with its reason."""
    for task in table.tasks:
        for row in table.rows:
            yield from failures_of(table, row, task, results)


def failures_of(table: Table, row: Row, task: str, results: Results) -> Iterator[str]:
    """Those of a row on a task; a row of changed settings is named."""
    which = f"{task}/{row.method} ({results.row_title(row)})" if row.overrides else f"{task}/{row.method}"
    for seed, reason in sorted(results.cell(table, row, task).failures.items()):
        yield f"{which} seed {seed}: {reason}"


def row_title(row: Row, results: Results) -> str:
    """The row's title, with the marks of what its method uses."""
    return results.row_title(row) + results.mark(row.method)


class Grid:
    """The table's cells, looked up by (row, task, metric) and formatted with the caller's marks."""

    def __init__(self, table: Table, lines: pd.DataFrame, results: Results) -> None:
        self.table = table
        self.results = results
        shown = cells.shown(lines, results).set_index(["method", "task", "metric"])
        values: list[dict[Any, float]] = [shown[name].to_dict() for name in ("mean", "std", "n", "collapsed", "paper")]
        self._mean, self._std, self._n, self._collapsed, self._paper = values
        self._rank = cells.ranks(table, lines, results)
        known = {key[0] for each in (self._mean, self._paper) for key, value in each.items() if not pd.isna(value)}
        failed = {row.key for row in table.rows for task in table.tasks if results.cell(table, row, task).failures}
        self._empty = [row for row in table.rows if known and row.key not in known | failed]
        self.titles = {row.key: row_title(row, results) for row in table.rows if row not in self._empty}

    def number(self, key: Key, marks: Sequence[str], gap: str) -> str:
        """The mean, as the best or second in ``marks``, with what is to be known of its seeds behind it."""
        if pd.isna(self._mean[key]):
            return gap
        text = f"{self._mean[key]:.2f}"
        if key in self._rank:
            text = marks[self._rank[key]].format(text)
        return text + ONE_SEED * (self._n[key] == 1) + COLLAPSED * bool(self._collapsed[key])

    def spread(self, key: Key) -> str:
        """The standard deviation over seeds, empty for one seed."""
        return "" if pd.isna(self._std[key]) else f"{self._std[key]:.1f}"

    def columns(self, values: str) -> list[tuple[str, str]]:
        """The (task, metric) that have any value in "measured" or "paper"."""
        source = self._mean if values == "measured" else self._paper
        return list(dict.fromkeys((task, metric) for (_, task, metric), value in source.items() if not pd.isna(value)))

    def marks(self) -> list[str]:
        """What the marks of methods mean."""
        found = "".join(self.titles.values())
        return [f"{mark} uses {WORDS[use]}." for use, mark in MARKS.items() if mark in found]

    def left_out(self) -> Iterator[str]:
        """Which rows have neither a number, measured or published, nor a failed run; which metrics have no column."""
        if self._empty:
            yield f"Left out, without records: {'; '.join(row_title(row, self.results) for row in self._empty)}."
        shown = self.columns("measured")
        measured = {task for task, _ in shown}
        for metric in self.table.metrics:
            lacking = [task for task in self.table.columns if task in measured and (task, metric) not in shown]
            if lacking:
                titles = "; ".join(map(self.results.task_title, lacking))
                yield f"Left out, since it cannot be measured there: {METRICS[metric].head} on {titles}."

    def paper(self, key: Key, gap: str) -> str:
        return gap if pd.isna(self._paper[key]) else f"{self._paper[key]:.2f}"


def markdown(grid: Grid, notes: Sequence[str], compare: str = COMPARISONS[0]) -> str:
    """A section per measured task with each metric; one grid for a single metric."""
    table = grid.table
    parts = [f"# {quoting.markdown(table.full_title)}"]
    if compare == "beside":
        parts += _sections(grid, "measured", _beside)
    else:
        parts += _sections(grid, "measured", _measured)
        parts += ["# As published", *_sections(grid, "paper", _published)]
    return "\n\n".join((*parts, "\n".join(f"- {quoting.markdown(note)}" for note in notes))) + "\n"


Columns = Sequence[tuple[str, str, str]]
"""(task, metric, heading) of each column."""
Key = tuple[str, str, str]
"""(row, task, metric) of a cell."""


def _sections(grid: Grid, values: str, section: Callable[[Grid, Columns], str]) -> Iterator[str]:
    """Headings and grids of the tasks that have any of the values."""
    metrics, title = grid.table.metrics, grid.results.task_title
    columns = grid.columns(values)
    tasks = list(dict.fromkeys(task for task, _ in columns))
    if len(metrics) == 1:
        if tasks:
            arrow = METRICS[metrics[0]].arrow
            yield section(grid, [(task, metrics[0], f"{quoting.markdown(title(task))} {arrow}") for task in tasks])
        return
    for task in tasks:
        yield f"## {quoting.markdown(title(task))}"
        yield section(
            grid, [(task, metric, METRICS[metric].heading) for metric in metrics if (task, metric) in columns]
        )


def _beside(grid: Grid, columns: Columns) -> str:
    """Measured columns, each followed by the paper's where it has any."""
    published_too = grid.columns("paper")
    head, body = ["Method"], [[quoting.markdown(title)] for title in grid.titles.values()]
    for task, metric, heading in columns:
        head += [heading, "paper"] if (task, metric) in published_too else [heading]
        for key, line in zip(grid.titles, body, strict=True):
            line.append(_markdown_cell(grid, (key, task, metric)))
            if (task, metric) in published_too:
                line.append(grid.paper((key, task, metric), "–"))
    return quoting.grid(body, head)


def _measured(grid: Grid, columns: Columns) -> str:
    return _plain(grid, columns, lambda key: _markdown_cell(grid, key))


def _published(grid: Grid, columns: Columns) -> str:
    return _plain(grid, columns, lambda key: grid.paper(key, "–"))


def _plain(grid: Grid, columns: Columns, cell: Callable[[Key], str]) -> str:
    body = [
        [quoting.markdown(title), *(cell((key, task, metric)) for task, metric, _ in columns)]
        for key, title in grid.titles.items()
    ]
    return quoting.grid(body, ["Method", *(heading for *_, heading in columns)])


def _markdown_cell(grid: Grid, key: Key) -> str:
    spread = grid.spread(key)
    return grid.number(key, ("**{}**", "<ins>{}</ins>"), "–") + (f" ± {spread}" if spread else "")


# In points: the width of a column of a paper's two, and of both; of a character of the 7 points that tables are set in,
# and of the gap between columns. Nothing is scaled: what is too wide gets further lines instead.
COLUMN, PAGE = 241, 505
CHARACTER, GAP = 4.0, 5.0


def latex(grid: Grid, notes: Sequence[str], commits: Sequence[str] = (), compare: str = COMPARISONS[0]) -> str:
    """A booktabs table in the paper's arrangement: tasks as column groups, bold for the best, * for bias labels.

    Only columns that have numbers are there. The paper's numbers stand under each row, or in a second table below,
    where it has any; standard deviations beside the means, or under them where the page is too narrow for that.
    """
    table = grid.table
    title = table.title + (f" ({table.modified})" if table.modified else "")
    own, printed = (_Latex(grid, grid.columns(values)) for values in ("measured", "paper"))
    parts = [*(f"% {note}" for note in commits), r"% Needs \usepackage{booktabs} and LaTeX of 2020 or later."]
    if not own.columns:
        unmeasured = "Nothing is measured yet."
        alone = [f"Percent, as published. {unmeasured}", *grid.marks()]
        parts.append(printed.table(title, alone, [printed.published_alone]) if printed.columns else f"% {unmeasured}")
    elif compare == "beside":
        parts.append(own.table(title, notes, [own.measured, own.spreads_below, own.published_below]))
    else:
        parts.append(own.table(title, notes, [own.measured, own.spreads_below]))
        if printed.columns:
            parts.append(printed.table(f"{table.title}, as published", grid.marks(), [printed.published_alone]))
    return "\n".join((*parts, ""))


class _Latex:
    """A table of some columns: the lines of its rows, and the frame around them."""

    def __init__(self, grid: Grid, columns: Sequence[tuple[str, str]]) -> None:
        self.grid, self.columns = grid, columns
        self.tasks = list(dict.fromkeys(task for task, _ in columns))
        self.beside = self._width(beside=True) <= PAGE

    def _width(self, *, beside: bool) -> float:
        """About how wide the table is, in points, with standard deviations beside the means or without."""
        grid, width = self.grid, CHARACTER * (1 + max(map(len, self.grid.titles.values())))
        for task in self.tasks:
            under_it = sum(self._column(column, beside=beside) for column in self.columns if column[0] == task)
            width += max(under_it, CHARACTER * max(map(len, _lines(grid.results.task_title(task)))) + GAP)
        return width

    def _column(self, column: tuple[str, str], *, beside: bool) -> float:
        cells = [METRICS[column[1]].head + "↑"] if len(self.grid.table.metrics) > 1 else []
        for key in self.grid.titles:
            spread = self.grid.spread((key, *column)) if beside else ""
            cells.append(self.grid.number((key, *column), ("{}", "{}"), "--") + (f"± {spread}" if spread else ""))
        return CHARACTER * max(map(len, cells)) + GAP

    def measured(self, key: str) -> str:
        cells = []
        for column in self.columns:
            spread = self.grid.spread((key, *column)) if self.beside else ""
            number = self.grid.number((key, *column), (r"\textbf{{{}}}", r"\underline{{{}}}"), "--")
            for mark in (ONE_SEED, COLLAPSED):
                number = number.replace(mark, quoting.latex(mark))
            cells.append(number + (rf"\,$\pm$\,{spread}" if spread else ""))
        return _row(quoting.latex(self.grid.titles[key]), cells)

    def spreads_below(self, key: str) -> str:
        spreads = [self.grid.spread((key, *column)) for column in self.columns]
        return _row(r"\quad$\pm$", spreads) if any(spreads) and not self.beside else ""

    def published_below(self, key: str) -> str:
        printed = [self.grid.paper((key, *column), "") for column in self.columns]
        cells = [rf"\textit{{{each}}}" if each else "" for each in printed]
        return _row(r"\quad\textit{paper}", cells) if any(printed) else ""

    def published_alone(self, key: str) -> str:
        cells = [self.grid.paper((key, *column), "--") for column in self.columns]
        return _row(quoting.latex(self.grid.titles[key]), cells)

    def _head(self) -> list[str]:
        """Tasks over their metrics; of a single metric it stands where the methods are named."""
        names = [_stacked(self.grid.results.task_title(task)) for task in self.tasks]
        arrows = {"lower": r"$\downarrow$", "higher": r"$\uparrow$", None: ""}
        if len(self.grid.table.metrics) == 1:
            metric = METRICS[self.grid.table.metrics[0]]
            return [_row(metric.head + arrows[metric.better], [rf"\multicolumn{{1}}{{c}}{{{name}}}" for name in names])]
        widths = [sum(column[0] == task for column in self.columns) for task in self.tasks]
        tops = [rf"\multicolumn{{{width}}}{{c}}{{{name}}}" for width, name in zip(widths, names, strict=True)]
        ends = [1 + sum(widths[: place + 1]) for place in range(len(widths))]
        rules = [rf"\cmidrule(lr){{{end - width + 1}-{end}}}" for end, width in zip(ends, widths, strict=True)]
        heads = [METRICS[metric].head + arrows[METRICS[metric].better] for _, metric in self.columns]
        return [_row("", tops), "".join(rules), _row("Method", heads)]

    def table(self, title: str, notes: Sequence[str], lines: Sequence[Callable[[str], str]]) -> str:
        """The frame around the ``lines`` of every row, notes below it; methods with bias labels stand apart."""
        grid = self.grid
        apart = grid.results.use_bias_labels
        groups = ([key for key in grid.titles if key not in apart], [key for key in grid.titles if key in apart])
        body: list[str] = []
        for group in filter(None, groups):
            body += [r"\midrule", *(text for key in group for line in lines if (text := line(key)))]
        environment = "table" if self._width(beside=self.beside) <= COLUMN else "table*"
        below = rf"\par\smallskip\parbox{{\linewidth}}{{{quoting.latex(' '.join(notes))}}}"
        return "\n".join(
            (
                rf"\begin{{{environment}}}\centering",
                r"\fontsize{7}{8.4}\selectfont\setlength{\tabcolsep}{2.5pt}",
                rf"\caption{{{quoting.latex(title)}.}}",
                rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
                r"\toprule",
                *self._head(),
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                *([below] if notes else []),
                rf"\end{{{environment}}}",
            )
        )


def _row(first: str, cells: Sequence[str]) -> str:
    return " & ".join((first, *cells)) + r" \\"


def _lines(title: str) -> list[str]:
    """A heading in lines, of which "CelebA, big nose" and "C-MNIST¹ (ρ = 0.99)" have two."""
    return re.split(r"(?<=,) | (?=\()", title)


def _stacked(title: str) -> str:
    lines = list(map(quoting.latex, _lines(title)))
    return lines[0] if len(lines) == 1 else r"\shortstack{" + r" \\ ".join(lines) + "}"
