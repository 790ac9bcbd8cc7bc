"""A table under every rule for the epoch, side by side: what the choice of the rule alone does to the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmark import quoting
from benchmark.compare.cells import tidy
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.table import Row, Table
from benchmark.report.notes import marks, provenance, unselected
from benchmark.report.words import COLLAPSED, ONE_SEED, Context, lines_of, number
from benchmark.rules import LAST, RULES
from benchmark.store.atomic import withdraw, write_atomically
from benchmark.store.results import Results

EXPLANATION = """\
Each column is a rule that --select takes, applied to the same runs; in parentheses the number of seeds that it can be
applied to, where these are not all. `validation_average` and `validation_worst` use bias labels of validation images,
for all methods alike. `test_average` chooses on the test and is no result: it shows what such a choice would do."""


def write(table: Table, results: Results) -> list[Path]:
    """Write tables/<stem>-rules.md where another rule than the last epoch has any number; returns what was written.

    The file does not depend on the rule that is shown.
    """
    lines = tidy(table, results)
    path = results.folder / "tables" / f"{table.stem}-rules.md"
    others = lines[lines["mean"].notna() & (lines.selection != LAST.name) & lines.metric.isin(FAIRNESS)]
    if others.empty:
        withdraw(path)
        return []
    text = markdown(table, lines, list(dict.fromkeys(others.task)), results)
    write_atomically(path, text)
    return [path]


def markdown(table: Table, lines: pd.DataFrame, tasks: Sequence[str], results: Results) -> str:
    """A grid of methods and rules for each of the tasks and metrics."""
    parts = [f"# {quoting.markdown(table.full_title)}, under every rule for the epoch", EXPLANATION]
    for task in tasks:
        for metric in (each for each in table.metrics if each in FAIRNESS):
            chosen = lines[(lines.task == task) & (lines.metric == metric)]
            found = {(line["method"], line["selection"]): line for line in lines_of(chosen)}
            printed = {line["method"]: number(line["paper"]) or "–" for line in found.values()}
            head = ["Method", *RULES]
            body = [[quoting.markdown(results.marked_title(row)), *_cells(found, row)] for row in table.rows]
            if set(printed.values()) != {"–"}:
                head.append("paper")
                body = [[*line, printed[row.key]] for line, row in zip(body, table.rows, strict=True)]
            parts.append(f"## {quoting.markdown(results.task_title(task))}: {METRICS[metric].title}")
            parts.append(quoting.grid(body, head))
    reasons: dict[str, list[str]] = {}
    for name, rule in RULES.items():
        for reason in unselected(table, replace(results, rule=rule)):
            reasons.setdefault(reason, []).append(name)
    notes = quoting.points(
        (
            *([f"{ONE_SEED} one seed."] if (lines.n == 1).any() else []),
            *(f"{', '.join(names)}: {reason}." for reason, names in reasons.items()),
            *marks("".join(results.mark(row.method) for row in table.rows)),
            *provenance(table, results, RULES.values()),
        )
    )
    return "\n\n".join((*parts, *([notes] if notes else []))) + "\n"


def _cells(found: Mapping[tuple[str, str], Context], row: Row) -> list[str]:
    """The mean of a row under each rule."""
    lines = [found.get((row.key, name), {"n": 0}) for name in RULES]
    most = max(line["n"] for line in lines)
    return [
        number(line["mean"])
        + ONE_SEED * (line["n"] == 1)
        + COLLAPSED * bool(line["collapsed"])
        + (f" (n = {line['n']})" if 1 < line["n"] < most else "")
        if line["n"]
        else "–"
        for line in lines
    ]
