"""Tables as pure functions of records and published numbers: tidy CSV, Markdown and LaTeX."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from benchmark import recipes, records
from benchmark.plan import Figure, Row, Table, variants
from benchmark.records import Record, Store, write_atomically

PUBLISHED = Path(__file__).resolve().parent.parent / "results" / "paper" / "published.csv"
COLUMNS = ["table", "method", "task", "metric", "mean", "std", "n", "paper", "delta", "selection", "preset"]
METRIC_TITLES = {
    "model_bias": ("Bias", "lower"),
    "avg_acc": ("Avg.", "higher"),
    "worst_acc": ("Worst", "higher"),
    "bias_acc": ("Bias Acc.", "higher"),
}
COMPARISONS = ("beside", "apart")
AVERAGES = {"celeba_avg": "CelebA, mean of the four"}
SELECTIONS = {"last": "last epoch", "validation": "epoch of the best plain validation accuracy"}


@cache
def published() -> pd.Series:
    """The paper's numbers, indexed by (table, method, task, metric)."""
    return pd.read_csv(PUBLISHED).set_index(["table", "method", "task", "metric"])["value"]


def preset(table: Table) -> str:
    """The preset's name; a table with overrides says what was modified."""
    return ", ".join((table.preset, *(str(override) for override in table.overrides)))


Found = dict[tuple[str, str], list[Record]]
"""The records of each (row key, task), one a seed."""


def collect(table: Table, store: Store) -> Found:
    """Every stored record that belongs to the table, whatever its seed."""
    return {
        (row.key, task): store.seeds(table.run(row, task, 0)) if task in table.available_tasks else []
        for task in table.tasks
        for row in table.rows
    }


def stored_variants(store: Store) -> Iterator[tuple[Table, Found]]:
    """The variants of tables that have any record, and of figures that have them all."""
    for table in variants():
        found = collect(table, store)
        if all(found.values()) if isinstance(table, Figure) else any(found.values()):
            yield table, found


def tidy(table: Table, found: Found) -> pd.DataFrame:
    """One line per row, task, metric and selection rule: mean and sample sd over seeds, beside the paper's number.

    A gap is a line without mean and with n = 0.
    """
    lines = []
    for task in table.columns:
        for row in table.rows:
            for metric in table.metrics:
                for selection in ("last",) if metric == "bias_acc" else tuple(SELECTIONS):
                    tasks = table.tasks if task == table.average else (task,)
                    parts = [_by_seed(found[row.key, each], row, metric, selection) for each in tasks]
                    # Seeds that some task lacks have no average over tasks.
                    shared = sorted(set.intersection(*map(set, parts)))
                    values = [statistics.fmean(part[seed] for part in parts) for seed in shared]
                    lines.append(_line(table, row, task, metric, selection, values))
    return pd.DataFrame(lines, columns=COLUMNS)


def _by_seed(found: Sequence[Record], row: Row, metric: str, selection: str) -> dict[int, float]:
    """The metric of each seed that has it."""
    values = {record["seed"]: value(record, row, metric, selection) for record in found}
    return {seed: each for seed, each in values.items() if each is not None}


def value(record: Record, row: Row, metric: str, selection: str = "last") -> float | None:
    """What a record says of a cell of that row, in percent; None where it was not measured."""
    if metric == "bias_acc":
        return records.bias_accuracy(record, row.epoch)
    return records.fairness(record, selection).get(metric)


def _line(table: Table, row: Row, task: str, metric: str, selection: str, values: Sequence[float]) -> list[object]:
    paper = published().get((table.name, row.key, task, metric))
    mean = statistics.fmean(values) if values else None
    delta = mean - paper if mean is not None and paper is not None else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return [
        table.name,
        row.key,
        task,
        metric,
        mean,
        spread,
        len(values),
        paper,
        delta,
        selection,
        preset(table),
    ]


def title(task: str) -> str:
    """How a column is called: its task, or the average of several."""
    return AVERAGES.get(task) or recipes.task_title(task)


def write(table: Table, found: Found, store: Store, compare: str = COMPARISONS[0]) -> str:
    """Write tables/<stem>.csv, .md and .tex beside the store's records; returns the Markdown.

    ``compare`` puts the paper's numbers "beside" the measured ones, or "apart" in a table of their own.
    """
    lines = tidy(table, found)
    notes = footer(table, found, list(failures(table, store)))
    text = markdown(table, lines, notes, compare)
    folder = store.folder / "tables"
    write_atomically(folder / f"{table.stem}.csv", lines.to_csv(index=False, float_format="%.4f"))
    write_atomically(folder / f"{table.stem}.md", text)
    write_atomically(folder / f"{table.stem}.tex", latex(table, lines, notes, compare))
    return text


def seeds(found: Iterable[Sequence[Record]]) -> str:
    """How many seeds there are, such as "1 to 3", of what was measured."""
    counts = {len(each) for each in found} - {0} or {0}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def footer(table: Table, found: Found, failures: Sequence[str]) -> list[str]:
    """What a reader must know of the numbers: seeds, spread, selection, commits, and why cells are empty."""
    commits = sorted({commit(record) for each in found.values() for record in each})
    unfair = any(uses_bias_labels(row.key) for row in table.rows)
    fairness = ", among methods without bias labels (* uses them)" if unfair else ""
    empty = [task for task in table.tasks if not any(found[row.key, task] for row in table.rows)]
    return [
        f"Percent; {_seeds_note(found)}; selection: {SELECTIONS['last']}.",
        f"Best in bold, second underlined{fairness}.",
        *_preset_note(table),
        *_data_notes(table, found),
        *([f"Commit {', '.join(commits)}."] if commits else []),
        *([f"Without records: {', '.join(empty)}."] if empty else []),
        *(f"Failed: {failure}" for failure in failures),
    ]


def _seeds_note(found: Found) -> str:
    n = seeds(found.values())
    if n == "0":
        return "no records yet"
    if n == "1":
        return "n = 1"
    alone = "; numbers without ± are of one" if n.startswith("1 ") else ""
    return f"n = {n}, mean ± sample standard deviation (ddof 1) over seeds{alone}"


def _preset_note(table: Table) -> list[str]:
    if table.preset == recipes.PAPER:
        return []
    printed = table.name in published().index.get_level_values("table")
    beside = "; the paper's numbers are for orientation, not for comparison" if printed else ""
    return [f"Measured in the {table.preset} preset{beside}."]


def _data_notes(table: Table, found: Found) -> Iterator[str]:
    """What the records say of their data, such as that a part is missing or was changed, each note once."""
    titles: dict[str, list[str]] = {}
    for task in table.tasks:
        sources = [record["provenance"] for row in table.rows for record in found[row.key, task]]
        notes = [note for source in sources for note in source.get("data_notes", ())]
        if len({source.get("data") for source in sources}) > 1:
            notes.append(
                "THESE RECORDS ARE OF DIFFERENT DATA. Its images were changed between the runs, or read by other "
                f"versions; remove the older records from runs/{task} and train them anew."
            )
        for note in dict.fromkeys(notes):
            titles.setdefault(note, []).append(recipes.task_title(task))
    for note, concerned in titles.items():
        yield f"{'; '.join(concerned)}: {note}"


def commit(record: Record) -> str:
    """Short commit, with a "+" where the tree was modified."""
    provenance = record["provenance"]
    if provenance["commit"] is None:
        return "unknown"
    return provenance["commit"][:10] + ("+" if provenance["modified"] else "")


def failures(table: Table, store: Store) -> Iterator[str]:
    """The table's failed runs, each with its reason."""
    for task in table.available_tasks:
        for row in table.rows:
            for run, reason in store.failures(table.run(row, task, 0)):
                yield f"{run}: {reason}"


def arrow(metric: str) -> str:
    return "↓" if METRIC_TITLES[metric][1] == "lower" else "↑"


def uses_bias_labels(key: str) -> bool:
    return key in recipes.tables()[1] and recipes.uses_bias_labels(key)


def row_title(row: Row) -> str:
    return row.title + ("*" if uses_bias_labels(row.key) else "")


def ranks(lines: pd.DataFrame) -> dict[tuple[str, str, str], int]:
    """0 for the best and 1 for the second (row, task, metric) of each column, among methods without bias labels.

    A method alone in its column is neither.
    """
    fair = lines[(lines.selection == "last") & lines["mean"].notna() & ~lines.method.map(uses_bias_labels).astype(bool)]
    sign = fair.metric.map(lambda metric: 1 if METRIC_TITLES[metric][1] == "lower" else -1)
    columns = (sign * fair["mean"].astype(float).round(2)).groupby([fair.task, fair.metric])
    found = columns.rank(method="min").where(columns.transform("size") > 1)
    keys = zip(fair.method, fair.task, fair.metric, strict=True)
    return {key: int(rank) - 1 for key, rank in zip(keys, found, strict=True) if rank <= 2}


class _Cells:
    """The table's last-epoch cells, looked up by (row, task, metric) and formatted with the caller's marks."""

    def __init__(self, lines: pd.DataFrame) -> None:
        shown = lines[lines.selection == "last"].set_index(["method", "task", "metric"])
        values: list[dict[Any, float]] = [shown[name].to_dict() for name in ("mean", "std", "paper")]
        self._mean, self._std, self._paper = values
        self._rank = ranks(lines)

    def measured(self, key: tuple[str, str, str], marks: Sequence[str], plus_minus: str, gap: str) -> str:
        mean, std = self._mean[key], self._std[key]
        if pd.isna(mean):
            return gap
        spread = "" if pd.isna(std) else plus_minus.format(f"{std:.1f}")
        text = f"{mean:.2f}"
        return (marks[self._rank[key]].format(text) if key in self._rank else text) + spread

    def paper(self, key: tuple[str, str, str], gap: str) -> str:
        return gap if pd.isna(self._paper[key]) else f"{self._paper[key]:.2f}"

    def tasks(self, values: str) -> list[str]:
        """The tasks that have any value in "measured" or "paper"."""
        source = self._mean if values == "measured" else self._paper
        return list(dict.fromkeys(task for (_, task, _), value in source.items() if not pd.isna(value)))


def markdown(table: Table, lines: pd.DataFrame, notes: Sequence[str], compare: str = COMPARISONS[0]) -> str:
    """A section per measured task with each metric; one grid for a single metric."""
    cells = _Cells(lines)
    heading = f"{table.heading}: {table.title}" + (f" ({table.modified})" if table.modified else "")
    parts = [f"# {heading}"]
    if compare == "beside":
        parts += _sections(table, cells, "measured", _grid)
    else:
        parts += _sections(table, cells, "measured", _measured_grid)
        parts += ["# As published", *_sections(table, cells, "paper", _published_grid)]
    return "\n\n".join((*parts, "\n".join(f"- {note}" for note in notes))) + "\n"


Columns = Sequence[tuple[str, str, str]]
"""(task, metric, heading) of each column."""


def _sections(table: Table, cells: _Cells, values: str, grid: Callable[[Table, _Cells, Columns], str]) -> Iterator[str]:
    """Headings and grids of the tasks that have any of the values."""
    tasks = cells.tasks(values)
    if len(table.metrics) == 1:
        if tasks:
            metric = table.metrics[0]
            yield grid(table, cells, [(task, metric, f"{title(task)} {arrow(metric)}") for task in tasks])
        return
    for task in tasks:
        columns = [(task, metric, f"{METRIC_TITLES[metric][0]} {arrow(metric)}") for metric in table.metrics]
        yield f"## {title(task)}"
        yield grid(table, cells, columns)


def _grid(table: Table, cells: _Cells, columns: Columns) -> str:
    """Measured columns, each followed by the paper's where it has any."""
    published_tasks = cells.tasks("paper")
    head, body = ["Method"], [[row_title(row)] for row in table.rows]
    for task, metric, heading in columns:
        head += [heading, "paper"] if task in published_tasks else [heading]
        for row, line in zip(table.rows, body, strict=True):
            line.append(_markdown_cell(cells, (row.key, task, metric)))
            if task in published_tasks:
                line.append(cells.paper((row.key, task, metric), "–"))
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def _measured_grid(table: Table, cells: _Cells, columns: Columns) -> str:
    return _plain_grid(table, columns, lambda key: _markdown_cell(cells, key))


def _published_grid(table: Table, cells: _Cells, columns: Columns) -> str:
    return _plain_grid(table, columns, lambda key: cells.paper(key, "–"))


def _plain_grid(table: Table, columns: Columns, cell: Callable[[tuple[str, str, str]], str]) -> str:
    body = [[row_title(row), *(cell((row.key, task, metric)) for task, metric, _ in columns)] for row in table.rows]
    return tabulate(body, ["Method", *(heading for *_, heading in columns)], tablefmt="github", disable_numparse=True)


def _markdown_cell(cells: _Cells, key: tuple[str, str, str]) -> str:
    return cells.measured(key, ("**{}**", "<u>{}</u>"), " ± {}", "–")


def latex(table: Table, lines: pd.DataFrame, notes: Sequence[str], compare: str = COMPARISONS[0]) -> str:
    """A booktabs table in the paper's arrangement: tasks as column groups, bold for the best, * for bias labels.

    The paper's numbers stand under each row, or in a second table below, where it has any.
    """
    cells = _Cells(lines)
    columns = [(task, metric) for task in table.columns for metric in table.metrics]

    def measured(row: Row) -> str:
        marks = (r"\textbf{{{}}}", r"\underline{{{}}}")
        numbers = (cells.measured((row.key, *column), marks, r"{{\tiny\,±{}}}", "--") for column in columns)
        return " & ".join((_escape(row_title(row)), *numbers)) + r" \\"

    def printed(row: Row) -> list[str]:
        return [cells.paper((row.key, *column), "--") for column in columns]

    def printed_below(row: Row) -> str:
        return " & ".join((r"\quad\textit{paper}", *(rf"\textit{{{each}}}" for each in printed(row)))) + r" \\"

    caption = f"{table.title}" + (f" ({table.modified})." if table.modified else ".")
    caption = " ".join((caption, *notes))
    if lines.paper.isna().all():
        tables = [_latex_table(table, caption, lambda row: [measured(row)])]
    elif compare == "beside":
        tables = [_latex_table(table, caption, lambda row: [measured(row), printed_below(row)])]
    else:
        tables = [
            _latex_table(table, caption, lambda row: [measured(row)]),
            _latex_table(
                table,
                f"{table.title}, as published.",
                lambda row: [" & ".join((_escape(row_title(row)), *printed(row))) + r" \\"],
            ),
        ]
    return "\n".join((r"% Needs \usepackage{booktabs,graphicx}.", *tables, "")).replace("±", r"$\pm$")


def _latex_table(table: Table, caption: str, lines: Callable[[Row], list[str]]) -> str:
    """The frame around ``lines`` of every row; methods with bias labels stand apart."""
    body = []
    groups = (
        [row for row in table.rows if not uses_bias_labels(row.key)],
        [row for row in table.rows if uses_bias_labels(row.key)],
    )
    for number, group in enumerate(each for each in groups if each):
        body += [r"\midrule"] * (number > 0)
        for row in group:
            body += lines(row)
    width = len(table.metrics)
    tops = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{_escape(title(task))}}}" for task in table.columns)
    rules = "".join(
        rf"\cmidrule(lr){{{2 + width * index}-{1 + width * (index + 1)}}}" for index in range(len(table.columns))
    )
    heads = " & ".join(
        METRIC_TITLES[metric][0] + (r" $\downarrow$" if METRIC_TITLES[metric][1] == "lower" else r" $\uparrow$")
        for _ in table.columns
        for metric in table.metrics
    )
    return "\n".join(
        (
            r"\begin{table*}\centering",
            rf"\caption{{{_escape(caption)}}}",
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


def _escape(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash{}"),
        ("_", r"\_"),
        ("%", r"\%"),
        ("&", r"\&"),
        ("#", r"\#"),
        ("$", r"\$"),
        ("^", r"\^{}"),
        ("~", r"\~{}"),
        ("ρ", r"$\rho$"),
        ("γ", r"$\gamma$"),
        ("λ", r"$\lambda$"),
        ("κ", r"$\kappa$"),
        ("≤", r"$\leq$"),
        ("¹", r"\textsuperscript{1}"),
        ("²", r"\textsuperscript{2}"),
        ("*", r"$^*$"),
    ):
        text = text.replace(plain, escaped)
    return text
