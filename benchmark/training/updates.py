"""The updates of a phase, for one run or for several seeds of it in lockstep.

On a GPU the update of a small network, from gathering its batch to the optimiser's step, is captured as a CUDA graph
in each phase and then replayed. That and lockstep need losses that do the same operations on every batch and keep what
they remember in buffers; a loss that makes the device wait cannot be captured and is run as it is.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import TrainingError
from benchmark.training import graphs
from benchmark.training.lockstep import Lockstep, check_gradient, one_number
from benchmark.training.training import Training
from methods.base import Batch, Phase, Step

WARM_UP = 3  # updates before a capture, in which libraries make what may not be made during one


def is_small(training: Training) -> bool:
    """Whether an update's kernels are too short to keep a GPU busy, and nothing but indices differs between updates."""
    batches = training.batches
    resident = batches.split(training.phase).resident
    return batches.layout is torch.contiguous_format and resident and not batches.augmentation.varies


class Updates:
    """The updates of the phase at which the trainings stand; more than one must be small, at the same epoch.

    ``captured`` says whether they may be a CUDA graph, ``capturable`` whether they are to become one.
    """

    def __init__(self, trainings: Sequence[Training], captured: bool = True) -> None:
        first = trainings[0]
        self.trainings = list(trainings)
        self.phase = first.phase
        self._batched = Lockstep(trainings) if len(trainings) > 1 else None
        self.capturable = captured and graphs.can_capture(first.device) and is_small(first)
        self._static = self._batched is not None or self.capturable
        self._total = torch.zeros(len(trainings), device=first.device)
        self._taken = [len(samplers) for samplers in self.phase.batches]  # of batches, by each step
        shape = sum(self._taken), len(trainings), first.batches.size(self.phase)
        self._rows = torch.zeros(shape, dtype=torch.int64, device=first.device)
        self._draws = torch.zeros((*shape, max(step.draws for step in self.phase.steps)), device=first.device)
        self._done = 0
        self._replay: Callable[[], None] | None = None

    def epoch(self) -> list[float]:
        """One pass; returns the mean loss of an update for each training. Raises TrainingError when one diverges."""
        started = time.perf_counter()
        orders, augmented, draws = zip(*(training.begin_epoch() for training in self.trainings), strict=True)
        self._total.zero_()
        chance = _global_chance()
        if self._static:
            self._run_static(torch.stack(orders, 1), torch.stack(draws, 1))
        else:
            self._run(orders[0], augmented[0], draws[0])
        if _global_chance() != chance:
            raise TrainingError(
                f"A loss of phase '{self.phase.name}' drew from a global generator, which no checkpoint holds: ask for "
                "draws with Step(..., draws=k) and take them from batch.draws."
            )
        updates = len(orders[0]) // sum(self._taken)
        means = [total / updates for total in self._total.tolist()]
        share = (time.perf_counter() - started) / len(self.trainings)
        for training, mean in zip(self.trainings, means, strict=True):
            if not math.isfinite(mean):
                raise TrainingError(
                    f"The loss became {mean} in epoch {training.progress.epoch + 1} of phase '{self.phase.name}'."
                )
            training.progress.samples_trained += updates * training.batches.size(self.phase)
            training.progress.seconds_training += share
        return means

    def _run(self, order: Tensor, augmented: Tensor, draws: Tensor) -> None:
        """One training's updates, a batch for each row of ``order`` [updates × batches, m]."""
        training, steps = self.trainings[0], self.phase.steps
        training.set_modes(steps[0].trains)
        augmented, draws = (each.to(training.device, non_blocking=True) for each in (augmented, draws))
        rows = zip(training.batches.split(self.phase).batches(order), augmented, draws, strict=True)
        turns = itertools.cycle(zip(steps, self._taken, training.optimizers, strict=True))
        for number, (step, taken, optimizer) in enumerate(turns):
            batches = [
                training.batches.batch(self.phase, indices, images, changes, _drawn(drawn, step), place)
                for place, ((indices, images), changes, drawn) in enumerate(itertools.islice(rows, taken))
            ]
            if not batches:
                return
            if len(steps) > 1:
                training.set_modes(step.trains)
            if number % len(steps) == 0:
                training.warm_up(number // len(steps))
            self._total += _descend(step.loss(*batches), optimizer, self.phase)

    def _run_static(self, order: Tensor, draws: Tensor) -> None:
        """Updates that differ in nothing but what is copied into one place: ``order`` [updates × batches, S, m], and
        ``draws`` [updates × batches, S, m, k]."""
        device, batches = self.trainings[0].device, sum(self._taken)
        rows, drawn = (each.to(device, non_blocking=True).unflatten(0, (-1, batches)) for each in (order, draws))
        with graphs.side_stream(rows.device):
            for number, (row, numbers) in enumerate(zip(rows, drawn, strict=True)):
                for training in self.trainings:
                    training.warm_up(number)
                self._rows.copy_(row)
                self._draws.copy_(numbers)
                if self.capturable and self._done >= WARM_UP:
                    self._capture()
                if self._replay:
                    self._replay()
                else:
                    self._update()
                self._done += 1

    def _update(self) -> None:
        """One update of all trainings on the batches in ``self._rows`` [batches, S, m]."""
        training = self.trainings[0]
        rows = iter(zip(self._rows, self._draws, strict=True))
        for number, (step, taken) in enumerate(zip(self.phase.steps, self._taken, strict=True)):
            training.set_modes(step.trains)
            batches = [self._batch(step, place, *row) for place, row in enumerate(itertools.islice(rows, taken))]
            if self._batched:
                self._total += self._batched.descend(number, batches)
            else:
                self._total += _descend(step.loss(*batches), training.optimizers[number], self.phase)

    def _batch(self, step: Step, place: int, rows: Tensor, draws: Tensor) -> Batch:
        """That of all trainings, [S, m, ...], or without that dimension of the only one."""
        batches = self.trainings[0].batches
        indices, drawn = (rows, draws) if self._batched else (rows[0], draws[0])
        images = batches.split(self.phase).images.index_select(0, indices.flatten()).unflatten(0, indices.shape)
        return batches.batch(self.phase, indices, images, torch.empty(0), _drawn(drawn, step), place)

    def _capture(self) -> None:
        """Have ``self._update`` replayed from now on, unless it makes the device wait for the host."""
        self.capturable = False
        try:
            self._replay = graphs.capture(self._update, [each for t in self.trainings for each in t.optimizers])
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            for training in self.trainings:
                training.progress.warnings.append(
                    f"Phase '{self.phase.name}' runs without a CUDA graph, which makes it slower: {reason}"
                )


def _drawn(numbers: Tensor, step: Step) -> Tensor | None:
    """Those of the random numbers [..., k] that a step asks for."""
    return numbers[..., : step.draws] if step.draws else None


def _global_chance() -> tuple[object, ...]:
    """What changes when anybody draws from a generator that all share."""
    of_numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - the generator that must not be drawn from
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]
    return (
        random.getstate(),
        of_numpy["state"]["pos"],
        of_numpy["state"]["key"].tobytes(),
        *(state.numpy().tobytes() for state in states),
    )


def _descend(given: object, optimizer: torch.optim.Optimizer, phase: Phase) -> Tensor:
    """The loss that a step gave, after descending it. Raises TrainingError where that cannot be done."""
    loss = one_number(given, phase)
    check_gradient(loss, phase)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()
