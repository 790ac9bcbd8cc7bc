"""A table by group: which images a method gets right, of which the table itself has the mean and the worst group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark import quoting
from benchmark.compare.groups import FEW, Overall, overall, tidy
from benchmark.metrics import FAIRNESS
from benchmark.plan.table import Table
from benchmark.report.notes import commits_note, footer, marks
from benchmark.report.words import COLLAPSED, ONE_SEED, Context, lines_of
from benchmark.store.atomic import withdraw, write_atomically
from benchmark.store.results import Results

EXPLANATION = """\
A group is the images of one class and one value of the bias: aligned if that value goes with the class in training,
else conflicting. "All images" is the share of right answers among all test images, of which large groups have more:
what other suites call average accuracy."""
SUMMARY = f"""\
Where there are more than {FEW} groups: the means over aligned and over conflicting ones, and the group that is lowest
on average over seeds, which lies at or above the mean of each seed's own worst group. The CSV file has all of them."""

WHOLE = {"train": 0, "test": 0}  # columns of the CSV that are numbers of images, and their decimals


class Group(NamedTuple):
    target: str
    bias: str
    aligned: bool | None

    @property
    def kind(self) -> str:
        return "–" if self.aligned is None else "aligned" if self.aligned else "conflicting"

    @property
    def name(self) -> str:
        return quoting.markdown(f"{self.target}, {self.bias}")


Rows = dict[str, dict[Group, Context]]
"""The lines of each row of a table by group, under its title."""
ALL = "All images"


def write(table: Table, results: Results) -> list[Path]:
    """Write tables/<stem>-groups.md and .csv where some run has an epoch to be shown; returns what was written."""
    stem = results.folder / "tables" / f"{results.name(table.stem)}-groups"
    text, numbers = Path(f"{stem}.md"), Path(f"{stem}.csv")
    lines = tidy(table, results)
    if lines.empty or not {*table.metrics} & {*FAIRNESS}:
        withdraw(text)
        withdraw(numbers)
        return []
    write_atomically(text, markdown(table, lines, results))
    write_atomically(numbers, quoting.csv(lines.round(WHOLE).astype(dict.fromkeys(WHOLE, "Int64"))))
    return [text, numbers]


def markdown(table: Table, lines: pd.DataFrame, results: Results) -> str:
    """A section for each measured task, then the table's notes."""
    sections, summed = [], False
    for task in dict.fromkeys(lines.task):
        rows: Rows = {}
        together: dict[str, Overall | None] = {}
        for row in table.rows:
            own = lines_of(lines[(lines.task == task) & (lines.method == row.key)])
            if own:
                title = quoting.markdown(results.marked_title(row))
                together[title] = overall(results.cell(table, row, task).records, results.rule)
                rows[title] = {Group(line["target"], line["bias"], line["aligned"]): line for line in own}
        groups = list(dict.fromkeys(group for found in rows.values() for group in found))
        few = len(groups) <= FEW
        summed |= not few
        shown = _each(rows, groups, together) if few else _summary(rows, together)
        sections += [f"## {quoting.markdown(results.task_title(task))}", shown]
    head = [f"# {quoting.markdown(table.full_title)}, by group", EXPLANATION, *([SUMMARY] if summed else [])]
    notes = [
        *([f"{ONE_SEED} one seed."] if (lines.n == 1).any() else []),
        *footer(table, results, whole=False),
        *marks("".join(results.mark(row.method) for row in table.rows)),
        *commits_note(table, results),
    ]
    return "\n\n".join((*head, *sections, quoting.points(notes))) + "\n"


def _each(rows: Rows, groups: Sequence[Group], together: Mapping[str, Overall | None]) -> str:
    """A column for each group, with the number of its images above the methods' numbers, and one for all images."""
    body = [["", *(group.kind for group in groups), ""]]
    for part, title in (("train", "training images"), ("test", "test images")):
        sizes = (_sizes([row[group][part] for row in rows.values() if group in row]) for group in groups)
        total = _sizes([sum(line[part] for line in row.values()) for row in rows.values()])
        # Training images without a bias are of no group.
        body.append([title, *sizes, total if part == "test" else ""])
    for title, row in rows.items():
        numbers = (_number(row[group]) if group in row else "–" for group in groups)
        body.append([title, *numbers, _together(row, together[title])])
    return quoting.grid(body, ["Method", *(group.name for group in groups), ALL])


def _sizes(sizes: Sequence[float]) -> str:
    """A number of images, or the range of those of different rows; a gap where it is not known."""
    if any(map(math.isnan, sizes)):
        return "–"
    return " to ".join(f"{size:,.0f}" for size in sorted({min(sizes), max(sizes)}))


def _summary(rows: Rows, together: Mapping[str, Overall | None]) -> str:
    """The means of aligned and of conflicting groups, the lowest group, and all images."""
    body = []
    for title, row in rows.items():
        by_kind = [[line["mean"] for group, line in row.items() if group.aligned is kind] for kind in (True, False)]
        means = [f"{sum(found) / len(found):.2f}" if found else "–" for found in by_kind]
        lowest = min(row, key=lambda group: row[group]["mean"])
        body.append([title, *means, lowest.name, _number(row[lowest]), _together(row, together[title])])
    return quoting.grid(body, ["Method", "Aligned", "Conflicting", "Lowest group", "Accuracy", ALL])


def _together(row: dict[Group, Context], found: Overall | None) -> str:
    """The number of all images, with the marks of its runs."""
    return _number(next(iter(row.values())) | found._asdict()) if found else "–"


def _number(line: Context) -> str:
    marks = ONE_SEED * (line["n"] == 1) + COLLAPSED * bool(line["collapsed"])
    return f"{line['mean']:.2f}{marks}" + ("" if pd.isna(line["std"]) else f" ± {line['std']:.1f}")
