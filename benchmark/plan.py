"""Which runs each table and figure of the paper consists of. Pure: nothing here trains or reads records."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from benchmark import recipes
from benchmark.errors import UserError
from benchmark.metrics import METRICS
from benchmark.recipes import Override, Settings

LONGEST_STEM = 150  # file systems take names of 255 bytes; suffixes and temporary names need some of them


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
    """A row of a table, or a line or point of a figure: a method, how it is set, and when its biased model is read.

    ``key`` is its name in results/paper/published.csv; ``epoch`` reads a curve instead of the last epoch.
    ``published`` are the (table, method) under which the paper prints what a point of a figure shows.
    """

    key: str
    title: str
    method: str
    overrides: tuple[Override, ...] = ()
    epoch: int | None = None
    published: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: rows × tasks × metrics, all of one preset.

    ``average`` names a last column, the mean of all tasks, where the paper has one. ``overrides`` are the user's
    --set, which mark it as modified.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    average: str = ""
    overrides: tuple[Override, ...] = ()
    preset: str = recipes.PAPER

    @property
    def columns(self) -> tuple[str, ...]:
        """The tasks, and the column of their average if there is one."""
        return (*self.tasks, self.average) if self.average else self.tasks

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
        stem = "-".join((self.name, *preset, *(str(each) for each in self.overrides))).replace("/", "_")
        if len(stem) <= LONGEST_STEM:
            return stem
        return f"{stem[: LONGEST_STEM - 13]}-{hashlib.sha256(stem.encode()).hexdigest()[:12]}"

    @property
    def heading(self) -> str:
        """The name as people read it, such as "Table 2"."""
        return re.sub(r"(?<=\D)(?=\d)", " ", self.name.partition("-")[0].capitalize())

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


@dataclass(frozen=True)
class Panel:
    """A pair of axes of a figure.

    With ``x`` "epoch", a line for each row and metric of the per-epoch curves of one of its networks. Otherwise
    ``x`` is a setting as --set names it, and the rows are points: what came out at the end, over the setting.
    ``marks`` are (x, y, text) that the paper's text gives for its own task.
    """

    title: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    x: str = "epoch"
    network: Literal["target", "biased"] = "biased"
    marks: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class Figure(Table):
    """A figure: panels for each of its tasks. ``claim`` says what the paper reads from it.

    With ``stand_in``, the one task stands in for those of the paper.
    """

    panels: tuple[Panel, ...] = ()
    claim: str = ""
    stand_in: bool = False

    @property
    def stem(self) -> str:
        stem = super().stem
        return f"{stem}-{self.tasks[0]}" if self.stand_in else stem

    def on(self, task: str) -> Figure:
        """The figure with ``task`` in place of the paper's tasks."""
        return self if self.tasks == (task,) else replace(self, tasks=(task,), stand_in=True)


def _method_rows(*methods: str) -> tuple[Row, ...]:
    """A row of each method, once however often it is named."""
    return tuple(Row(method, recipes.method_title(method), method) for method in dict.fromkeys(methods))


COMPARED = _method_rows("vanilla", "focal", "lff", "jtt", "debian", "echoes", "be", "poisoner", "groupdro")
CELEBA = ("celeba_bignose", "celeba_attractive", "celeba_blond", "celeba_bags_under_eyes")
TABLES = {
    "1": Table("table1", "Debiasing on CelebA", CELEBA, COMPARED, METRICS, average="celeba_avg"),
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


def _figure(number: str, title: str, tasks: tuple[str, ...], panels: tuple[Panel, ...], claim: str) -> Figure:
    rows = {row.key: row for panel in panels for row in panel.rows}
    return Figure(f"figure{number}", title, tasks, tuple(rows.values()), METRICS, panels=panels, claim=claim)


def _sweep(
    method: str,
    setting: str,
    values: Sequence[float],
    published: dict[float, tuple[tuple[str, str], ...]] | None = None,
) -> tuple[Row, ...]:
    """A row for each value of a setting, named as --set does."""
    return tuple(
        Row(
            f"{method}-{override}",
            recipes.method_title(method),
            method,
            (override,),
            published=(published or {}).get(value, ()),
        )
        for value in values
        for override in [recipes.parse_override(f"{setting}={value}")]
    )


_ERRORS = ("conflicting_error", "aligned_error")
_ERM, _GCE = Row("erm", "ERM", "vanilla"), Row("gce", "GCE", "gce")
_POISONER = Row("poisoner", "Poisoner", "poisoner")
BALANCES = (0.05, 0.1, 0.2, 0.0, 0.75, 1.0)  # 0 is the natural balance, 0.43 on CelebA's big noses


def _balance_rows(*methods: str) -> tuple[Row, ...]:
    names = {"vanilla": ("vanilla", "erm"), "gce": ("gce",)}
    return tuple(
        row
        for method in methods
        for row in _sweep(
            method,
            "balance",
            BALANCES,
            {0.0: tuple((f"table{n}", name) for n in "123" for name in names.get(method, (method,)))},
        )
    )


FIGURES = {
    "2": _figure(
        "2",
        "What biased models learn of aligned and conflicting training samples",
        ("celeba_bignose",),
        (
            Panel("(a) ERM", (_ERM,), _ERRORS, marks=((2, 46, "paper: 46 % at epoch 2"),)),
            Panel("(b) GCE", (_GCE,), _ERRORS),
            Panel("(c) Poisoning known conflicting samples", (Row("known", "known", "known_poisoning"),), _ERRORS),
            Panel("(d) Trained on the bias", (Row("bias_labels", "bias", "bias_labels"),), _ERRORS),
        ),
        "ERM and GCE come to fit conflicting samples, after a start at which they know the bias better; poisoning "
        "known conflicting samples drives the error on them towards 100 %, like training on the bias itself.",
    ),
    "4": _figure(
        "4",
        "The biased models of GCE and Poisoner",
        ("celeba_bignose", "waterbirds"),
        (Panel("", (_GCE, _POISONER), _ERRORS),),
        "Poisoner's errors on aligned and conflicting samples part more and more, the latter ending near 100 %; "
        "GCE fits conflicting samples.",
    ),
    "5": _figure(
        "5",
        "Less and more balanced training data",
        ("celeba_bignose",),
        (
            Panel("Debiasing: bias", _balance_rows("vanilla", "lff", "poisoner"), ("model_bias",), x="balance"),
            Panel("Debiasing: accuracy", _balance_rows("vanilla", "lff", "poisoner"), ("avg_acc",), x="balance"),
            Panel(
                "Biased models",
                tuple(
                    replace(row, title=_ERM.title) if row.method == _ERM.method else row
                    for row in _balance_rows("vanilla", "gce", "poisoner")
                ),
                ("bias_acc",),
                x="balance",
            ),
        ),
        "Poisoner lowers the bias at every balance, LfF fails above 0.5 and loses accuracy; the Bias Accuracy of "
        "Poisoner's biased model is the highest throughout.",
    ),
    "6": _figure(
        "6",
        "Group-wise inverse focal loss",
        ("waterbirds",),
        (
            Panel(
                "(a) Re-weighting without GIFL",
                (TABLES["4"].rows[0],),
                ("conflicting_loss", "aligned_loss"),
                network="target",
            ),
            Panel(
                "(b) Bias over γ",
                _sweep(
                    "poisoner",
                    "poisoner.gamma",
                    (0.0, 0.25, 0.5, 0.75, 1.0),
                    {0.0: (("table4", "poisoner_without_gifl"),), 1.0: (("table4", "poisoner_with_gifl"),)},
                ),
                ("model_bias",),
                x="poisoner.gamma",
            ),
        ),
        "Without GIFL the loss of conflicting samples lies below that of aligned ones throughout and soon vanishes; "
        "the bias falls as γ goes to 1.",
    ),
    "7": _figure(
        "7",
        "Poisoner's percentile p and conflict factor λ",
        ("celeba_bignose",),
        (
            Panel(
                "Bias identification over p",
                _sweep("poisoner", "poisoner.percentile", (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)),
                ("bias_acc", "recall", "precision"),
                x="poisoner.percentile",
            ),
            Panel(
                "Debiasing over λ",
                _sweep("poisoner", "poisoner.conflict_factor", (1.0, 1.25, 1.5)),
                ("avg_acc", "worst_acc", "model_bias"),
                x="poisoner.conflict_factor",
            ),
        ),
        "Identification is good for p between 5 and 20 and suffers from larger p; debiasing does not depend much on λ "
        "between 1 and 1.5.",
    ),
}


def _reading(title: str, *settings: str, method: str = "poisoner") -> Row:
    overrides = tuple(recipes.parse_override(setting) for setting in settings)
    return Row(f"{method}-{','.join(settings)}", title, method, overrides)


def _values(name: str, setting: str, values: Sequence[float]) -> tuple[Row, ...]:
    return tuple(_reading(f"{name} = {value:g}", f"{setting}={value}") for value in values)


# What the paper leaves open, or says not to matter, one change at a time, and GIFL in a longer training too; those
# without effect on a task are the recipe's own setting there.
ABLATIONS = Table(
    "ablations",
    "Readings and settings of Poisoner",
    ("cmnist_99", "cmnist_98", "celeba_bignose", "dogs_cats"),
    (
        Row("poisoner", "as in the recipe", "poisoner"),
        _reading("one epoch of plain training before poisoning", "poisoner.warmup_epochs=1"),
        _reading("poisoning batches balanced by current labels", "poisoner.strata=poisoned"),
        _reading("second stage: plain batches", "poisoner.target_sampler=shuffled"),
        _reading("second stage: class-balanced batches", "poisoner.target_sampler=class_balanced"),
        _reading("GIFL: running means, 0.9", "poisoner.fit_momentum=0.9"),
        _reading("GIFL: running means, 0.99", "poisoner.fit_momentum=0.99"),
        Row("poisoner_plus", "Poisoner+ (ours): GIFL with κ ≤ 1", "poisoner_plus"),
        _reading("Poisoner+: running means, 0.99", "poisoner_plus.fit_momentum=0.99", method="poisoner_plus"),
        _reading("inputs in [0, 1]", "mean=[0.0, 0.0, 0.0]", "std=[1.0, 1.0, 1.0]"),
        *(
            row
            for length in (50, 100)
            for row in (
                _reading(f"{length} epochs", f"epochs={length}"),
                _reading(f"{length} epochs, γ = 0", f"epochs={length}", "poisoner.gamma=0.0"),
                _reading(f"{length} epochs, Poisoner+", f"epochs={length}", method="poisoner_plus"),
            )
        ),
        *_values("γ", "poisoner.gamma", (0.0, 0.5)),
        *_values("λ", "poisoner.conflict_factor", (1.0, 1.5)),
        *_values("p", "poisoner.percentile", (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)),
    ),
    ("bias_acc", *METRICS),
)
# What the paper does not name, hence without published numbers.
BEYOND = Table(
    "beyond",
    "Debiasing on other tasks",
    ("dogs_cats_99", "waterbirds_layout"),
    (*COMPARED, *_method_rows("poisoner_plus")),
    METRICS,
)
OURS = {table.name: table for table in (ABLATIONS, BEYOND)}  # by the names that --table takes
QUICK = Table("quick", "All methods on the embedded digits", ("colored_digits",), COMPARED, METRICS)


def selection(tasks: Iterable[str], methods: Iterable[str]) -> Table:
    """A table of any tasks and methods, for runs outside the paper's tables; other tasks have another file."""
    tasks = tuple(dict.fromkeys(tasks))
    return Table("-".join(("selection", *tasks)), "Selected tasks and methods", tasks, _method_rows(*methods), METRICS)


def with_methods(table: Table, methods: Sequence[str]) -> Table:
    """The table with a row added for each method it lacks, so that a new method stands beside the paper's."""
    present = {row.method for row in table.rows}
    added = _method_rows(*(method for method in methods if method not in present))
    return replace(table, rows=(*table.rows, *added))


def check_table(number: str) -> Table:
    """The paper's table of that number, or one of ours by its name. Raises UserError for another."""
    known = TABLES | OURS
    if number not in known:
        raise UserError(f"There is no table {number}: the paper's are {', '.join(TABLES)}, ours {', '.join(OURS)}.")
    return known[number]


def check_figure(number: str) -> Figure:
    """The paper's figure of that number. Raises UserError for one that holds no measurement, or is not there."""
    if number not in FIGURES:
        raise UserError(f"There is no figure {number}: those of the paper that show runs are {', '.join(FIGURES)}.")
    return FIGURES[number]


def variants() -> Iterator[Table]:
    """Our tables in all presets, the paper's in every other preset, and its figures in all presets on all tasks."""
    for preset in recipes.all_presets():
        papers = () if preset == recipes.PAPER else TABLES.values()
        yield from (replace(table, preset=preset) for table in (*papers, *OURS.values()))
        for figure in FIGURES.values():
            yield from (
                replace(figure.on(task), preset=preset) for task in recipes.tables()[0] if (task,) != figure.tasks
            )
            if preset != recipes.PAPER:
                yield replace(figure, preset=preset)
