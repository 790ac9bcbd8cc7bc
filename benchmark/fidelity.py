"""How near the measured numbers come to the published ones: by cell, by column and by table of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr
from tabulate import tabulate

from benchmark import errata, findings, recipes, tables
from benchmark.plan import TABLES, Table
from benchmark.records import Store, write_atomically
from benchmark.statements import CELEBA_MEAN, METRIC_TITLES, ROWS

CELLS = ["table", "method", "task", "metric", "paper", "mean", "std", "n", "delta", "preset", "kind", "note"]
HEADINGS = {table.name: table.heading for table in TABLES.values()}
EXPLANATION = f"""\
Every number of the paper's tables beside what was measured here: the last epoch's mean over seeds. For each column,
which is one metric on one task, "difference" is the mean absolute difference in points, and "rank correlation" is
Spearman's between the published and the measured order of the methods, from 1, the same order, to −1, the reverse; it
takes three methods or more. Numbers that cannot be right under the paper's own definitions
({" or ".join(errata.WRONG)}, see the end) are left out of both."""


def cells(store: Store) -> pd.DataFrame:
    """One line per published number with what was measured, in percent, and its errata.

    Every published number has a line, with n = 0 and a gap where nothing was measured, in the paper's preset and in
    each other one in which the table has any record.
    """
    parts = []
    for preset in recipes.all_presets():
        for paper_table in TABLES.values():
            table = replace(paper_table, preset=preset)
            measured = tables.collect(table, store)
            if preset == recipes.PAPER or any(measured.values()):
                parts.append(_published_lines(table, measured))
    return errata.annotate(pd.concat(parts, ignore_index=True))[CELLS]


def _published_lines(table: Table, measured: tables.Found) -> pd.DataFrame:
    """The table's last-epoch lines that have a published number."""
    lines = tables.tidy(table, measured)
    lines = lines[lines.selection == "last"].drop(columns="selection")
    numbers = {name: float for name in ("mean", "std", "paper", "delta")}
    return lines.astype({**numbers, "n": int})[lines.paper.notna()]


def columns(found: pd.DataFrame) -> pd.DataFrame:
    """One line per preset, table, task and metric of ``cells``: how near, and in which order, the methods come.

    ``methods`` of the ``published`` ones are compared. ``difference`` is a gap where that is none, and
    ``rank_correlation`` where it is less than three or all methods are level.
    """
    lines = []
    for key, column in found.groupby(["preset", "table", "task", "metric"], sort=False):
        both = compared(column)
        lines.append((*key, len(both), len(column), both.delta.abs().mean(), rank_correlation(both)))
    head = ["preset", "table", "task", "metric", "methods", "published", "difference", "rank_correlation"]
    return pd.DataFrame(lines, columns=head)


def overall(found: pd.DataFrame) -> pd.DataFrame:
    """One line per preset and table of ``cells``; the mean over CelebA's targets counts for nothing new here.

    ``rank_correlation`` is the mean over the ``columns`` that have one.
    """
    lines = []
    for key, group in found[found.task != CELEBA_MEAN].groupby(["preset", "table"], sort=False):
        correlation = columns(group).rank_correlation
        measured, difference = (group.n > 0).sum(), compared(group).delta.abs().mean()
        lines.append((*key, measured, len(group), difference, correlation.mean(), correlation.notna().sum()))
    head = ["preset", "table", "measured", "published", "difference", "rank_correlation", "columns"]
    return pd.DataFrame(lines, columns=head)


def compared(found: pd.DataFrame) -> pd.DataFrame:
    """Those of ``cells`` that were measured and whose published number may be right."""
    wrong = [any(kind in errata.WRONG for kind in kinds.split()) for kinds in found.kind]
    return found[found["mean"].notna() & ~pd.Series(wrong, found.index, dtype=bool)]


def rank_correlation(both: pd.DataFrame) -> float:
    """Spearman's of ``paper`` and ``mean``, NaN for less than three lines or where all are level."""
    values = both[["paper", "mean"]].round(2)  # the precision of the printed numbers decides what is level
    if len(values) < 3 or (values.nunique() == 1).any():
        return float("nan")
    return float(spearmanr(values.paper, values["mean"]).statistic)


def write(found: pd.DataFrame, claims: pd.DataFrame, results: Path) -> str:
    """Write fidelity.csv, the ``cells``, and fidelity.md to the folder of results; returns the Markdown.

    ``claims`` are the lines of ``findings.evaluate``.
    """
    text = markdown(found, claims)
    write_atomically(results / "fidelity.csv", found.to_csv(index=False, float_format="%.4f"))
    write_atomically(results / "fidelity.md", text)
    return text


def markdown(found: pd.DataFrame, claims: pd.DataFrame) -> str:
    """How near each table comes, how many claims hold, the columns of each table, and the doubtful numbers."""
    parts = ["# How near the measured numbers come to the published ones", EXPLANATION, "## Overall"]
    parts += [_overall(found), _claims(claims)]
    near = columns(found)
    for table in TABLES.values():
        shown = near[(near.table == table.name) & (near.methods > 0)]
        if len(shown):
            parts += [f"## {table.heading}: {table.title}", _columns(shown)]
    parts += ["## Published numbers in doubt", _doubts(found[(found.kind != "") & (found.preset == recipes.PAPER)])]
    return "\n\n".join(parts) + "\n"


def _grid(body: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def _overall(found: pd.DataFrame) -> str:
    body = [
        [
            HEADINGS[line["table"]] + findings.preset_note(line["preset"]),
            f"{line['measured']} of {line['published']}",
            number(line["difference"]),
            number(line["rank_correlation"]),
            line["columns"],
        ]
        for line in overall(found).to_dict("records")
    ]
    return _grid(body, ["Table", "Numbers measured", "Difference", "Rank correlation", "over columns"])


def _claims(claims: pd.DataFrame) -> str:
    verdicts = (findings.HOLDS, findings.FAILS, findings.UNDECIDED, findings.MISSING)
    body = []
    for (preset, scope), lines in claims.groupby(["preset", "scope"], sort=False):
        counts = findings.count(lines)
        where = "where the paper makes them" if scope == "paper" else "on its other tasks"
        shown = [str(counts[each]) for each in verdicts]
        if (preset, scope) != (recipes.PAPER, "paper"):
            shown[-1] = "–"  # what is missing there is not counted
        body.append([f"{where} ({preset} preset)", *shown])
    return _grid(body, ["Claims by task, see tables/claims.md", *verdicts])


def _columns(shown: pd.DataFrame) -> str:
    body = [
        [
            tables.title(line["task"]) + findings.preset_note(line["preset"]),
            METRIC_TITLES[line["metric"]],
            f"{line['methods']} of {line['published']}",
            number(line["difference"]),
            number(line["rank_correlation"]),
        ]
        for line in shown.to_dict("records")
    ]
    return _grid(body, ["Task", "Metric", "Methods compared", "Difference", "Rank correlation"])


def _doubts(found: pd.DataFrame) -> str:
    """The errata with the numbers that they concern; one about several numbers shows none of them."""
    body = []
    for (name, task, kind, note), lines in found.groupby(["table", "task", "kind", "note"], sort=False):
        methods = [ROWS[method].title for method in lines.method.unique()]
        body.append(
            [
                HEADINGS[str(name)],
                tables.title(str(task)),
                ", ".join(methods) if len(methods) < 3 else "all",
                ", ".join(METRIC_TITLES[metric] for metric in lines.metric.unique()),
                *(number(lines[column].iloc[0]) if len(lines) == 1 else "–" for column in ("paper", "mean")),
                kind,
                note,
            ]
        )
    return _grid(body, ["Table", "Task", "Row", "Metric", "Paper", "Measured", "Kind", "Why"])
