"""Where each setting of a run comes from: the table that sets it, and the source that stands beside it there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmark.plan.recipes import RECIPES, Recipes
from benchmark.plan.run import Settings
from benchmark.plan.table import Override


@dataclass(frozen=True)
class Setting:
    """A setting of a run as --set names it, its value, the table that set it last, and what that says of its source."""

    name: str
    value: Any
    where: str
    source: str


def settings(recipes: Recipes, task: str, method: str, overrides: Iterable[Override], preset: str) -> Iterator[Setting]:
    """Every setting of a run, those of the loop first. Raises UserError for a name that does not exist."""
    method, overrides = recipes.check_method(method), tuple(overrides)
    set_by: dict[str, str] = {}
    for layer in recipes.layers(task, method, overrides, preset):
        set_by |= {name: layer.where for name, _ in _flat(layer.settings, method)}
    comments = _comments()
    for name, value in _flat(recipes.resolve(task, method, overrides, preset), method):
        if where := set_by[name]:
            key = f"{where[1:-1]}.{name.removeprefix(f'{method}.')}"
            yield Setting(name, value, where, comments.get(key) or comments.get(key.rpartition(".")[0], ""))


def _flat(settings: Settings, method: str) -> Iterator[tuple[str, Any]]:
    prefixes = {"data": "data.", "options": f"{method}."}
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{prefixes[key]}{inner}", each) for inner, each in value.items())
        else:
            yield key, value


def _comments() -> dict[str, str]:
    """What stands behind each key of recipes.toml, by its full name; a parser of TOML would drop it."""
    found, table = {}, ""
    for line in RECIPES.read_text(encoding="utf-8").splitlines():
        if head := re.match(r"\[(.+?)\]", line):
            table = head[1]
        elif key := re.match(r"([\w.]+) *=.*?# *(.+)", line):
            found[f"{table}.{key[1]}"] = key[2]
    return found
