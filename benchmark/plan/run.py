"""One training, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

PAPER = "paper"  # the preset that a task's own table is; others are its "preset" tables
Settings = dict[str, Any]
"""All that decides the numbers of a run but its seed: loop keys, the dataset's under "data", the method's under
"options"."""

# Settings that are younger than the first records, at the values that change nothing: a run that has them so keeps the
# hash that it had before they existed.
NEUTRAL: Settings = {
    "preset": PAPER,
    "learning_rate_decay": 1.0,
    "schedule": "tenths",
    "warmup": 0.0,
    "optimizer": "adam",
    "momentum": 0.0,
    "crop_scale": 1.0,
    "precision": "auto",
    "measure_every": 1,
    "balance": 0.0,
    "warmup_epochs": 0,
    "strata": "clean",
    "multiplier_floor": 0.0,
    "differentiated": "neither",
}


def without_effect(settings: Mapping[str, Any]) -> Settings:
    """Settings that have no effect beside the others, at the values that they then take.

    So that the same numbers have one hash, under whichever names they are asked for.
    """
    plain: Settings = {}
    schedule = settings.get("schedule", NEUTRAL["schedule"])
    decay = settings.get("learning_rate_decay", NEUTRAL["learning_rate_decay"])
    if schedule in ("cosine", "constant"):
        plain["learning_rate_decay"] = decay = NEUTRAL["learning_rate_decay"]
    if schedule != "cosine" and decay == NEUTRAL["learning_rate_decay"]:  # a rate that stays, however often it may fall
        plain["schedule"] = NEUTRAL["schedule"]
    if settings.get("optimizer") == "adamw" and settings["weight_decay"] == 0:  # which is all that sets it apart
        plain["optimizer"] = NEUTRAL["optimizer"]
    return {key: value for key, value in plain.items() if key in settings and settings[key] != value}


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
        return self.settings["preset"]

    @cached_property
    def digest(self) -> str:
        """Short hash of exactly what decides the numbers, the seed apart."""
        return digest(self.settings)

    @property
    def series(self) -> str:
        """``task/method/hash``, the same for all seeds of the settings."""
        return f"{self.task}/{self.method}/{self.digest}"

    @property
    def id(self) -> str:
        """``task/method/hash-sSEED``, the run's place under results/runs."""
        return f"{self.series}-s{self.seed}"

    def __str__(self) -> str:
        return f"{self.task}/{self.method} seed {self.seed}"


def digest(settings: Settings) -> str:
    """Twelve hexadecimal digits of the settings' hash."""
    named = {**_without_neutral(settings), "options": _without_neutral(settings["options"])}
    canonical = json.dumps(named, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _without_neutral(settings: Mapping[str, Any]) -> Settings:
    return {key: value for key, value in settings.items() if key not in NEUTRAL or NEUTRAL[key] != value}
