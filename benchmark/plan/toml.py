"""What recipes.toml must look like, so that a slip in it is a sentence and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec

from benchmark.errors import UserError
from benchmark.plan.ranges import Range

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Title = Annotated[str, msgspec.Meta(min_length=1)]


class Preset(TypedDict, total=False):
    """What a table of a task may set, and of which kind that is; more than these, a network's options for instance."""

    like: str
    dataset: str
    network: str
    epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_decay: float
    schedule: str
    warmup: float
    optimizer: str
    momentum: float
    weight_decay: float
    balance: float
    crop_padding: int
    crop_scale: float
    precision: str
    measure_every: int
    mean: list[float]
    std: list[float]
    data: dict[str, Any]
    method: dict[str, dict[str, Any]]


class Task(Preset, total=False):
    title: Title
    preset: dict[str, Preset]


class Method(TypedDict, total=False):
    title: Title
    search: dict[str, Range]
    like: str
    uses_bias_labels: bool
    uses_validation: bool
    uses_validation_bias: bool


# What every task has, by itself or from the one that it is like.
NEEDED = ("dataset", "network", "epochs", "batch_size", "learning_rate", "weight_decay", "mean", "std", "data")


def read(path: Path) -> dict[str, Any]:
    """The content of recipes.toml. Raises UserError, naming the table, where it cannot be what it should be."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): restore it.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is no valid TOML ({error}): correct it.") from error
    _check(path, "every_task", content.get("every_task"), Preset)
    _check(path, "folder", content.get("folder"), Task)
    _check(path, "search", content.get("search"), dict[str, Range])
    for kind, form in (("task", Task), ("method", Method)):
        tables = content.get(kind, {})
        _check(path, kind, tables or None, dict[str, Any])
        for name, table in tables.items():
            _check(path, f"{kind}.{name}", table, form)
            if "title" not in table:
                raise UserError(f"{path}: [{kind}.{name}] has no title, which tables call it by: add it.")
            _check_likeness(path, kind, name, tables)
            if strange := [key for key in table.get("search", {}) if kind == "method" and key not in table]:
                raise UserError(f"{path}: [{kind}.{name}] has no {strange[0]} that could be searched: correct it.")
    return content


def _check(path: Path, name: str, table: Any, form: Any) -> None:
    if table is None:
        raise UserError(f"{path} has no [{name}]: add it.")
    try:
        msgspec.convert(table, form)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: [{name}] is not what it should be ({error}): correct it.") from error


def _check_likeness(path: Path, kind: str, name: str, tables: Mapping[str, Any]) -> None:
    """Raises UserError where a table is like one that does not exist, or in the end like itself."""
    seen = [name]
    while like := tables[seen[-1]].get("like"):
        if like not in tables:
            raise UserError(f"{path}: [{kind}.{seen[-1]}] is like '{like}', which does not exist.")
        if like in seen:
            raise UserError(f"{path}: [{kind}.{name}] is like itself, by {' and '.join(seen[1:] or seen)}: correct it.")
        seen.append(like)


def check_complete(path: Path, task: str, settings: Mapping[str, Any]) -> None:
    """Raises UserError where a task lacks what every task has."""
    if missing := [key for key in NEEDED if key not in settings]:
        raise UserError(f"{path}: [task.{task}] has no {', '.join(missing)}: add it.")
