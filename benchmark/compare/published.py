"""The paper's printed numbers, and what is known to be wrong or doubtful about them: results/paper/*.csv."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmark.errors import UserError
from benchmark.store.atomic import sha256

PAPER = Path(__file__).parents[2] / "results" / "paper"
# Kinds of errata that prove a printed number wrong under the paper's own definitions; the others only raise doubts.
WRONG = ("impossible", "copied")
Cell = tuple[str, str, str, str]
"""A printed number's table, method, task and metric."""
CELL = ("table", "method", "task", "metric")


def _lines(name: str, *columns: str) -> list[dict[str, str]]:
    """The lines of a file of the paper's numbers. Raises UserError, naming file and line, where it is damaged."""
    path, expected = PAPER / name, [*CELL, *columns]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it.") from error
    if not lines:
        raise UserError(f"{path} has no lines: restore it.")
    for number, line in enumerate(lines, 2):
        if line.keys() != set(expected) or None in line.values():
            raise UserError(f"{path}, line {number}, does not have the columns {', '.join(expected)}: restore it.")
    return lines


def content() -> list[str | None]:
    """The digests of both files, whatever they hold."""
    return [sha256(PAPER / name) for name in ("published.csv", "errata.csv")]


@cache
def numbers() -> dict[Cell, float]:
    """Every number of the paper's tables. Raises UserError where their file is damaged."""
    return {_cell(line): _number(line) for line in _lines("published.csv", "value")}


def _cell(line: dict[str, str]) -> Cell:
    table, method, task, metric = (line[column] for column in CELL)
    return table, method, task, metric


def _number(line: dict[str, str]) -> float:
    try:
        value = float(line["value"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{PAPER / 'published.csv'} has '{line['value']}' for {' '.join(_cell(line))}: restore it.")
    return value


def prints(table: str) -> bool:
    """Whether the paper has any number of a table of that name."""
    return any(name == table for name, *_ in numbers())


@dataclass(frozen=True)
class Erratum:
    """What is wrong with some printed numbers; an empty field of ``cell`` stands for every value."""

    cell: Cell
    kind: str
    note: str

    def concerns(self, cell: Cell) -> bool:
        return all(own in ("", each) for own, each in zip(self.cell, cell, strict=True))


@cache
def errata() -> tuple[Erratum, ...]:
    """All that is known to be wrong. Raises UserError where the file is damaged."""
    return tuple(Erratum(_cell(line), line["kind"], line["note"]) for line in _lines("errata.csv", "kind", "note"))


@cache
def errata_of(cell: Cell) -> tuple[Erratum, ...]:
    """The errata that concern one printed number, perhaps none."""
    return tuple(each for each in errata() if each.concerns(cell))


def is_wrong(cell: Cell) -> bool:
    """Whether one printed number cannot be right under the paper's own definitions."""
    return any(erratum.kind in WRONG for erratum in errata_of(cell))
