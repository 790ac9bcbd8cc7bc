"""How near the measured numbers come to the published ones: by cell, by column and by table of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from tabulate import tabulate

from benchmark import quoting
from benchmark.compare import published, verdicts
from benchmark.compare.cells import shown, tidy
from benchmark.compare.claims import CELEBA_MEAN, ROWS
from benchmark.compare.doubts import data_notes, doubts
from benchmark.metrics import METRICS
from benchmark.plan.paper import TABLES
from benchmark.plan.run import PAPER
from benchmark.plan.table import Table
from benchmark.store.atomic import write_atomically
from benchmark.store.results import Results

CELLS = [
    "table", "method", "task", "metric", "paper", "mean", "std", "n", "collapsed", "delta", "preset", "kind", "note",
]  # fmt: skip
WEAK, HEADS = ["one_seed", "collapsed"], ["of one seed", "collapsed"]
HEADINGS = {table.name: table.heading for table in TABLES.values()}
EXPLANATION = f"""\
Every number of the paper's tables beside what was measured here: the mean over seeds in the {{rule}}. For each column,
which is one metric on one task, "difference" is the mean absolute difference in points, and "rank correlation" is
Spearman's between the published and the measured order of the methods, from 1, the same order, to −1, the reverse; it
takes three methods or more. Numbers that cannot be right under the paper's own definitions
({" or ".join(published.WRONG)}, see the end) are left out of both. A number with a
collapsed run counts like any other, as near or far as it may lie, and is of no use to anybody."""


def cells(results: Results) -> pd.DataFrame:
    """One line per published number with what was measured, in percent, and its errata.

    Every published number has a line, with n = 0 and a gap where nothing was measured, in the paper's preset and in
    each other one in which the table has any record.
    """
    tables = [
        table
        for preset in results.names.all_presets
        for table in (replace(each, preset=preset) for each in TABLES.values())
        if preset == PAPER or any(results.measured(table, task) for task in table.tasks)
    ]
    return annotate(pd.concat([_published_lines(table, results) for table in tables], ignore_index=True))[CELLS]


def _published_lines(table: Table, results: Results) -> pd.DataFrame:
    """The table's lines, of the rule that is shown, that have a published number."""
    lines = shown(tidy(table, results), results).drop(columns="selection")
    numbers = {name: float for name in ("mean", "std", "paper", "delta")}
    return lines.astype({**numbers, "n": int})[lines.paper.notna()]


def annotate(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of published cells, with ``kind`` and ``note`` of the errata of each added."""
    known = [published.errata_of(cell) for cell in _places(lines)]
    kinds, notes = ([" ".join(getattr(each, name) for each in cell) for cell in known] for name in ("kind", "note"))
    return lines.assign(kind=kinds, note=notes)


def _places(lines: pd.DataFrame) -> Iterator[published.Cell]:
    return zip(lines.table, lines.method, lines.task, lines.metric, strict=True)


def columns(found: pd.DataFrame) -> pd.DataFrame:
    """One line per preset, table, task and metric of ``cells``: how near, and in which order, the methods come.

    ``methods`` of the ``published`` ones are compared, so many of them of ``one_seed`` and with a ``collapsed`` run.
    ``difference`` is a gap where that is none, and ``rank_correlation`` where it is less than three or all methods are
    level.
    """
    lines = []
    for key, column in found.groupby(["preset", "table", "task", "metric"], sort=False):
        both = compared(column)
        correlation = rank_correlation(both.paper, both["mean"])
        lines.append((*key, len(both), len(column), *_weak(both), both.delta.abs().mean(), correlation))
    head = ["preset", "table", "task", "metric", "methods", "published", *WEAK, "difference", "rank_correlation"]
    return pd.DataFrame(lines, columns=head)


def overall(found: pd.DataFrame) -> pd.DataFrame:
    """One line per preset and table of ``cells``; the mean over CelebA's targets counts for nothing new here.

    ``rank_correlation`` is the mean over the ``columns`` that have one; the rest is as there.
    """
    lines = []
    for key, group in found[found.task != CELEBA_MEAN].groupby(["preset", "table"], sort=False):
        correlation = columns(group).rank_correlation
        measured, difference = (group.n > 0).sum(), compared(group).delta.abs().mean()
        weak, of_columns = _weak(group), (correlation.mean(), correlation.notna().sum())
        lines.append((*key, measured, len(group), *weak, difference, *of_columns))
    head = ["preset", "table", "measured", "published", *WEAK, "difference", "rank_correlation", "columns"]
    return pd.DataFrame(lines, columns=head)


def _weak(found: pd.DataFrame) -> tuple[int, int]:
    """How many of these cells are of one seed, and of how many a run collapsed."""
    return int((found.n == 1).sum()), int((found.collapsed > 0).sum())


def compared(found: pd.DataFrame) -> pd.DataFrame:
    """Those lines of ``cells`` or ``tidy`` that were measured and whose published number may be right."""
    wrong = [published.is_wrong(cell) for cell in _places(found)]
    return found[found["mean"].notna() & ~pd.Series(wrong, found.index, dtype=bool)]


def rank_correlation(printed: Sequence[float] | pd.Series, measured: Sequence[float] | pd.Series) -> float:
    """Spearman's, NaN for less than three numbers or where all of either are level."""
    values = [np.round(each, 2) for each in (printed, measured)]  # the printed numbers' precision decides what is level
    if len(values[0]) < 3 or any(len(np.unique(each)) == 1 for each in values):
        return float("nan")
    return float(spearmanr(*values).statistic)


def write(found: pd.DataFrame, judged: pd.DataFrame, results: Results) -> str:
    """Write fidelity.csv, the ``cells``, and fidelity.md to the folder of results; returns the Markdown.

    ``judged`` are the lines of ``verdicts.evaluate``.
    """
    text = markdown(found, judged, results)
    write_atomically(results.folder / f"{results.name('fidelity')}.csv", quoting.csv(found))
    write_atomically(results.folder / f"{results.name('fidelity')}.md", text)
    return text


def markdown(found: pd.DataFrame, judged: pd.DataFrame, results: Results) -> str:
    """How near each table comes, how many claims hold, the columns of each table, and the doubtful numbers."""
    parts = [
        "# How near the measured numbers come to the published ones",
        EXPLANATION.format(rule=results.rule.note),
        "## Overall",
    ]
    compared_with = [replace(table, preset=preset) for preset in results.names.all_presets for table in TABLES.values()]
    records = [record for table in compared_with for record in results.records_of(table, table.tasks)]
    parts += [*(f"**{each}**" for each in doubts(records, results)), _overall(found), _claims(judged)]
    parts += [quoting.points(data_notes(records, results))]
    near = columns(found)
    for table in TABLES.values():
        measured = near[(near.table == table.name) & (near.methods > 0)]
        if len(measured):
            parts += [f"## {table.heading}: {table.title}", _columns(measured, results)]
    doubtful = found[(found.kind != "") & (found.preset == PAPER)]
    parts += ["## Published numbers in doubt", _doubts(doubtful, results)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _grid(body: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def _overall(found: pd.DataFrame) -> str:
    body = [
        [
            HEADINGS[line["table"]] + verdicts.preset_note(line["preset"]),
            f"{line['measured']} of {line['published']}",
            *(str(line[each]) for each in WEAK),
            number(line["difference"]),
            number(line["rank_correlation"]),
            line["columns"],
        ]
        for line in overall(found).to_dict("records")
    ]
    return _grid(body, ["Table", "Numbers measured", *HEADS, "Difference", "Rank correlation", "over columns"])


def _claims(judged: pd.DataFrame) -> str:
    kinds = (verdicts.HOLDS, verdicts.FAILS, verdicts.UNDECIDED)
    body = []
    for (preset, scope), lines in judged.groupby(["preset", "scope"], sort=False):
        several, hints = verdicts.count(lines)
        where = "where the paper makes them" if scope == "paper" else "on its other tasks"
        # Elsewhere what is missing is not counted.
        missing = str(several[verdicts.MISSING]) if (preset, scope) == (PAPER, "paper") else "–"
        body.append(
            [f"{where} ({preset} preset)", *(str(several[each]) for each in kinds), str(hints.total()), missing]
        )
    return _grid(body, ["Claims by task, see tables/claims.md", *kinds, "of one seed", verdicts.MISSING])


def _columns(shown: pd.DataFrame, results: Results) -> str:
    body = [
        [
            quoting.markdown(results.task_title(line["task"])) + verdicts.preset_note(line["preset"]),
            METRICS[line["metric"]].title,
            f"{line['methods']} of {line['published']}",
            *(str(line[each]) for each in WEAK),
            number(line["difference"]),
            number(line["rank_correlation"]),
        ]
        for line in shown.to_dict("records")
    ]
    return _grid(body, ["Task", "Metric", "Methods compared", *HEADS, "Difference", "Rank correlation"])


def _doubts(found: pd.DataFrame, results: Results) -> str:
    """The errata with the numbers that they concern; one about several numbers shows none of them."""
    body = []
    for (name, task, kind, note), lines in found.groupby(["table", "task", "kind", "note"], sort=False):
        methods = [results.row_title(ROWS[method]) for method in lines.method.unique()]
        body.append(
            [
                HEADINGS[str(name)],
                quoting.markdown(results.task_title(str(task))),
                ", ".join(methods) if len(methods) < 3 else "all",
                ", ".join(METRICS[metric].title for metric in lines.metric.unique()),
                *(number(lines[column].iloc[0]) if len(lines) == 1 else "–" for column in ("paper", "mean")),
                kind,
                note,
            ]
        )
    return _grid(body, ["Table", "Task", "Row", "Metric", "Paper", "Measured", "Kind", "Why"])
