"""Reading a results folder into the one object that all rendering takes, by the recipes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import groupby

import msgspec

from benchmark.errors import UserError
from benchmark.plan import ours
from benchmark.plan.paper import AVERAGES, COMPARED
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import Run
from benchmark.plan.search import SEED
from benchmark.plan.table import Override, Row, Table
from benchmark.rules import REPORTED, Rule
from benchmark.store.record import Record
from benchmark.store.results import Names, Results, Series
from benchmark.store.store import Store


def collect(store: Store, recipes: Recipes, rule: Rule = REPORTED, failed: Mapping[str, str] | None = None) -> Results:
    """Everything that is stored, folders of one's own among the tasks, to be shown in the epochs of a rule.

    A damaged record is set aside and said, and stops nothing else. ``failed`` are the store's failures where they have
    been read already.
    """

    @cache
    def identify(task: str, method: str, overrides: tuple[Override, ...], preset: str) -> str | None:
        try:
            return Run(recipes.resolve(task, method, overrides, preset), 0).series
        except UserError:
            return None

    failures: dict[str, dict[int, str]] = {}
    points: dict[str, Record | str] = {}
    digests: dict[str, str] = {}
    for run, reason in (store.failures() if failed is None else failed).items():
        name, _, seed = run.rpartition("-s")
        if seed == str(SEED):
            points[run] = reason
        elif seed.isdecimal():
            failures.setdefault(name, {})[int(seed)] = reason

    def reported() -> Iterator[Record]:
        for record, digest in store.contents():
            digests[record.run.id] = digest
            if record.seed == SEED:
                points[record.run.id] = record
            else:
                yield record

    series = {
        name: _series(name, _shared(sorted(records, key=lambda record: record.seed)), failures.get(name, {}), recipes)
        for name, records in groupby(reported(), lambda record: record.run.series)
    }
    recipes = _with_folders(series.values(), recipes)
    alone = {name: Series(name, failures=failed) for name, failed in failures.items() if name not in series}
    series |= alone
    return Results(store.folder, _names(recipes, series.values()), series, identify, rule, points, digests)


def own_tables(results: Results, recipes: Recipes) -> Iterator[Table]:
    """A table of each task that is a folder of one's own, in each preset and with each --set of what is measured.

    A method has a row for each choice of its options, its recipe first.
    """
    found: dict[tuple[str, str, tuple[Override, ...]], list[Row]] = {}
    for series in results.series.values():
        if not series.records or series.changes is None or series.task in recipes.tasks:
            continue
        preset, method = series.records[0].preset, series.method
        of_method = tuple(each for each in series.changes if each.owner == method)
        of_all = tuple(each for each in series.changes if each.owner != method)
        if results.find(series.task, method, series.changes, preset).id == series.id:  # of its labels as they are now
            options = ", ".join(map(str, of_method))
            title = f"{results.names.methods[method]} ({options})"
            row = Row(f"{method}-{options}", method, title, of_method) if options else Row(method, method)
            found.setdefault((series.task, preset, of_all), []).append(row)
    methods = list(results.names.methods)
    for (task, preset, overrides), rows in found.items():
        order = sorted(
            rows, key=lambda row: (methods.index(row.method), [(each.key, each.value) for each in row.overrides])
        )
        yield replace(
            ours.selection([task], [row.method for row in COMPARED]),
            rows=tuple(order),
            preset=preset,
            overrides=overrides,
        )


def _with_folders(every: Iterable[Series], recipes: Recipes) -> Recipes:
    """The recipes with the tasks that records name and they lack, each with the labels of its newest record."""
    newest: dict[str, Record] = {}
    for record in (record for series in every for record in series.records):
        known = newest.setdefault(record.task, record)
        if record.provenance.finished > known.provenance.finished:
            newest[record.task] = record
    for task, record in newest.items():
        if task not in recipes.tasks:
            recipes = recipes.with_folder_of(record.settings)
    return recipes


def _names(recipes: Recipes, every: Iterable[Series]) -> Names:
    """What the recipes call everything, and what methods use, by their records, too."""
    uses = {method: recipes.uses(method) for method in recipes.methods}
    for record in (record for series in every for record in series.records):
        if record.uses:
            uses[record.method] = uses.get(record.method, frozenset()) | record.uses
    return Names(
        AVERAGES | {task: recipes.task_title(task) for task in recipes.tasks},
        {method: recipes.method_title(method) for method in recipes.methods},
        uses,
        {task: recipes.presets(task) for task in recipes.tasks},
    )


def _shared(records: Iterable[Record]) -> list[Record]:
    """The records of a series with one copy of what all of them hold, which is a third of their space."""
    shared: list[Record] = []
    for record in records:
        first = shared[0] if shared else record
        groups = first.groups if first.groups == record.groups else record.groups
        shared.append(msgspec.structs.replace(record, settings=first.settings, groups=groups))
    return shared


def _series(name: str, records: list[Record], failures: dict[int, str], recipes: Recipes) -> Series:
    settings = records[0].settings
    try:
        recipes = recipes.with_folder_of(settings)
        changes = recipes.changes(settings)
        again = recipes.resolve(settings["task"], settings["method"], changes, settings["preset"])
    except (UserError, KeyError):  # a task or method of somebody's own, or settings of an older version
        return Series(name, tuple(records), failures, None)
    return Series(name, tuple(records), failures, changes, older=Run(again, 0).series != name)
