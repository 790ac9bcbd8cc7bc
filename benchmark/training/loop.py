"""The common loop: trains a run, or several seeds of it together, to the end."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.training.measure import count
from benchmark.training.training import Training
from benchmark.training.updates import Updates, is_small


def train(trainings: Sequence[Training]) -> None:
    """Train a run, or runs that differ in nothing but their seed, to the end, each from its checkpoint.

    Several advance in lockstep where they are small (``updates.is_small``), and else take turns; those whose checkpoint
    is behind catch up first. Raises TrainingError when a loss diverges, or a network in its last update.
    """
    for training in trainings:
        training.start()
    updates: Updates | None = None
    while unfinished := [training for training in trainings if not training.finished]:
        behind = min(training.position for training in unfinished)
        group = [training for training in unfinished if training.position == behind]
        group = group if is_small(group[0]) else group[:1]
        if updates is None or updates.trainings != group or updates.phase is not group[0].phase:
            updates = Updates(group)
        losses = updates.epoch()
        count([training.measurement for training in group], [training.wanted() for training in group])
        for training, loss in zip(group, losses, strict=True):
            training.end_epoch(loss)
