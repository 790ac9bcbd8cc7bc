"""Tuning with the same budget for every method, from planning its points to writing what they chose.

Point 0 is the recipe; the others are a scrambled Sobol sequence over the ranges of recipes.toml, whose beginning does
not depend on its length, so that a larger search adds to a smaller one. The point with the best validation score is
trained anew on the seeds that tables report, which were not searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby, pairwise

from scipy.stats import qmc

from benchmark.collect import collect
from benchmark.compare.search import Outcome, outcome, tuned_table
from benchmark.errors import UserError
from benchmark.plan import catalogue
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import Run
from benchmark.plan.search import SEED, Point, Search
from benchmark.plan.table import Figure, Override, Row, Table
from benchmark.report import search as report
from benchmark.report import tables
from benchmark.rules import RULES, Rule
from benchmark.selection import Selection
from benchmark.store.results import Results
from benchmark.store.store import Store
from benchmark.terminal.output import show

SCRAMBLE = 0  # of the Sobol sequence, so that it is the same everywhere


class Tuning:
    """A search for every row and task of a selection. Raises UserError for a rule by which nothing may be chosen."""

    def __init__(self, selection: Selection, count: int, rule: Rule, store: Store) -> None:
        if rule.needs not in ("targets", "bias"):
            names = ", ".join(name for name, each in RULES.items() if each.needs in ("targets", "bias"))
            raise UserError(
                f"--search chooses by validation images, which --select {rule.name} does not look at: choose one of "
                f"{names}."
            )
        if any(isinstance(table, Figure) for table in selection.tables):
            raise UserError("--search tunes the rows of tables: leave out --figure.")
        self.selection = selection
        self.rule = rule
        self.store = store
        self.searches = plan(selection.recipes, selection.tables, selection.tasks, selection.methods, count)

    def points(self) -> list[Run]:
        """The runs that try the points, each once, point by point so that all methods get on alike."""
        numbered = [(number, point.run) for search in self.searches for number, point in enumerate(search.points)]
        runs = [run for _, run in sorted(numbered, key=lambda each: each[0])]
        return list({run.id: run for run in runs}.values())

    def reported(self) -> list[Run]:
        """The runs of recipes, and of what was chosen so far, on the reported seeds."""
        results = self._results()
        return list({run.id: run for table in self._tables(results) for run in self._runs(table[0])}.values())

    def render(self, compare: str) -> None:
        """Write and print the table of each task, what was chosen for it, and the picture of its options."""
        results = self._results()
        for table, outcomes in self._tables(results):
            show(tables.write(table, results, compare, report.notes(outcomes, table, results)))
            show(report.write(outcomes, table, results))
            name = results.name(table.stem)
            print(f"wrote {results.folder / 'tables' / name}.csv, .md and .tex, -points.csv and -choices.md")
            for path in report.draw(outcomes, table, results):
                print(f"wrote {path}")

    def _results(self) -> Results:
        return collect(self.store, self.selection.recipes, self.rule)

    def _tables(self, results: Results) -> list[tuple[Table, list[Outcome]]]:
        """The table of each task, of recipes and of what was chosen so far."""
        tables = []
        for _, group in groupby(self.searches, key=lambda each: (each.table.stem, each.task)):
            outcomes = [outcome(search, results) for search in group]
            tables.append((tuned_table(outcomes, results), outcomes))
        return tables

    def _runs(self, table: Table) -> list[Run]:
        recipes, seeds = self.selection.recipes, range(self.selection.seeds)
        return [recipes.run(table, row, task, seed) for seed in seeds for task in table.tasks for row in table.rows]


def plan(
    recipes: Recipes, tables: Sequence[Table], tasks: Sequence[str], methods: Sequence[str], count: int
) -> list[Search]:
    """A search of ``count`` points for every row of the tables on every task; all tasks and methods if none."""
    return [
        _search(recipes, table, row, task, count)
        for table in tables
        for row, task in catalogue.cells(recipes, table, tasks, methods)
    ]


def _search(recipes: Recipes, table: Table, row: Row, task: str, count: int) -> Search:
    settings = recipes.run(table, row, task, SEED).settings
    own = {
        (each.owner if each.key in settings["options"] else "", each.key)
        for each in table.changes_of(row)
        if each.owner in ("", row.method)
    }
    ranges = {place: each for place, each in recipes.ranges(row.method).items() if place not in own}
    if not ranges:
        raise UserError(
            f"Nothing of the method {row.method} is left to search on {task}, since --set says all of it: leave a "
            "setting or the method out."
        )
    defaults = {(owner, key): (settings["options"] if owner else settings)[key] for owner, key in ranges}
    changes: list[tuple[Override, ...]] = [()]
    changes += [
        tuple(
            Override(*place, each.value(share, defaults[place]))
            for (place, each), share in zip(ranges.items(), shares, strict=True)
        )
        for shares in sobol(len(ranges), count - 1)
    ]
    points = tuple(
        Point(each, recipes.run(table, replace(row, overrides=(*row.overrides, *each)), task, SEED)) for each in changes
    )
    logarithmic = frozenset(Override(*place, None).name for place, each in ranges.items() if each.log)
    return Search(table, row, task, points, logarithmic)


@cache
def sobol(dimensions: int, count: int) -> Sequence[Sequence[float]]:
    """The beginning of the sequence, of points in [0, 1); the same however many are asked for."""
    sequence = qmc.Sobol(dimensions, scramble=True, rng=SCRAMBLE)
    powers = [0, *(2**each for each in range(count.bit_length() + 1))]
    drawn = [point for size, more in pairwise(powers) for point in sequence.random(more - size).tolist()]
    return drawn[:count]
