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
    """An epoch of a phase: its mean loss and, where it is measured, metrics of the networks that the phase trains.

    ``test`` and ``validation`` are the target's right answers by group, row by row.
    """

    phase: str
    epoch: int
    loss: float
    target: Metrics
    biased: Metrics
    test: list[int]
    validation: list[int]


@dataclass
class Progress:
    """How far a training has come, and every number that its record takes from it; a part of its checkpoint.

    ``train_counts`` are right answers of each training group at its end, by network.
    """

    phase_index: int = 0
    epoch: int = 0
    history: list[EpochEntry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    train_counts: dict[str, list[list[int]]] = field(default_factory=dict)
    samples_trained: int = 0
    seconds_training: float = 0.0
    seconds: float = 0.0


class Stage(NamedTuple):
    """A phase as progress sees it: its name, its length in epochs, and which networks are measured, how often."""

    name: str
    epochs: int
    measure_every: int
    networks: Collection[str]

    def is_measured(self, epoch: int) -> bool:
        """Whether networks are measured after an epoch: every so many, the last, and the first ones.

        In these they change most, and Table 3 has biased networks that are stopped there.
        """
        return epoch <= MEASURED_FIRST or epoch % self.measure_every == 0 or epoch == self.epochs


class Sizes(NamedTuple):
    """Numbers of images of each group, [C, B]; of validation images [C, 1] by class, or None where there are none.

    ``scored``: the test groups of average accuracy, bool [C, B], None for all.
    """

    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None
    scored: np.ndarray | None


MEASURED_FIRST = 2  # epochs of a phase
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
    lengths = [*(stage.epochs for stage in behind[:-1]), progress.epoch]
    expected = [(stage, epoch) for stage, length in zip(behind, lengths, strict=True) for epoch in range(1, length + 1)]
    _demand(len(progress.history) == len(expected), "its history has another length")
    for entry, (stage, epoch) in zip(progress.history, expected, strict=True):
        _check_entry(entry, stage, epoch, sizes)
    measured = {network for stage in behind for network in stage.networks}
    _demand(progress.train_counts.keys() == measured, "it counts other networks than are measured")
    for counts in progress.train_counts.values():
        _check_counts(counts, sizes.train)
    amounts = progress.samples_trained, progress.seconds_training, progress.seconds
    _demand(all(math.isfinite(amount) and amount >= 0 for amount in amounts), "it has taken less than no time")


def _check_entry(entry: EpochEntry, stage: Stage, epoch: int, sizes: Sizes) -> None:
    answers = {"test": sizes.test}
    expected = {"biased": ON_TRAINING, "target": ON_TRAINING | ON_TEST}
    if sizes.validation is not None:
        answers |= {"validation": sizes.validation}
        expected["target"] |= {"validation_acc"}
    networks = stage.networks if stage.is_measured(epoch) else ()
    tested = answers if "target" in networks else {}
    _demand(entry.keys() == {"phase", "epoch", "loss", *networks, *tested}, "an epoch lacks a network's metrics")
    _demand((entry["phase"], entry["epoch"]) == (stage.name, epoch), "an epoch is missing from its history")
    _demand(math.isfinite(entry["loss"]), "a loss is no number")
    for network, names in expected.items():
        _demand(network not in entry or entry[network].keys() == names, "an epoch lacks metrics")  # type: ignore[literal-required]
    for split, total in tested.items():
        _check_counts([entry[split]], total.reshape(1, -1))  # type: ignore[literal-required]


def _check_counts(counts: Any, sizes: np.ndarray) -> None:
    try:
        found = np.array(msgspec.convert(counts, list[list[int]]), np.int64)
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        raise ValueError("its counts are none") from error
    _demand(found.shape == sizes.shape and ((found >= 0) & (found <= sizes)).all(), "its counts are of other data")


def _demand(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
