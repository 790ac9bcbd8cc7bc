"""The paper's printed numbers, and what is known to be wrong or doubtful about them: results/paper/*.csv."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAPER = Path(__file__).parents[2] / "results" / "paper"
# Kinds of errata that prove a printed number wrong under the paper's own definitions; the others only raise doubts.
WRONG = ("impossible", "copied")
Cell = tuple[str, str, str, str]
"""A printed number's table, method, task and metric."""


@cache
def numbers() -> dict[Cell, float]:
    """Every number of the paper's tables."""
    with (PAPER / "published.csv").open(encoding="utf-8", newline="") as file:
        return {
            (line["table"], line["method"], line["task"], line["metric"]): float(line["value"])
            for line in csv.DictReader(file)
        }


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
    with (PAPER / "errata.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Erratum((line["table"], line["method"], line["task"], line["metric"]), line["kind"], line["note"])
            for line in csv.DictReader(file)
        )


def errata_of(cell: Cell) -> list[Erratum]:
    """The errata that concern one printed number, perhaps none."""
    return [each for each in errata() if each.concerns(cell)]
