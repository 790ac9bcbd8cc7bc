"""Tables as pure functions of records and published numbers: tidy CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from benchmark import quoting
from benchmark.compare import cells, published
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.run import PAPER
from benchmark.plan.table import COMPARISONS, Row, Table
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
    notes = [*said, *footer(table, results)]
    text = markdown(grid, notes, compare)
    folder, name = results.folder / "tables", results.name(table.stem)
    write_atomically(folder / f"{name}.csv", quoting.csv(lines))
    write_atomically(folder / f"{name}.md", text)
    write_atomically(folder / f"{name}.tex", latex(grid, notes, compare))
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
    """What a reader must know of the numbers: seeds, spread, selection, commits, and why cells are empty.

    Without ``whole`` not what can be said once of many tables: marks and commits.
    """
    marks = "".join(results.mark(row.method) for row in table.rows)
    of_bias = [text for mark, text in LEGEND if mark in marks]
    fairness = f", among methods without bias labels ({', '.join(of_bias)})" if of_bias else ""
    empty = [task for task in table.tasks if not results.measured(table, task)]
    return [
        f"Percent; {_seeds_note(table, results)}; selection: {selection(table, results)}.",
        *_unselected_note(table, results),
        *([f"Best in bold, second underlined{fairness}."] if whole else []),
        *(["‡ trains on validation images, without their bias labels."] if "‡" in marks and whole else []),
        *provenance(table, results, commits=whole),
        *([f"Without records: {', '.join(empty)}."] if empty else []),
        *(f"Failed: {failure}" for failure in failures(table, results)),
    ]


def provenance(table: Table, results: Results, commits: bool = True) -> list[str]:
    """What a reader must know of the records: which collapsed, their preset, data and code."""
    found = results.records_of(table, table.tasks)
    sources = sorted({record.provenance.short_commit for record in found}) if commits else []
    return [
        *_collapsed_note(found, table, results),
        *_preset_note(table),
        *_data_notes(table, results),
        *_stale_note(found),
        *([f"Commit {', '.join(sources)}."] if sources else []),
    ]


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
    return ["Collapsed: some or all of its runs are at chance or with one answer for everything; never the best."]


def _seeds_note(table: Table, results: Results) -> str:
    n = seeds_of(table, results)
    if n == "0":
        return "no records yet"
    if n == "1":
        return "n = 1"
    alone = "; numbers without ± are of one" if n.startswith("1 ") else ""
    return f"n = {n}, mean ± sample standard deviation (ddof 1) over seeds{alone}"


def _preset_note(table: Table) -> list[str]:
    if table.preset == PAPER:
        return []
    beside = "; the paper's numbers are for orientation, not for comparison" if published.prints(table.name) else ""
    return [f"Measured in the {table.preset} preset{beside}."]


def _data_notes(table: Table, results: Results) -> Iterator[str]:
    """What the records say of their data, such as that a part is missing or was changed, each note once."""
    titles: dict[str, list[str]] = {}
    for task in table.tasks:
        sources = [record.provenance for record in results.records_of(table, [task])]
        notes = [note for source in sources for note in source.data_notes]
        if len({source.data for source in sources}) > 1:
            notes.append(
                "THESE RECORDS ARE OF DIFFERENT DATA. Its images were changed between the runs, or read by other "
                f"versions; remove the older records from runs/{task} and train them anew."
            )
        for note in dict.fromkeys(notes):
            titles.setdefault(note, []).append(results.task_title(task))
    for note, concerned in titles.items():
        yield f"{'; '.join(concerned)}: {note}"


def _stale_note(found: Sequence[Record]) -> list[str]:
    """How many of the shown runs were measured by code that has changed since."""
    stale = {record.run.id: record.stale for record in found if record.stale}
    if not stale:
        return []
    reasons = "; ".join(sorted(set(stale.values())))
    return [f"STALE: {len(stale)} of these runs were measured by older code ({reasons}); --again trains them anew."]


def failures(table: Table, results: Results) -> Iterator[str]:
    """The table's failed runs, each with its reason."""
    for task in table.tasks:
        for row in table.rows:
            for seed, reason in sorted(results.cell(table, row, task).failures.items()):
                yield f"{task}/{row.method} seed {seed}: {reason}"


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
        self.titles = {row.key: row_title(row, results) for row in table.rows}
        self.compared = not lines.paper.isna().all()

    def measured(self, key: Key, marks: Sequence[str], plus_minus: str, gap: str) -> str:
        mean, std = self._mean[key], self._std[key]
        if pd.isna(mean):
            return gap
        spread = "" if pd.isna(std) else plus_minus.format(f"{std:.1f}")
        text = f"{mean:.2f}"
        if self._collapsed[key]:
            return f"{text}{spread} (collapsed)"
        if key not in self._rank:
            return text + spread
        # A single run that is ahead of means over several may be so by luck.
        alone = self._n[key] == 1 and any(n > 1 for other, n in self._n.items() if other[1:] == key[1:])
        return marks[self._rank[key]].format(text) + spread + (" (n = 1)" if alone else "")

    def paper(self, key: Key, gap: str) -> str:
        return gap if pd.isna(self._paper[key]) else f"{self._paper[key]:.2f}"

    def tasks(self, values: str) -> list[str]:
        """The tasks that have any value in "measured" or "paper"."""
        source = self._mean if values == "measured" else self._paper
        return list(dict.fromkeys(task for (_, task, _), value in source.items() if not pd.isna(value)))


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
    tasks, metrics, title = grid.tasks(values), grid.table.metrics, grid.results.task_title
    if len(metrics) == 1:
        if tasks:
            arrow = METRICS[metrics[0]].arrow
            yield section(grid, [(task, metrics[0], f"{quoting.markdown(title(task))} {arrow}") for task in tasks])
        return
    for task in tasks:
        yield f"## {quoting.markdown(title(task))}"
        yield section(grid, [(task, metric, METRICS[metric].heading) for metric in metrics])


def _beside(grid: Grid, columns: Columns) -> str:
    """Measured columns, each followed by the paper's where it has any."""
    published_tasks = grid.tasks("paper")
    head, body = ["Method"], [[quoting.markdown(title)] for title in grid.titles.values()]
    for task, metric, heading in columns:
        head += [heading, "paper"] if task in published_tasks else [heading]
        for key, line in zip(grid.titles, body, strict=True):
            line.append(_markdown_cell(grid, (key, task, metric)))
            if task in published_tasks:
                line.append(grid.paper((key, task, metric), "–"))
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def _measured(grid: Grid, columns: Columns) -> str:
    return _plain(grid, columns, lambda key: _markdown_cell(grid, key))


def _published(grid: Grid, columns: Columns) -> str:
    return _plain(grid, columns, lambda key: grid.paper(key, "–"))


def _plain(grid: Grid, columns: Columns, cell: Callable[[Key], str]) -> str:
    body = [
        [quoting.markdown(title), *(cell((key, task, metric)) for task, metric, _ in columns)]
        for key, title in grid.titles.items()
    ]
    return tabulate(body, ["Method", *(heading for *_, heading in columns)], tablefmt="github", disable_numparse=True)


def _markdown_cell(grid: Grid, key: Key) -> str:
    return grid.measured(key, ("**{}**", "<u>{}</u>"), " ± {}", "–")


def latex(grid: Grid, notes: Sequence[str], compare: str = COMPARISONS[0]) -> str:
    """A booktabs table in the paper's arrangement: tasks as column groups, bold for the best, * for bias labels.

    The paper's numbers stand under each row, or in a second table below, where it has any.
    """
    table = grid.table
    columns = [(task, metric) for task in table.columns for metric in table.metrics]

    def measured(key: str) -> str:
        marks = (r"\textbf{{{}}}", r"\underline{{{}}}")
        numbers = (grid.measured((key, *column), marks, r"{{\tiny\,±{}}}", "--") for column in columns)
        return " & ".join((quoting.latex(grid.titles[key]), *numbers)) + r" \\"

    def printed(key: str) -> list[str]:
        return [grid.paper((key, *column), "--") for column in columns]

    def printed_below(key: str) -> str:
        return " & ".join((r"\quad\textit{paper}", *(rf"\textit{{{each}}}" for each in printed(key)))) + r" \\"

    def printed_alone(key: str) -> str:
        return " & ".join((quoting.latex(grid.titles[key]), *printed(key))) + r" \\"

    caption = " ".join((f"{table.title}" + (f" ({table.modified})." if table.modified else "."), *notes))
    if not grid.compared:
        tables = [_latex_table(grid, caption, [measured])]
    elif compare == "beside":
        tables = [_latex_table(grid, caption, [measured, printed_below])]
    else:
        tables = [
            _latex_table(grid, caption, [measured]),
            _latex_table(grid, f"{table.title}, as published.", [printed_alone]),
        ]
    return "\n".join((r"% Needs \usepackage{booktabs,graphicx}.", *tables, "")).replace("±", r"$\pm$")


def _latex_table(grid: Grid, caption: str, lines: Sequence[Callable[[str], str]]) -> str:
    """The frame around the ``lines`` of every row; methods with bias labels stand apart."""
    table, body = grid.table, []
    apart = grid.results.use_bias_labels
    groups = ([key for key in grid.titles if key not in apart], [key for key in grid.titles if key in apart])
    for number, group in enumerate(each for each in groups if each):
        body += [r"\midrule"] * (number > 0)
        body += [line(key) for key in group for line in lines]
    width = len(table.metrics)
    titles = (quoting.latex(grid.results.task_title(task)) for task in table.columns)
    tops = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{title}}}" for title in titles)
    rules = "".join(
        rf"\cmidrule(lr){{{2 + width * index}-{1 + width * (index + 1)}}}" for index in range(len(table.columns))
    )
    arrows = {"lower": r" $\downarrow$", "higher": r" $\uparrow$", None: ""}
    heads = " & ".join(
        METRICS[metric].head + arrows[METRICS[metric].better] for _ in table.columns for metric in table.metrics
    )
    return "\n".join(
        (
            r"\begin{table*}\centering",
            rf"\caption{{{quoting.latex(caption)}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * width * len(table.columns)}}}",
            r"\toprule",
            rf" & {tops} \\",
            rules,
            rf"Method & {heads} \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
        )
    )
