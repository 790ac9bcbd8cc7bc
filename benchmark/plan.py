"""Which runs each table of the paper consists of. Pure: nothing here trains, reads records or imports torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from benchmark import recipes
from benchmark.errors import UserError
from benchmark.metrics import METRICS
from benchmark.recipes import Override, Settings


@dataclass(frozen=True)
class Run:
    """One training: resolved settings and a seed."""

    settings: Settings
    seed: int

    @property
    def task(self) -> str:
        return self.settings["task"]

    @property
    def method(self) -> str:
        return self.settings["method"]

    @property
    def preset(self) -> str:
        return self.settings.get("preset", recipes.PAPER)

    @cached_property
    def digest(self) -> str:
        """Short hash of exactly what decides the numbers, the seed apart."""
        canonical = json.dumps(self.settings, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def id(self) -> str:
        """``task/method/hash-sSEED``, the run's place under results/runs."""
        return f"{self.task}/{self.method}/{self.digest}-s{self.seed}"

    def __str__(self) -> str:
        return f"{self.task}/{self.method} seed {self.seed}"


@dataclass(frozen=True)
class Row:
    """A row of a table: a method, how it is set, and when its biased model is read.

    ``key`` is its name in results/paper/published.csv; ``epoch`` reads a curve instead of the last epoch.
    """

    key: str
    title: str
    method: str
    overrides: tuple[Override, ...] = ()
    epoch: int | None = None


@dataclass(frozen=True)
class Table:
    """A table: rows × tasks × metrics, all of one preset.

    ``overrides`` are the user's --set, which mark it as modified.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    overrides: tuple[Override, ...] = ()
    preset: str = recipes.PAPER

    @property
    def modified(self) -> str:
        """What sets the table apart from the paper's, its preset and overrides, or nothing."""
        if self.overrides:
            return f"modified: {', '.join((self.preset, *(str(each) for each in self.overrides)))}"
        return "" if self.preset == recipes.PAPER else f"{self.preset} preset"

    @property
    def stem(self) -> str:
        """File name without suffix; a table of another preset or modified never takes the place of the paper's."""
        preset = () if self.preset == recipes.PAPER else (self.preset,)
        return "-".join((self.name, *preset, *(str(each) for each in self.overrides))).replace("/", "_")

    @property
    def heading(self) -> str:
        """The name as people read it, such as "Table 2"."""
        return self.name.capitalize().replace("Table", "Table ")

    @property
    def available_tasks(self) -> tuple[str, ...]:
        """The tasks that have a recipe in the table's preset."""
        known = recipes.tables()[0]
        return tuple(task for task in self.tasks if task in known and self.preset in recipes.presets(task))

    def run(self, row: Row, task: str, seed: int) -> Run:
        return Run(recipes.resolve(task, row.method, (*row.overrides, *self.overrides), self.preset), seed)

    def runs(self, seeds: Iterable[int], tasks: Sequence[str], methods: Sequence[str]) -> list[Run]:
        """The runs of the given tasks and methods, each once, seed by seed so that a table fills evenly."""
        runs = {
            run.id: run
            for seed in seeds
            for task in self.available_tasks
            for row in self.rows
            if task in tasks and row.method in methods
            for run in [self.run(row, task, seed)]
        }
        return list(runs.values())


def _method_rows(*methods: str) -> tuple[Row, ...]:
    return tuple(Row(method, recipes.method_title(method), method) for method in methods)


COMPARED = _method_rows("vanilla", "focal", "lff", "jtt", "debian", "echoes", "be", "poisoner", "groupdro")
CELEBA = ("celeba_bignose", "celeba_attractive", "celeba_blond", "celeba_bags_under_eyes")
TABLES = {
    "1": Table("table1", "Debiasing on CelebA", CELEBA, COMPARED, METRICS),
    "2": Table(
        "table2",
        "Debiasing on further tasks",
        ("waterbirds", "dogs_cats", "cmnist_99", "cmnist_98", "imagenet_b"),
        COMPARED,
        METRICS,
    ),
    "3": Table(
        "table3",
        "Bias Accuracy of biased models",
        (*CELEBA, "waterbirds", "dogs_cats", "cmnist_99", "imagenet_b"),
        (
            Row("erm", "ERM", "vanilla"),
            Row("erm_stop_epoch2", "ERM, epoch 2", "vanilla", epoch=2),
            Row("gce", "GCE", "gce"),
            Row("gce_stop_epoch2", "GCE, epoch 2", "gce", epoch=2),
            Row("poisoner", "Poisoner", "poisoner"),
        ),
        ("bias_acc",),
    ),
    "4": Table(
        "table4",
        "Poisoner without and with GIFL",
        ("celeba_bignose", "waterbirds", "dogs_cats", "cmnist_99", "imagenet_b"),
        (
            Row("poisoner_without_gifl", "without GIFL", "poisoner", (Override("poisoner", "gamma", 0.0),)),
            Row("poisoner_with_gifl", "with GIFL", "poisoner"),
        ),
        ("model_bias", "avg_acc"),
    ),
}
QUICK = Table("quick", "All methods on the embedded digits", ("colored_digits",), COMPARED, METRICS)


def selection(tasks: Sequence[str], methods: Sequence[str]) -> Table:
    """A table of any tasks and methods, for runs outside the paper's tables."""
    return Table("selection", "Selected tasks and methods", tuple(tasks), _method_rows(*methods), METRICS)


def with_methods(table: Table, methods: Sequence[str]) -> Table:
    """The table with a row added for each method it lacks, so that a new method stands beside the paper's."""
    present = {row.method for row in table.rows}
    added = _method_rows(*(method for method in methods if method not in present))
    return replace(table, rows=(*table.rows, *added))


def check_table(number: str) -> Table:
    """The paper's table of that number. Raises UserError for another number."""
    if number not in TABLES:
        raise UserError(f"There is no table {number}: the paper's are {', '.join(TABLES)}.")
    return TABLES[number]
