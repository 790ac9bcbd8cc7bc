"""Where each setting of a run comes from: the table that sets it, and the source that stands beside it there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmark.plan.recipes import RECIPES, Recipes
from benchmark.plan.run import Settings
from benchmark.plan.table import Override

HEAD = re.compile(r"\s*\[(?P<table>[\w.-]+)\]")
# A key, its value, or the beginning of one of several lines, and what stands behind "#" outside of strings.
ENTRY = re.compile(r"""\s*(?P<key>[\w.-]+)\s*=(?:"[^"]*"|'[^']*'|[^"'#])*#(?P<comment>.*)""")


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
    comments = _comments(RECIPES.read_text(encoding="utf-8"))
    for name, value in _flat(resolved, method):
        if where := set_by[name]:
            path = f"{where.strip('[]')}.{name.removeprefix(f'{method}.')}"
            # A table on one line has one comment for all of its keys.
            source = comments.get(path) or comments.get(path.rpartition(".")[0], "")
            yield Setting(name, value, where, source)


def _flat(settings: Settings, method: str) -> Iterator[tuple[str, Any]]:
    prefixes = {"data": "data.", "options": f"{method}."}
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{prefixes[key]}{inner}", each) for inner, each in value.items())
        else:
            yield key, value


def _comments(text: str) -> dict[str, str]:
    """The comment behind each key of the recipes, by the dotted name of table and key."""
    found: dict[str, str] = {}
    table = ""
    for line in text.splitlines():
        if head := HEAD.match(line):
            table = head["table"]  # what stands behind it is about all of its keys
        elif entry := ENTRY.match(line):
            found[f"{table}.{entry['key']}"] = entry["comment"].strip()
    return found
