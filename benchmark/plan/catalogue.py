"""Every table and figure there is, by the names that people ask for, and the runs that they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from benchmark.errors import UserError
from benchmark.plan.ours import OURS
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import PAPER, Run
from benchmark.plan.table import Figure, Row, Table


def table(number: str) -> Table:
    """The paper's table of that number, or one of ours by its name. Raises UserError for another."""
    known = TABLES | OURS
    if number not in known:
        raise UserError(f"There is no table {number}: the paper's are {', '.join(TABLES)}, ours {', '.join(OURS)}.")
    return known[number]


def figure(number: str) -> Figure:
    """The paper's figure of that number. Raises UserError for one that holds no measurement, or is not there."""
    if number not in FIGURES:
        raise UserError(f"There is no figure {number}: those of the paper that show runs are {', '.join(FIGURES)}.")
    return FIGURES[number]


def variants(recipes: Recipes) -> Iterator[Table]:
    """Our tables in all presets, the paper's in every other preset, and its figures in all presets on all tasks."""
    for preset in recipes.all_presets:
        papers = () if preset == PAPER else TABLES.values()
        yield from (replace(each, preset=preset) for each in (*papers, *OURS.values()))
        for each in FIGURES.values():
            yield from (replace(each.on(task), preset=preset) for task in recipes.tasks if (task,) != each.tasks)
            if preset != PAPER:
                yield replace(each, preset=preset)


def cells(
    recipes: Recipes, table: Table, tasks: Sequence[str] = (), methods: Sequence[str] = ()
) -> Iterator[tuple[Row, str]]:
    """The table's rows on each of its tasks that has a recipe; all tasks and methods if none."""
    return (
        (row, task)
        for task in recipes.available(table)
        for row in table.rows
        if (not tasks or task in tasks) and (not methods or row.method in methods)
    )


def runs(
    recipes: Recipes,
    tables: Iterable[Table],
    seeds: Iterable[int],
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
) -> list[Run]:
    """The runs of the tables, each once, seed by seed so that a table fills evenly; all tasks and methods if none."""
    found = (
        recipes.run(table, row, task, seed)
        for table in tables
        for seed in seeds
        for row, task in cells(recipes, table, tasks, methods)
    )
    return list({run.id: run for run in found}.values())
