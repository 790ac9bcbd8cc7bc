"""What a search tries: the points of every row of a table on a task, each an ordinary run of a seed of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmark.arguments import SEEDS
from benchmark.plan.run import Run
from benchmark.plan.table import Override, Row, Table

SEED = SEEDS  # of all points: the first that --seeds cannot ask for, so that no table reports it
PREFIX = "search"  # how the names of its tables begin


@dataclass(frozen=True)
class Point:
    """A point of a search: the settings that it changes, and the run that tries them."""

    overrides: tuple[Override, ...]
    run: Run


@dataclass(frozen=True)
class Search:
    """The points at which a table's row is tried on a task; the first is the recipe.

    ``logarithmic`` are the settings, as --set names them, of which ratios count rather than differences.
    """

    table: Table
    row: Row
    task: str
    points: tuple[Point, ...]
    logarithmic: frozenset[str]

    def tuned(self, number: int, title: str) -> Row:
        """The row under the settings of a point."""
        overrides = (*self.row.overrides, *self.points[number].overrides)
        return replace(self.row, key=f"{self.row.key}_tuned", title=f"{title}, tuned", overrides=overrides)
