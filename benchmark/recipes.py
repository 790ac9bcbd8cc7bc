"""Reading recipes.toml and resolving it, with --set overrides, to the settings of one run."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, unknown
from datasets.folder import labels_digest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).with_name("recipes.toml")
PAPER = "paper"  # the preset that a task's own table is; others are its "preset" tables
# Keys of a method's table that describe it rather than set anything.
DESCRIPTIVE = ("title", "uses_bias_labels", "like")
# Other names under which a method may be asked for: Table 3 calls plain training ERM.
ALIASES = {"erm": "vanilla"}
Settings = dict[str, Any]


@dataclass(frozen=True)
class Override:
    """One ``--set``: ``owner`` is "" (every run), "data" or a method's name."""

    owner: str
    key: str
    value: Any

    @property
    def name(self) -> str:
        return f"{self.owner}.{self.key}" if self.owner else self.key

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@cache
def _content() -> Settings:
    try:
        content = tomllib.loads(RECIPES.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{RECIPES} is no valid TOML ({error}): correct it.") from error
    for kind in ("task", "method"):
        for name, table in content[kind].items():
            if "title" not in table:
                raise UserError(f"{RECIPES}: [{kind}.{name}] has no title, which tables call it by: add it.")
    return content


@cache
def tables() -> tuple[dict[str, Settings], dict[str, Settings]]:
    """The tasks, with "like" resolved, and the methods of recipes.toml."""
    content = _content()
    tasks: dict[str, Settings] = {}
    for name, table in content["task"].items():
        tasks[name] = _merge(tasks[table["like"]], table) if "like" in table else table
        tasks[name].pop("like", None)
    methods: dict[str, Settings] = {}
    for name, table in content["method"].items():
        methods[name] = _merge(methods[table["like"]], table) if "like" in table else table
    return tasks, methods


def _of_method(place: Mapping[str, Settings], method: str) -> Settings:
    """What a table of methods sets for one, and, where it has no value of its own, for the method that it is like."""
    like = tables()[1].get(method, {}).get("like")
    own = _content()["method"].get(method, {})
    inherited = _of_method(place, like) if like else {}
    return {key: value for key, value in inherited.items() if key not in own} | place.get(method, {})


def _merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> Settings:
    """``base`` with the entries of ``update``, table by table; another dataset brings its own data table."""
    merged = copy.deepcopy(dict(base))
    if "dataset" in update:
        merged["data"] = {}
    for key, value in update.items():
        merged[key] = _merge(merged.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged


def add_folder(folder: Path) -> str:
    """Make a task, named like the folder, of a dataset of one's own; it lives as long as this process.

    Its settings hold a digest of the labels but not the place, so that a moved folder keeps its records. Raises
    UserError for a folder without labels.csv or with the name of another task.
    """
    name = folder.resolve().name
    digest = labels_digest(folder)
    tasks, _ = tables()
    if name in tasks and tasks[name]["dataset"] != "folder":
        raise UserError(f"The folder {folder} has the name of the task '{name}': rename it.")
    _add_folder(name, digest)
    return name


def add_folder_of(settings: Settings) -> None:
    """Make the task of stored settings known where it is a folder of one's own, wherever that now lies."""
    if settings["dataset"] == "folder":
        _add_folder(settings["task"], settings["data"]["labels"])


def _add_folder(name: str, labels: str) -> None:
    data = {"folder": name, "labels": labels}
    tables()[0][name] = _merge(_content()["folder"], {"title": name, "data": data})


def presets(task: str) -> tuple[str, ...]:
    return (PAPER, *tables()[0][check_task(task)].get("preset", {}))


def all_presets() -> tuple[str, ...]:
    """Every preset that some task has, "paper" first."""
    return tuple(dict.fromkeys(preset for task in tables()[0] for preset in presets(task)))


def _task_table(task: str, preset: str) -> Settings:
    """The task's table with its preset's changes. Raises UserError for a preset that the task does not have."""
    table = dict(tables()[0][check_task(task)])
    changes = {PAPER: {}, **table.pop("preset", {})}
    if preset not in changes:
        raise UserError(f"Task '{task}' has no preset '{preset}', but {', '.join(changes)}: choose one with --preset.")
    own = dict(changes[preset])
    return _merge(_merge(table, changes[own.pop("like", PAPER)]), own)


def task_title(task: str) -> str:
    return tables()[0][check_task(task)]["title"]


def method_title(method: str) -> str:
    return tables()[1][check_method(method)]["title"]


def uses_bias_labels(method: str) -> bool:
    return tables()[1][check_method(method)].get("uses_bias_labels", False)


def check_task(name: str) -> str:
    """The name itself. Raises UserError for a task that recipes.toml does not have."""
    if name not in tables()[0]:
        raise unknown("task", name, tables()[0])
    return name


def check_method(name: str) -> str:
    """The method's name, aliases resolved. Raises UserError for one that recipes.toml does not have."""
    name = ALIASES.get(name, name)
    if name not in tables()[1]:
        error = unknown("method", name, [*tables()[1], *ALIASES])
        raise UserError(f"{error} One of your own needs a row [method.{name}] in {RECIPES}.")
    return name


def options(method: str) -> Settings:
    """The method's own hyper-parameters, as its ``__init__`` takes them."""
    method = check_method(method)
    return {key: value for key, value in tables()[1][method].items() if key not in DESCRIPTIVE} | neutral(method)


def neutral(owner: str = "") -> Settings:
    """The settings of the loop, or of a method, that a run only names where they differ from these values."""
    table = _content()["neutral"]
    if owner:
        return _of_method(table, owner)
    return {key: value for key, value in table.items() if not isinstance(value, dict)}


def loop_settings(task: str, preset: str = PAPER) -> Settings:
    """The task's settings of the common loop."""
    return _of_loop(_task_table(task, preset))


def _of_loop(table: Settings) -> Settings:
    return {key: value for key, value in table.items() if key not in ("title", "data", "method")}


def data_settings(task: str, preset: str = PAPER) -> Settings:
    """The task's settings of its dataset."""
    return dict(_task_table(task, preset)["data"])


def parse_override(text: str) -> Override:
    """Parse ``key=value``, ``data.key=value`` or ``method.key=value``.

    Raises UserError when the key exists nowhere, or the value is not of the kind that the recipes hold.
    """
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UserError(f"--set takes key=value, such as epochs=5 or poisoner.gamma=0.5, not '{text}'.")
    owner, _, key = name.strip().rpartition(".")
    examples = _known_keys(owner)
    if key not in examples:
        known = [f"{owner}.{each}" if owner else each for each in examples]
        raise unknown("setting", name, [*known, *_all_names()] if not owner else known)
    return Override(ALIASES.get(owner, owner), key, _parse_value(name, value.strip(), examples[key]))


def _known_keys(owner: str) -> Settings:
    """The keys that may be set for an owner, each with an example value that tells its kind."""
    tasks, _ = tables()
    shared: Settings = {}
    for task in tasks:
        shared |= loop_settings(task)
    shared |= neutral()
    del shared["dataset"]  # another one needs settings of its own, hence is another task
    if not owner:
        return shared
    if owner == "data":
        return {key: value for task in tasks.values() for key, value in task["data"].items()}
    return shared | options(owner)


def _all_names() -> list[str]:
    tasks, methods = tables()
    data = {f"data.{key}" for task in tasks.values() for key in task["data"]}
    return [*data, *(f"{method}.{key}" for method in methods for key in options(method))]


def _parse_value(name: str, text: str, example: Any) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    try:
        return _like(value, example)
    except ValueError:
        raise UserError(f"--set {name} takes a value such as {example!r}, not '{text}'.") from None


def _like(value: Any, example: Any) -> Any:
    """The value in the example's type, for which 1 is a float, too. Raises ValueError for another kind or length."""
    if isinstance(example, list) and isinstance(value, list):
        return [_like(*pair) for pair in zip(value, example, strict=True)]
    if isinstance(example, float) and type(value) is int:
        return float(value)
    if type(value) is not type(example):
        raise ValueError
    return value


def resolve(task: str, method: str, overrides: Iterable[Override] = (), preset: str = PAPER) -> Settings:
    """All settings that decide the numbers of a run, except its seed.

    Loop keys stand at the top level, the dataset's under "data" and the method's under "options". A preset other
    than the paper's is named too, so that its runs are never taken for the paper's. An override applies where its
    key exists: one of images leaves the digits as they are.
    """
    method = check_method(method)
    settings = _all_settings(task, method, preset)
    exceptions = _of_method(_task_table(task, preset).get("method", {}), method)
    for override in (*(Override(method, key, value) for key, value in exceptions.items()), *overrides):
        if (place := _place(settings, override)) is not None:
            place[override.key] = override.value
    for place, unchanged in ((settings, neutral()), (settings["options"], neutral(method))):
        for key, value in unchanged.items():
            if place[key] == value:
                del place[key]
    _check_limits(settings)
    return settings


def applies(override: Override, task: str, method: str, preset: str = PAPER) -> bool:
    """Whether runs of the method on the task have the setting at all."""
    return _place(_all_settings(task, check_method(method), preset), override) is not None


def _all_settings(task: str, method: str, preset: str) -> Settings:
    """The settings before any override, with those that change nothing."""
    table = _task_table(task, preset)
    return {
        "task": task,
        "method": method,
        **({} if preset == PAPER else {"preset": preset}),
        **neutral(),
        **_of_loop(table),
        "data": table["data"],
        "options": options(method),
    }


def _place(settings: Settings, override: Override) -> Settings | None:
    """The part of the settings that the override changes, or None where they do not have its key."""
    if override.owner == "data":
        parts = [settings["data"]]
    else:
        parts = [settings["options"], settings] if override.owner in ("", settings["method"]) else []
    return next((part for part in parts if override.key in part), None)


def _check_limits(settings: Settings) -> None:
    """Raises UserError for a value outside of what [limits] allows."""
    limits, method = _content()["limits"], settings["method"]
    places = (
        ("", {key: allowed for key, allowed in limits.items() if not isinstance(allowed, dict)}, settings),
        (f"{method}.", _of_method(limits, method), settings["options"]),
    )
    for owner, table, values in places:
        for key, allowed in table.items():
            if key in values and not _is_allowed(values[key], allowed):
                least, greatest = allowed[0], allowed[-1]
                if isinstance(least, str):
                    demand = f"be one of {', '.join(allowed)}"
                else:
                    demand = f"be at least {least}" if greatest == math.inf else f"lie between {least} and {greatest}"
                raise UserError(f"{owner}{key} is {values[key]}: it must {demand}.")


def _is_allowed(value: Any, allowed: list[Any]) -> bool:
    if isinstance(value, list):
        return all(_is_allowed(each, allowed) for each in value)
    return value in allowed if isinstance(value, str) else allowed[0] <= value <= allowed[-1]


def changes(settings: Settings) -> list[Override]:
    """The overrides that lead from the recipes to these settings, in their preset.

    A setting that no override can reach, such as one that the recipes no longer have, is not among them. Raises
    UserError for a task, method or preset that is not in the recipes.
    """
    method = settings["method"]
    recipe = resolve(settings["task"], method, preset=settings.get("preset", PAPER))
    places = (
        ("", neutral() | recipe, neutral() | settings),
        ("data", recipe["data"], settings["data"]),
        (method, neutral(method) | recipe["options"], neutral(method) | settings["options"]),
    )
    return [
        Override(owner, key, new[key])
        for owner, old, new in places
        for key in old
        if key in new and new[key] != old[key] and not isinstance(old[key], dict)
    ]
