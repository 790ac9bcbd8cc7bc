"""A results folder as it was read once: what all rendering takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.metrics import FAIRNESS
from benchmark.plan.code import VERSIONS
from benchmark.plan.run import PAPER, Settings
from benchmark.plan.table import Override, Row, Table, with_methods
from benchmark.plan.uses import MARKS, OF_BIAS, told
from benchmark.rules import REPORTED, Rule
from benchmark.store.record import Record

CORRELATION = re.compile(r"ρ = [\d.]+")  # in the title of a task


@dataclass(frozen=True)
class Names:
    """What the recipes call tasks and methods, and the presets of each task.

    ``uses`` is what each method uses (``plan.uses``): by the recipes, and by the class that was trained, as its records
    say.
    """

    tasks: Mapping[str, str]
    methods: Mapping[str, str]
    uses: Mapping[str, frozenset[str]]
    presets: Mapping[str, tuple[str, ...]]

    @property
    def all_presets(self) -> tuple[str, ...]:
        """Every preset that some task has, the paper's first."""
        return tuple(dict.fromkeys((PAPER, *(preset for presets in self.presets.values() for preset in presets))))


@dataclass(frozen=True)
class Series:
    """What is stored of the seeds of the same settings: records in order of their seeds, and why others failed.

    ``failures`` are reasons by the seed. ``changes`` lead from the recipe of the task, method and preset to these
    settings; None where there is no such recipe. ``older`` is true for settings that no --set of today can reach.
    """

    id: str
    records: tuple[Record, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    changes: tuple[Override, ...] | None = ()
    older: bool = False

    def __len__(self) -> int:
        return len(self.records)

    @property
    def task(self) -> str:
        return self.id.split("/")[0]

    @property
    def method(self) -> str:
        return self.id.split("/")[1]

    @property
    def apart(self) -> tuple[str, ...]:
        """What sets the runs apart from their recipe, in words that no other series of the method has; else nothing."""
        digest = self.id.rpartition("/")[2]
        if self.changes is None:
            return (f"no recipe here, {digest}",)
        return (*map(str, self.changes), *((f"older recipe, {digest}",) if self.older else ()))

    @property
    def settings(self) -> Settings:
        return self.records[0].settings


@dataclass(frozen=True, eq=False)
class Results:
    """All series of a results folder, by ``task/method/hash``.

    ``identify`` gives that name for a task, a method, overrides and a preset, or None where there is no such recipe.
    ``rule`` chooses the epoch that is shown of each run. ``points`` are the records and failures of searches, by run:
    no series has them, since what was chosen among them is better there by that choice alone. ``digests`` are the
    SHA-256 of the files of all these records, by run.
    """

    folder: Path
    names: Names
    series: Mapping[str, Series]
    identify: Callable[[str, str, tuple[Override, ...], str], str | None]
    rule: Rule = REPORTED
    points: Mapping[str, Record | str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def part(self, table: Table, tasks: Sequence[str], more: Sequence[Row] = ()) -> Results:
        """The results as if nothing else were stored than what the table, and ``more`` rows, show of these tasks.

        Tasks that are called by the correlation of their data are called by the one that the table sets.
        """
        cells = {self.cell(table, row, task).id for task in tasks for row in (*table.rows, *more)}
        series = {name: each for name, each in self.series.items() if name in cells}
        titles = dict(self.names.tasks)
        for override in table.overrides:
            if override.name == "data.ratio":
                titles |= {task: CORRELATION.sub(f"ρ = {override.value:g}", titles.get(task, task)) for task in tasks}
        return replace(self, series=series, points={}, names=replace(self.names, tasks=titles))

    @cached_property
    def content(self) -> tuple[Any, ...]:
        """All that is told here, as plain data: how things are called, the rule, digests of records, and failures."""
        every = [
            (each.id, sorted(each.failures.items()), [self._told(one) for one in each.records])
            for each in self.series.values()
        ]
        points = {run: each if isinstance(each, str) else self._told(each) for run, each in self.points.items()}
        return self.names, self.rule.name, every, points

    @property
    def sources(self) -> Iterator[str]:
        """The digests of all records that are told of here."""
        points = (each for each in self.points.values() if isinstance(each, Record))
        return (self.digests[record.run.id] for record in (*self.records, *points))

    def _told(self, record: Record) -> tuple[int, str]:
        return record.seed, self.digests[record.run.id]

    def find(self, task: str, method: str, overrides: tuple[Override, ...], preset: str) -> Series:
        """The series of these settings, empty where nothing is stored of it."""
        name = self.identify(task, method, overrides, preset)
        return self.series.get(name, Series(name)) if name else Series("")

    def cell(self, table: Table, row: Row, task: str) -> Series:
        """What is stored of a table's row on a task."""
        return self.find(task, row.method, table.changes_of(row), table.preset)

    def source(self, table: Table, row: Row, task: str) -> tuple[str, int | None]:
        """What a row shows on a task, by its series and the epoch that it names: equal for rows of the same numbers."""
        return self.cell(table, row, task).id, row.epoch

    def with_own_methods(self, table: Table) -> Table:
        """A table that compares methods, with rows of those that are none of the suite's and have records in it."""
        if not {*FAIRNESS} <= {*table.metrics} or any(row.overrides for row in table.rows):
            return table
        own = (method for method in self.names.methods if method not in VERSIONS)
        measured = (
            method
            for method in own
            if any(len(self.find(task, method, table.overrides, table.preset)) for task in table.tasks)
        )
        return with_methods(table, tuple(measured))

    def name(self, stem: str) -> str:
        """A file's name without suffix: numbers under another rule never take the place of those of the usual one."""
        return stem if self.rule is REPORTED else f"{stem}-{self.rule.name}"

    def measured(self, table: Table, task: str) -> bool:
        """Whether any row of the table has a record on the task."""
        return any(len(self.cell(table, row, task)) for row in table.rows)

    def records_of(self, table: Table, tasks: Sequence[str]) -> list[Record]:
        """The records of all the table's rows on these tasks."""
        return [record for task in tasks for row in table.rows for record in self.cell(table, row, task).records]

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Every record, in order of their ids."""
        return tuple(record for series in self.series.values() for record in series.records)

    def available(self, table: Table) -> Iterator[str]:
        """The table's tasks that have a recipe in its preset."""
        return (task for task in table.tasks if table.preset in self.names.presets.get(task, ()))

    def task_title(self, task: str) -> str:
        """How a task is called; a folder of one's own by its name."""
        return self.names.tasks.get(task, task)

    def row_title(self, row: Row) -> str:
        """How a row is called: by its own title, or else its method's."""
        return row.title or self.names.methods.get(row.method, row.method)

    def marked_title(self, row: Row) -> str:
        """The row's title, with the marks of what its method uses."""
        return self.row_title(row) + self.mark(row.method)

    @cached_property
    def use_bias_labels(self) -> frozenset[str]:
        """The methods that use bias labels, be it of training or of validation images."""
        return frozenset(method for method, uses in self.names.uses.items() if uses & OF_BIAS)

    def mark(self, method: str) -> str:
        """The marks of what a method uses, or nothing."""
        return "".join(MARKS[each] for each in told(self.names.uses.get(method, ())))
