"""How far a training has come: what its record takes from the loop, and what of it a checkpoint may say."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, TypedDict

import msgspec
import numpy as np

from benchmark.store.record import Curves
from benchmark.training.measure import Metrics


class EpochEntry(TypedDict, total=False):
    """An epoch of a phase: its mean loss, and the metrics of the networks that the phase trains."""

    phase: str
    epoch: int
    loss: float
    target: Metrics
    biased: Metrics


@dataclass
class Progress:
    """How far a training has come, and every number that its record takes from it; a part of its checkpoint.

    ``last`` are the test counts after the last epoch, ``best`` those of the epoch with the best plain validation
    accuracy, which needs no bias labels, both of the last phase that trains the target; ``train_counts`` are those on
    the training set by network.
    """

    phase_index: int = 0
    epoch: int = 0
    history: list[EpochEntry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    train_counts: dict[str, list[list[int]]] = field(default_factory=dict)
    samples_trained: int = 0
    seconds_training: float = 0.0
    seconds: float = 0.0


class Stage(NamedTuple):
    """A phase as progress sees it: its name, its length in epochs, and which networks are measured after each."""

    name: str
    epochs: int
    networks: Collection[str]


class Sizes(NamedTuple):
    """Numbers of images of each group, [C, B], and whether there are images for validation."""

    train: np.ndarray
    test: np.ndarray
    validation: bool


ON_TRAINING = {each.name for each in msgspec.structs.fields(Curves) if each.required}
ON_TEST = set(Curves.__struct_fields__) - ON_TRAINING - {"validation_acc"}


def check(content: Any, stages: Sequence[Stage], sizes: Sizes) -> None:
    """Raises ValueError, saying what is wrong, for what cannot be the progress of a training after some epoch."""
    _demand(isinstance(content, dict) and content.keys() == asdict(Progress()).keys(), "it is of another version")
    try:
        progress = msgspec.convert(content, Progress)
    except msgspec.ValidationError as error:
        raise ValueError(f"its progress is none: {error}") from error
    _demand(0 <= progress.phase_index < len(stages), f"there is no phase {progress.phase_index}")
    _demand(1 <= progress.epoch <= stages[progress.phase_index].epochs, f"there is no epoch {progress.epoch}")
    behind = [stage for stage in stages[: progress.phase_index + 1] if stage.epochs]
    behind[-1] = behind[-1]._replace(epochs=progress.epoch)
    expected = [(stage, epoch) for stage in behind for epoch in range(1, stage.epochs + 1)]
    _demand(len(progress.history) == len(expected), "its history has another length")
    for entry, (stage, epoch) in zip(progress.history, expected, strict=True):
        _check_entry(entry, stage, epoch, sizes)
    measured = {network for stage in behind for network in stage.networks}
    _demand(progress.train_counts.keys() == measured, "it counts other networks than are measured")
    for counts in progress.train_counts.values():
        _check_counts(counts, sizes.train)
    # A phase that trains the target on leaves nothing of what an earlier one made of it.
    phases = (range(1, stage.epochs + 1) for stage in reversed(behind) if "target" in stage.networks)
    tested = next(phases, range(0))
    _check_tested(progress.last, {"epoch", "correct"}, tested[-1:], sizes.test)
    if sizes.validation:
        _check_tested(progress.best, {"epoch", "correct", "validation_acc"}, tested, sizes.test)
    else:
        _demand(not progress.best, "it has validated without images")
    amounts = progress.samples_trained, progress.seconds_training, progress.seconds
    _demand(all(math.isfinite(amount) and amount >= 0 for amount in amounts), "it has taken less than no time")


def _check_entry(entry: EpochEntry, stage: Stage, epoch: int, sizes: Sizes) -> None:
    _demand(entry.keys() == {"phase", "epoch", "loss", *stage.networks}, "an epoch lacks a network's metrics")
    _demand((entry["phase"], entry["epoch"]) == (stage.name, epoch), "an epoch is missing from its history")
    _demand(math.isfinite(entry["loss"]), "a loss is no number")
    expected = {"biased": ON_TRAINING, "target": ON_TRAINING | ON_TEST}
    if sizes.validation:
        expected["target"] |= {"validation_acc"}
    for network, names in expected.items():
        _demand(network not in entry or entry[network].keys() == names, "an epoch lacks metrics")  # type: ignore[literal-required]


def _check_tested(tested: dict[str, Any], keys: set[str], epochs: Sequence[int], sizes: np.ndarray) -> None:
    """Counts of the test set after one of the epochs; none where there is no such epoch."""
    if not epochs:
        _demand(not tested, "it was tested before its time")
        return
    _demand(tested.keys() == keys and tested["epoch"] in epochs, "it was tested at no epoch behind it")
    _demand(isinstance(tested.get("validation_acc", 0.0), float), "its validation accuracy is no number")
    _check_counts(tested["correct"], sizes)


def _check_counts(counts: Any, sizes: np.ndarray) -> None:
    try:
        found = np.array(msgspec.convert(counts, list[list[int]]), np.int64)
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        raise ValueError("its counts are none") from error
    _demand(found.shape == sizes.shape and ((found >= 0) & (found <= sizes)).all(), "its counts are of other data")


def _demand(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
