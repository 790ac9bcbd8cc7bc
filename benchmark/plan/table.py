"""Tables and figures as plain data: which methods, tasks and metrics they consist of. Nothing here knows recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from benchmark.plan.run import PAPER
from benchmark.quoting import file_name

if TYPE_CHECKING:
    from typing import Self

COMPARISONS = ("beside", "apart")
"""Where the paper's numbers stand: beside the measured ones, or in a table of their own."""


def as_set(value: object) -> str:
    """A setting's value as --set takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Override:
    """One ``--set``: ``owner`` is "" (every run), "data" or a method's name; a list's ``value`` is a tuple."""

    owner: str
    key: str
    value: Any

    @property
    def name(self) -> str:
        return f"{self.owner}.{self.key}" if self.owner else self.key

    def __str__(self) -> str:
        return f"{self.name}={as_set(self.value)}"


@dataclass(frozen=True)
class Row:
    """A row of a table, or a line or point of a figure: a method, how it is set, and when its biased model is read.

    ``key`` is its name in results/paper/published.csv; without a ``title`` it has its method's. ``epoch`` reads a
    curve instead of the last epoch. ``published`` are the (table, method) under which the paper prints what a point of
    a figure shows.
    """

    key: str
    method: str
    title: str = ""
    overrides: tuple[Override, ...] = ()
    epoch: int | None = None
    published: tuple[tuple[str, str], ...] = ()

    def sets(self, override: Override) -> bool:
        """Whether the row itself sets what the override, of runs of its method, would change."""
        key, is_of_data = override.key, override.owner == "data"
        return any(each.key == key and (each.owner == "data") == is_of_data for each in self.overrides)


@dataclass(frozen=True)
class Table:
    """A table: rows × tasks × metrics, all of one preset.

    ``number`` is the paper's, for its own tables. ``average`` names a last column, the mean of all tasks, where the
    paper has one. ``overrides`` are the user's --set, which mark the table as modified.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    average: str = ""
    overrides: tuple[Override, ...] = ()
    preset: str = PAPER
    number: str = ""

    KIND: ClassVar[str] = "Table"

    @property
    def columns(self) -> tuple[str, ...]:
        """The tasks, and the column of their average if there is one."""
        return (*self.tasks, self.average) if self.average else self.tasks

    def tasks_of(self, column: str) -> tuple[str, ...]:
        """The tasks whose numbers a column shows: itself, or all for their average."""
        return self.tasks if column == self.average else (column,)

    def changes_of(self, row: Row) -> tuple[Override, ...]:
        """What sets a row's runs apart from the recipe: the user's --set, then what names the row, which decides."""
        return (*self.overrides, *row.overrides)

    def only(self, wanted: Callable[[Row], bool]) -> Self:
        """The table without the rows that are not wanted."""
        return replace(self, rows=tuple(filter(wanted, self.rows)))

    @property
    def modified(self) -> str:
        """What sets the table apart from the paper's, its preset and overrides, or nothing."""
        if self.overrides:
            return f"modified: {', '.join((self.preset, *map(str, self.overrides)))}"
        return "" if self.preset == PAPER else f"{self.preset} preset"

    @property
    def stem(self) -> str:
        """File name without suffix; a table of another preset or modified never takes the place of the paper's."""
        preset = () if self.preset == PAPER else (self.preset,)
        return file_name("-".join((self.name, *preset, *map(str, self.overrides))))

    def stem_on(self, task: str) -> str:
        """The same of a picture of one of its tasks."""
        return file_name(f"{self.stem}-{task}")

    @property
    def heading(self) -> str:
        """The name as people read it, such as "Table 2"."""
        return f"{self.KIND} {self.number}" if self.number else self.name.partition("-")[0].capitalize()

    @property
    def full_title(self) -> str:
        """The heading with the title, and what sets the table apart from the paper's."""
        return f"{self.heading}: {self.title}" + (f" ({self.modified})" if self.modified else "")


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

    ``own_tasks`` are the paper's, in whose place the one task stands in where it is another.
    """

    panels: tuple[Panel, ...] = ()
    claim: str = ""
    own_tasks: tuple[str, ...] = ()

    KIND: ClassVar[str] = "Figure"

    @property
    def stand_in(self) -> bool:
        return self.tasks != self.own_tasks

    @property
    def stem(self) -> str:
        stem = super().stem
        return file_name(f"{stem}-{self.tasks[0]}") if self.stand_in else stem

    def only(self, wanted: Callable[[Row], bool]) -> Self:
        panels = tuple(replace(each, rows=tuple(filter(wanted, each.rows))) for each in self.panels)
        return replace(super().only(wanted), panels=panels)

    def on(self, task: str) -> Figure:
        """The figure with ``task`` in place of the paper's tasks."""
        return replace(self, tasks=(task,))


def method_rows(*methods: str) -> tuple[Row, ...]:
    """A row of each method, once however often it is named."""
    return tuple(Row(method, method) for method in dict.fromkeys(methods))


def with_methods(table: Table, methods: tuple[str, ...]) -> Table:
    """The table with a row added for each method it lacks, so that a new method stands beside the paper's."""
    present = {row.method for row in table.rows}
    added = method_rows(*(method for method in methods if method not in present))
    return replace(table, rows=(*table.rows, *added))
