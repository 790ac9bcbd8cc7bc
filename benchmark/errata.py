"""What is known to be wrong or doubtful in the published numbers, as data: results/paper/errata.csv."""

from __future__ import annotations

import csv
from functools import cache

import pandas as pd

from benchmark.tables import PUBLISHED

ERRATA = PUBLISHED.with_name("errata.csv")
# Kinds of errata that prove a printed number wrong under the paper's own definitions; the others only raise doubts.
WRONG = ("impossible", "copied")
CELL = ("table", "method", "task", "metric")


@cache
def errata() -> list[dict[str, str]]:
    """Each with table, method, task, metric, kind and note; an empty field stands for every value."""
    with ERRATA.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def of_cell(table: str, method: str, task: str, metric: str) -> list[dict[str, str]]:
    """The errata that concern one published number, perhaps none."""
    cell = (table, method, task, metric)
    return [each for each in errata() if all(each[name] in ("", value) for name, value in zip(CELL, cell, strict=True))]


def annotate(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines that have the columns ``CELL``, with ``kind`` and ``note`` of the errata of each added."""
    known = [of_cell(*cell) for cell in zip(*(lines[name] for name in CELL), strict=True)]
    kinds, notes = ([" ".join(each[name] for each in cell) for cell in known] for name in ("kind", "note"))
    return lines.assign(kind=kinds, note=notes)
