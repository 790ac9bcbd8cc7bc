"""The recipes: every task's and method's settings as recipes.toml has them, resolved to the settings of one run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from benchmark.errors import UserError, unknown
from benchmark.plan import limits, toml
from benchmark.plan.ranges import Range
from benchmark.plan.run import PAPER, Run, Settings, without_effect
from benchmark.plan.table import Override, Row, Table, as_set
from benchmark.plan.uses import MARKS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parents[1] / "recipes.toml"
# Keys of a method's table that describe it rather than set anything.
DESCRIPTIVE = ("title", *MARKS, "like", "search")
# Other names under which a method may be asked for: Table 3 calls plain training ERM.
ALIASES = {"erm": "vanilla"}
# What names the data of a folder of one's own, which --dataset and --bias say: no --set changes these settings.
OF_FOLDER = ("folder", "labels", "bias")


@cache
def load() -> Recipes:
    """The recipes of recipes.toml. Raises UserError where it is no TOML, or a table is not what it should be."""
    content = toml.read(RECIPES)
    recipes = Recipes(content["task"], content["method"], content["every_task"], content["folder"], content["search"])
    for task in recipes.tasks:
        for preset in recipes.presets(task):
            try:
                toml.check_complete(RECIPES, task, recipes.task_settings(task, preset))
            except RecursionError:
                raise UserError(f"{RECIPES}: [task.{task}.preset.{preset}] is like itself: correct it.") from None
    return recipes


@dataclass(frozen=True)
class Layer:
    """A table of the recipes as far as it concerns one run: where it stands, and the settings that it sets."""

    where: str
    settings: Settings


@dataclass(frozen=True)
class Recipes:
    """Tables of tasks and methods by name; ``common`` is what every task starts from, ``own`` what a folder does.

    ``search`` are the ranges of settings that a search chooses for every method.
    """

    _tasks: Mapping[str, Settings]
    _methods: Mapping[str, Settings]
    _common: Settings
    _own: Settings
    _search: Settings
    _resolved: dict[Any, Run] = field(default_factory=dict, compare=False)

    @property
    def content(self) -> tuple[Any, ...]:
        """All that the recipes hold, as plain data."""
        return self._tasks, self._methods, self._common, self._own, self._search

    # Names

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self._tasks)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self._methods)

    def check_task(self, name: str) -> str:
        """The name itself. Raises UserError for a task that the recipes do not have."""
        if name not in self._tasks:
            raise unknown("task", name, self._tasks)
        return name

    def check_method(self, name: str) -> str:
        """The method's name, aliases resolved. Raises UserError for one that the recipes do not have."""
        name = ALIASES.get(name, name)
        if name not in self._methods:
            error = unknown("method", name, [*self._methods, *ALIASES])
            raise UserError(f"{error} One of your own needs a row [method.{name}] in {RECIPES}.")
        return name

    def task_title(self, task: str) -> str:
        return self._tasks[self.check_task(task)]["title"]

    def method_title(self, method: str) -> str:
        return self._methods[self.check_method(method)]["title"]

    def uses(self, method: str) -> frozenset[str]:
        """What the method uses beside training images and their targets, see ``benchmark.plan.uses``."""
        table = self._methods[self.check_method(method)]
        return frozenset(each for each in MARKS if table.get(each, False))

    def presets(self, task: str) -> tuple[str, ...]:
        tables = (table for _, table in self._chain(self.check_task(task)))
        return tuple(dict.fromkeys((PAPER, *(preset for table in tables for preset in table.get("preset", ())))))

    @property
    def all_presets(self) -> tuple[str, ...]:
        """Every preset that some task has, "paper" first."""
        return tuple(dict.fromkeys(preset for task in self._tasks for preset in self.presets(task)))

    def with_folder(self, data: Settings, name: str = "") -> Recipes:
        """The recipes with the task of a dataset of one's own, called ``name`` or else ``folder_task(data)``.

        ``data`` are its settings: ``folder``, its name, ``labels``, a digest of its labels.csv, and ``bias``, the
        columns that are the bias where that is not the one column of this name. The place is none of them, so that a
        moved folder keeps its records. Raises UserError for the name of another task.
        """
        name = name or folder_task(data)
        if name in self._tasks and self._tasks[name]["dataset"] != "folder":
            raise UserError(f"The folder has the name of the task '{name}': rename it.")
        bias = f" (bias: {' × '.join(data['bias'])})" if "bias" in data else ""
        table = {**self._own, "title": f"{data['folder']}{bias}", "data": {**self._own["data"], **data}}
        return replace(self, _tasks={**self._tasks, name: table}, _resolved={})

    def with_folder_of(self, settings: Settings) -> Recipes:
        """The recipes with the task of stored settings where it is a folder of one's own, wherever that now lies.

        It is called as it was when they were stored.
        """
        if settings["dataset"] != "folder":
            return self
        data = {key: settings["data"][key] for key in OF_FOLDER if key in settings["data"]}
        return self.with_folder(data, settings["task"])

    # Settings of one run

    def resolve(self, task: str, method: str, overrides: Iterable[Override] = (), preset: str = PAPER) -> Settings:
        """All settings that decide the numbers of a run, except its seed.

        Loop keys stand at the top level, the dataset's under "data" and the method's under "options". An override
        applies where its key exists: one of images leaves the digits as they are. Raises UserError for a name that
        does not exist, a setting beyond its limits, and a network that the other settings are not for.
        """
        settings: Settings = {}
        for layer in self.layers(task, method, overrides, preset):
            _merge(settings, layer.settings)
        limits.check_settings(settings)
        return settings

    def layers(self, task: str, method: str, overrides: Iterable[Override] = (), preset: str = PAPER) -> list[Layer]:
        """What a run's settings are merged from, in that order, each with the place where it stands.

        The method's exceptions in the tables of tasks come after all of these tables, and after the method's own. A
        method that is like another has its options and exceptions, too, but for keys that it sets itself. What then has
        no effect takes the value of every task. Raises UserError for one that --set gives another.
        """
        method = self.check_method(method)
        of_task = list(self._of_task(task, preset))
        layers = [Layer("", {"task": task, "method": method, "preset": preset}), Layer("[every_task]", self._common)]
        layers += [Layer(where, _without(table, "title", "method")) for where, table in of_task]
        family = self._family(method)
        layers += [
            Layer(f"[method.{each}]", {"options": _without(self._methods[each], *DESCRIPTIVE)}) for each in family
        ]
        merged: Settings = {}
        for layer in layers:
            _merge(merged, layer.settings)
        for place, each in enumerate(family, 1):
            own = {key for heir in family[place:] for key in self._methods[heir]}
            for where, table in of_task:
                exceptions = _without(table.get("method", {}).get(each, {}), *own)
                placed = _placed(merged, (Override(each, key, value) for key, value in exceptions.items()), (each,))
                if placed:
                    layers.append(Layer(f"{where[:-1]}.method.{each}]", placed))
        if placed := _placed(merged, overrides, ("", "data", method)):
            layers.append(Layer("--set", placed))
        for layer in layers:
            _merge(merged, layer.settings)
        if plain := without_effect(merged):
            wanted = placed.get("learning_rate_decay")
            if wanted not in (None, plain.get("learning_rate_decay", wanted)):
                raise UserError(
                    f"learning_rate_decay has no effect with schedule={merged['schedule']}: leave it out, or choose "
                    "another schedule."
                )
            layers.append(Layer("[every_task]", plain))
        return layers

    def run(self, table: Table, row: Row, task: str, seed: int) -> Run:
        """The run of a table's cell."""
        key = (task, row.method, table.changes_of(row), table.preset)
        if key not in self._resolved:
            self._resolved[key] = Run(self.resolve(*key), 0)
        return replace(self._resolved[key], seed=seed)

    def available(self, table: Table) -> tuple[str, ...]:
        """The table's tasks that have a recipe in its preset."""
        return tuple(task for task in table.tasks if task in self._tasks and table.preset in self.presets(task))

    def applies(self, override: Override, task: str, method: str, preset: str = PAPER) -> bool:
        """Whether runs of the method on the task have the setting at all."""
        return any(layer.where == "--set" for layer in self.layers(task, method, (override,), preset))

    def changes(self, settings: Settings) -> tuple[Override, ...]:
        """The overrides that lead from the recipes to these settings, in their preset.

        A setting that no override can reach, such as one that the recipes no longer have, is not among them. Raises
        UserError for a task, method or preset that is not in the recipes.
        """
        method = settings["method"]
        recipe = self.resolve(settings["task"], method, preset=settings["preset"])
        recipe |= without_effect(recipe | {"schedule": settings.get("schedule", recipe["schedule"])})
        places = (
            ("", recipe, settings),
            ("data", recipe["data"], settings["data"]),
            (method, recipe["options"], settings["options"]),
        )
        return tuple(
            Override(owner, key, tuple(new[key]) if isinstance(new[key], list) else new[key])
            for owner, old, new in places
            for key in old
            if key in new and new[key] != old[key] and not isinstance(old[key], dict)
        )

    def options(self, method: str) -> Settings:
        """The method's own hyper-parameters, as its ``__init__`` takes them."""
        options: Settings = {}
        for each in self._family(self.check_method(method)):
            options |= _without(self._methods[each], *DESCRIPTIVE)
        return options

    def ranges(self, method: str) -> dict[tuple[str, str], Range]:
        """The ranges in which a search chooses, by owner and key: those of every method, then the method's own."""
        own: Settings = {}
        for each in self._family(self.check_method(method)):
            own |= self._methods[each].get("search", {})
        return {("", key): msgspec.convert(table, Range) for key, table in self._search.items()} | {
            (method, key): msgspec.convert(table, Range) for key, table in own.items()
        }

    def task_settings(self, task: str, preset: str = PAPER) -> Settings:
        """The settings of the common loop and, under "data", of the dataset."""
        settings: Settings = dict(self._common)
        for _, table in self._of_task(task, preset):
            _merge(settings, _without(table, "title", "method"))
        return settings

    def _chain(self, task: str) -> Iterator[tuple[str, Settings]]:
        """The tables that a task is made of with the place of each, those of tasks that it is like first."""
        table = self._tasks[task]
        if "like" in table:
            yield from self._chain(table["like"])
        yield "[folder]" if table.get("dataset") == "folder" else f"[task.{task}]", table

    def _family(self, method: str) -> list[str]:
        """The method after those that it is like."""
        like = self._methods[method].get("like")
        return [*(self._family(like) if like else ()), method]

    def _of_task(self, task: str, preset: str) -> Iterator[tuple[str, Settings]]:
        """The task's tables and then those of its preset, each with its place. Raises UserError for another preset."""
        chain = list(self._chain(self.check_task(task)))
        yield from ((where, _without(table, "like", "preset")) for where, table in chain)
        if preset == PAPER:
            return
        known = self.presets(task)
        if preset not in known:
            raise UserError(
                f"Task '{task}' has no preset '{preset}', but {', '.join(known)}: choose one with --preset."
            )
        yield from self._of_preset(chain, preset)

    def _of_preset(self, chain: list[tuple[str, Settings]], preset: str) -> Iterator[tuple[str, Settings]]:
        tables = [(f"{where[:-1]}.preset.{preset}]", table.get("preset", {}).get(preset, {})) for where, table in chain]
        for like in dict.fromkeys(table["like"] for _, table in tables if "like" in table):
            yield from self._of_preset(chain, like)
        yield from ((where, _without(table, "like")) for where, table in tables if table)

    # --set

    def parse_override(self, text: str) -> Override:
        """Parse ``key=value``, ``data.key=value`` or ``method.key=value``.

        Raises UserError when the key exists nowhere, or the value is not of the kind that the recipes hold, or beyond
        the limits of the loop and of data. Those of a method stand beside it.
        """
        name, equals, value = text.partition("=")
        if not equals or not value or not text.isprintable():
            raise UserError(f"--set takes key=value, such as epochs=5 or poisoner.gamma=0.5, not '{text}'.")
        owner, dot, key = name.strip().rpartition(".")
        examples = self._known_keys(owner)
        if key not in examples or (dot and not owner):
            known = [f"{owner}.{each}" if owner else each for each in examples]
            raise unknown("setting", name, [*known, *self._all_names()] if not owner else known)
        override = Override(ALIASES.get(owner, owner), key, _parse_value(name, value.strip(), examples[key]))
        of_run = "" if override.owner in self._methods else override.owner  # the loop of one method only
        if not (override.owner in self._methods and key in self.options(override.owner)):
            limits.check(override.name, override.value, limits.kind(of_run, key))
        return override

    def _known_keys(self, owner: str) -> Settings:
        """The keys that may be set for an owner, each with an example value that tells its kind."""
        shared: Settings = {}
        data: Settings = {}
        for task in self._tasks:
            settings = self.task_settings(task)
            data |= settings.pop("data")
            shared |= settings
        del shared["dataset"]  # another one needs settings of its own, hence is another task
        if owner == "data":
            return _without(data, *OF_FOLDER)
        return shared | self.options(owner) if owner else shared

    def _all_names(self) -> list[str]:
        data = [f"data.{key}" for key in self._known_keys("data")]
        return [*data, *(f"{method}.{key}" for method in self._methods for key in self.options(method))]


def folder_task(data: Settings) -> str:
    """The name of the task of a folder of one's own; each choice of its bias is another, as records lie by tasks.

    What stands between columns, or may not be part of a file's name, is written by its number: a/b is a=2Fb.
    """
    columns = (re.sub(r"[/+=]", lambda found: f"={ord(found[0]):02X}", column) for column in data.get("bias", ()))
    return "@".join((data["folder"], *(["+".join(columns)] if "bias" in data else ())))


def _without(table: Mapping[str, Any], *keys: str) -> Settings:
    return {key: value for key, value in table.items() if key not in keys}


def _merge(settings: Settings, update: Mapping[str, Any]) -> None:
    """Take over the entries of ``update``, table by table; another dataset brings its own data table."""
    if "dataset" in update:
        settings["data"] = {}
    for key, value in update.items():
        if isinstance(value, Mapping):
            _merge(settings.setdefault(key, {}), value)
        else:
            settings[key] = list(value) if isinstance(value, (list, tuple)) else value


def _placed(settings: Settings, overrides: Iterable[Override], owners: tuple[str, ...]) -> Settings:
    """The overrides of these owners as settings, each in the part that has its key; others are left out."""
    placed: Settings = {}
    for override in overrides:
        if override.owner not in owners:
            continue
        # What has no owner is the loop's, although a method may have an option of that name.
        places = {"data": ("data",), "": ("",)}.get(override.owner, ("options", ""))
        for place in places:
            if override.key in (settings[place] if place else settings):
                (placed.setdefault(place, {}) if place else placed)[override.key] = override.value
                break
    return placed


def _parse_value(name: str, text: str, example: Any) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        value = text
    try:
        return _like(value, example)
    except (ValueError, OverflowError, RecursionError):
        raise UserError(f"--set {name} takes a value such as {as_set(example)}, not '{text[:40]}'.") from None


def _like(value: Any, example: Any) -> Any:
    """The value in the example's type, for which 1 is a float, too, lists as tuples.

    Raises ValueError for another kind or length.
    """
    if isinstance(example, list) and isinstance(value, list):
        return tuple(_like(*pair) for pair in zip(value, example, strict=True))
    if isinstance(example, float) and type(value) is int:
        return float(value)
    if type(example) is int and isinstance(value, float):
        return value  # which is for the setting's limits to allow
    if type(value) is not type(example):
        raise ValueError
    return value
