"""Cluster profiles: what jobs ask of SLURM, by kind of network."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.arguments import has_controls, is_text
from benchmark.errors import UserError, unknown
from benchmark.plan.recipes import load as load_recipes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROFILES = Path(__file__).with_name("profiles")
Request = dict[str, Any]
"""What one job asks for, by the names of KEYS."""


class Key(NamedTuple):
    """A setting of a profile: the kind of its value, its name in submitit, and sbatch's flag where it has one.

    A number is at most ``most``.
    """

    kind: type
    submitit: str
    flag: str = ""
    most: int = 0


KEYS = {
    "partition": Key(str, "partition", "--partition={}"),
    "account": Key(str, "account", "--account={}"),
    "qos": Key(str, "qos", "--qos={}"),
    "constraint": Key(str, "constraint", "--constraint={}"),
    "exclude": Key(str, "exclude", "--exclude={}"),
    "gpus": Key(int, "gpus_per_node", "--gpus-per-node={}", 1000),
    "cpus": Key(int, "cpus_per_task", "--cpus-per-task={}", 10_000),
    "memory_gb": Key(int, "mem", "--mem={}G", 100_000),
    "minutes": Key(int, "time", "--time={}", 1_000_000),
    "grace_seconds": Key(int, "signal_delay_s", most=86_400),
    "setup": Key(list, "setup"),
}


class Profile:
    """A profile with the user's changes; ``request`` is what a run of a network gets."""

    def __init__(self, base: Request, networks: Mapping[str, Request], changes: Request) -> None:
        self._base = base
        self._networks = networks
        self._changes = changes

    def request(self, network: str) -> Request:
        """Base settings, those of the network, then the user's; keys that ask for nothing are left out."""
        request = {**self._base, **self._networks.get(network, {}), **self._changes}
        return {key: value for key, value in request.items() if value not in ("", 0, [])}


def load(name: str, changes: Iterable[str] = ()) -> Profile:
    """A profile of slurm/profiles, or the file at a path, with ``key=value`` changes.

    Raises UserError for an unknown profile, key or kind of value.
    """
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if has_controls(name) or not path.is_file():
        raise unknown("profile", name, (each.stem for each in PROFILES.glob("*.toml")))
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML ({error}): correct it, or choose another --profile.") from error
    recipes = load_recipes()
    known = {recipes.task_settings(task)["network"] for task in recipes.tasks}
    networks = {key: value for key, value in content.items() if isinstance(value, dict)}
    for network in networks:
        if network not in known:
            raise UserError(
                f"{path} has a table [{network}]: tables are named after networks, {', '.join(sorted(known))}."
            )
    base = {key: value for key, value in content.items() if key not in networks}
    for request in (base, *networks.values()):
        for key, value in request.items():
            _check(key, value, str(path))
    return Profile(base, networks, dict(_parse(text) for text in changes))


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--slurm takes key=value, such as minutes=240, not '{text}'.")
    if key in KEYS and KEYS[key].kind is int and re.fullmatch(r"[0-9]{1,18}", value):
        return key, _check(key, int(value), "--slurm")
    return key, _check(key, [value] if key == "setup" else value, "--slurm")


def _check(key: str, value: Any, where: str) -> Any:
    """The value itself. Raises UserError unless the key exists and takes such values."""
    if key not in KEYS:
        raise unknown(f"setting in {where}", key, KEYS)
    kind = KEYS[key].kind
    lines = value if isinstance(value, list) else []
    if type(value) is not kind or not all(isinstance(line, str) for line in lines):
        wanted = {int: "a whole number", str: "a text", list: "a list of shell lines"}[kind]
        raise UserError(f"{key} in {where} is {value!r}: it takes {wanted}.")
    for text in lines or [value] * (kind is str):
        if has_controls(text) or not is_text(text):
            raise UserError(f"{key} in {where} is {text!r}: it must be a text on one line.")
    if isinstance(value, int) and not 0 <= value <= KEYS[key].most:
        raise UserError(f"{key} in {where} is {value}: it must be at least 0 and at most {KEYS[key].most:,}.")
    return value


def flags(request: Request) -> list[str]:
    """The request as flags of sbatch and srun."""
    return [KEYS[key].flag.format(value) for key, value in request.items() if KEYS[key].flag]
