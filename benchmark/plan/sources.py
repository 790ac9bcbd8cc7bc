"""Where each setting of a run comes from: the table that sets it, and the source that stands beside it there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import Table

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
    method = recipes.check_method(method)
    resolved = recipes.resolve(task, method, overrides, preset)
    set_by: dict[str, str] = {}
    for layer in recipes.layers(task, method, overrides, preset):
        if "dataset" in layer.settings:
            set_by = {name: where for name, where in set_by.items() if not name.startswith("data.")}
        set_by |= {name: layer.where for name, _ in _flat(layer.settings, method)}
    document = tomlkit.parse(RECIPES.read_text(encoding="utf-8"))
    for name, value in _flat(resolved, method):
        if where := set_by[name]:
            yield Setting(name, value, where, _comment(document, where, name.removeprefix(f"{method}.")))


def _flat(settings: Settings, method: str) -> Iterator[tuple[str, Any]]:
    prefixes = {"data": "data.", "options": f"{method}."}
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{prefixes[key]}{inner}", each) for inner, each in value.items())
        else:
            yield key, value


def _comment(document: tomlkit.TOMLDocument, where: str, name: str) -> str:
    """The comment behind a key of a table, without its mark; nothing for --set."""
    item: Any = document
    comment = ""
    for part in (*where.strip("[]").split("."), *name.split(".")):
        container = item if isinstance(item, Container) else item.value
        if not isinstance(container, Container) or part not in container:
            return ""
        item = container.item(part)
        if not isinstance(item, Table):  # what stands behind a table's head is about all of it
            comment = item.trivia.comment or comment
    return comment.removeprefix("#").strip()
