"""The updates of a phase, for one run or for several seeds of it in lockstep.

Seeds in lockstep are one batched network. Their parameters and buffers lie in tensors [S, ...], of which the method of
each seed holds a slice, and the loss of a method is vectorised over them, so that kernels which one small network
leaves most of a GPU idle with serve all seeds. Optimisers, hooks, measurements and checkpoints stay each seed's own.

On a GPU the update of a small network, from gathering its batch to the optimiser's step, is captured as a CUDA graph
in each phase and then replayed: launching its kernels one by one takes longer than running them. Both need losses that
do the same operations on every batch and keep what they remember in buffers; a loss that makes the device wait cannot
be captured and is run as it is.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.errors import TrainingError
from benchmark.loader import autocast
from methods.base import Batch, Step

if TYPE_CHECKING:
    from benchmark.training import Training

WARM_UP = 3  # updates before a capture, in which libraries make what may not be made during one


def is_small(training: Training) -> bool:
    """Whether an update's kernels are too short to keep a GPU busy, and nothing but indices differs between updates."""
    return training.layout is torch.contiguous_format and training.train.resident and not training.augmentation.varies


class Updates:
    """The updates of the phase at which the trainings stand; more than one must be small, at the same epoch.

    ``captured`` says whether they may be a CUDA graph.
    """

    def __init__(self, trainings: Sequence[Training], captured: bool = True) -> None:
        first = trainings[0]
        self.trainings = list(trainings)
        self.phase = first.phase
        self._batched = _Batched(trainings) if len(trainings) > 1 else None
        self._capturable = captured and can_capture(first.device) and is_small(first)
        self._static = self._batched is not None or self._capturable
        self._total = torch.zeros(len(trainings), device=first.device)
        shape = len(self.phase.steps), len(trainings), first.batch_size
        self._rows = torch.zeros(shape, dtype=torch.int64, device=first.device)
        self._done = 0
        self._replay: Callable[[], None] | None = None

    def epoch(self) -> list[float]:
        """One pass; returns the mean loss of an update for each training. Raises TrainingError when one diverges."""
        started = time.perf_counter()
        orders, draws = zip(*(training.begin_epoch() for training in self.trainings), strict=True)
        self._total.zero_()
        if self._static:
            self._run_static(torch.stack(orders, 1))
        else:
            self._run(orders[0], draws[0])
        updates = len(orders[0]) // len(self.phase.steps)
        means = [total / updates for total in self._total.tolist()]
        share = (time.perf_counter() - started) / len(self.trainings)
        for training, mean in zip(self.trainings, means, strict=True):
            if not math.isfinite(mean):
                raise TrainingError(
                    f"The loss became {mean} in epoch {training.epoch + 1} of phase '{self.phase.name}'."
                )
            training.samples_trained += updates * training.batch_size
            training.seconds_training += share
        return means

    def _run(self, order: Tensor, draws: Tensor) -> None:
        """One training's updates, a batch for each row of ``order`` [updates × steps, m]."""
        training, steps = self.trainings[0], self.phase.steps
        turns = itertools.cycle(zip(steps, training.optimizers, strict=True))
        training.set_modes(steps[0].trains)
        batches = zip(training.train.batches(order), draws.to(training.device, non_blocking=True), turns, strict=False)
        for (indices, images), drawn, (step, optimizer) in batches:
            if len(steps) > 1:
                training.set_modes(step.trains)
            with autocast(training.layout, training.device):
                loss = step.loss(training.batch(indices, images, drawn))
            self._total += _descend(loss, optimizer)

    def _run_static(self, order: Tensor) -> None:
        """Updates that differ in nothing but ``order`` [updates × steps, S, m], which is copied into one place."""
        rows = order.to(self.trainings[0].device, non_blocking=True).unflatten(0, (-1, len(self.phase.steps)))
        with _side_stream(rows.device):
            for row in rows:
                self._rows.copy_(row)
                if self._capturable and self._done >= WARM_UP:
                    self._capture()
                if self._replay:
                    self._replay()
                else:
                    self._update()
                self._done += 1

    def _update(self) -> None:
        """One update of all trainings on the batches in ``self._rows`` [steps, S, m]."""
        training = self.trainings[0]
        for number, (step, rows) in enumerate(zip(self.phase.steps, self._rows, strict=True)):
            training.set_modes(step.trains)
            indices = rows if self._batched else rows[0]
            images = training.train.images.index_select(0, indices.flatten()).unflatten(0, indices.shape)
            batch = training.batch(indices, images, torch.empty(0))
            if self._batched:
                self._total += self._batched.descend(number, batch)
            else:
                self._total += _descend(step.loss(batch), training.optimizers[number])

    def _capture(self) -> None:
        """Have ``self._update`` replayed from now on, unless it makes the device wait for the host."""
        self._capturable = False
        try:
            self._replay = capture(self._update, [each for t in self.trainings for each in t.optimizers])
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            for training in self.trainings:
                training.warnings.append(
                    f"Phase '{self.phase.name}' runs without a CUDA graph, which makes it slower: {reason}"
                )


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


class _Batched:
    """Several seeds of a method as one batched network."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = trainings
        method, phase = trainings[0].method, trainings[0].phase
        own = [dict(each.method.named_parameters()) | dict(each.method.named_buffers()) for each in trainings]
        self.state: dict[str, Tensor] = {}
        for name in own[0]:
            together = torch.stack([tensors[name].detach() for tensors in own])
            for tensors, part in zip(own, together, strict=True):
                tensors[name].data = part
            self.state[name] = together
        self.trained = [_names(method, step) for step in phase.steps]
        for name in {name for names in self.trained for name in names}:
            self.state[name].requires_grad_()
        self.slices = [[[tensors[name] for tensors in own] for name in names] for names in self.trained]
        self.calls = [_Call(method, step.loss) for step in phase.steps]

    def descend(self, number: int, batch: Batch) -> Tensor:
        """The losses [S] of the phase's step of that number, after descending them on a batch [S, m, ...]."""
        call = self.calls[number]

        def loss(state: dict[str, Tensor], own: tuple[Any, ...]) -> Tensor:
            # Names are unique already: a network of two names comes under one.
            named = {f"method.{name}": value for name, value in state.items()}
            return functional_call(call, named, (Batch(*own),), tie_weights=False)

        places = tuple(None if each is None else 0 for each in batch)
        losses: Tensor = torch.vmap(loss, in_dims=(0, places))(self.state, tuple(batch))
        stacked = [self.state[name] for name in self.trained[number]]
        optimizers = [training.optimizers[number] for training in self.trainings]
        for parameter in stacked:
            parameter.grad = None
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        for parameter, slices in zip(stacked, self.slices[number], strict=True):
            if parameter.grad is not None:
                for part, gradient in zip(slices, parameter.grad, strict=True):
                    part.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
        return losses.detach()


class _Call(nn.Module):
    """A method's loss as a module's ``forward``, as ``functional_call`` needs it."""

    def __init__(self, method: nn.Module, loss: Callable[[Batch], Tensor]) -> None:
        super().__init__()
        self.method = method
        self.loss = loss

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(batch)


def _names(method: nn.Module, step: Step) -> list[str]:
    """Names within the method of the parameters that a step trains."""
    trained = {id(parameter) for network in step.trains for parameter in network.parameters()}
    return [name for name, parameter in method.named_parameters() if id(parameter) in trained]


@contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """Another stream than the default one on a GPU, which may not be captured, nor what warms a capture up."""
    if device.type != "cuda":
        yield
        return
    before, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    aside.wait_stream(before)
    with torch.cuda.stream(aside):
        yield
    before.wait_stream(aside)


def can_capture(device: torch.device) -> bool:
    """Whether ``capture`` works on the device."""
    return device.type == "cuda"


def capture(update: Callable[[], None], optimizers: Sequence[torch.optim.Optimizer]) -> Callable[[], None]:
    """Capture an update as a CUDA graph, without running it; returns what replays it.

    Raises RuntimeError for one that makes the host wait for the device.
    """
    graph = torch.cuda.CUDAGraph()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)  # gradients shall lie in the graph's own memory
        for group in optimizer.param_groups:
            group["capturable"] = True
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            update()
    finally:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = False
    return graph.replay
