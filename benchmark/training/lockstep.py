"""Several seeds of a method as one batched network.

Their parameters and buffers lie in tensors [S, ...], of which the method of each seed holds a slice, and the loss of
the method is vectorised over them, so that kernels which one small network leaves most of a GPU idle with serve all
seeds. Optimisers, hooks, measurements and checkpoints stay each seed's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.errors import TrainingError
from benchmark.training.training import Training
from methods.base import Batch, Phase, Step


class Lockstep:
    """The updates of seeds that stand at the same phase."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = trainings
        self.phase = phase = trainings[0].phase
        method = trainings[0].method
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

    def descend(self, number: int, batches: Sequence[Batch]) -> Tensor:
        """The losses [S] of the phase's step of that number, after descending them on its batches [S, m, ...]."""
        call = self.calls[number]

        def loss(state: dict[str, Tensor], own: tuple[tuple[Any, ...], ...]) -> Tensor:
            # Names are unique already: a network of two names comes under one.
            named = {f"method.{name}": value for name, value in state.items()}
            found = functional_call(call, named, tuple(Batch(*each) for each in own), tie_weights=False)
            return one_number(found, self.phase)

        places = tuple(tuple(0 if isinstance(each, Tensor) else None for each in batch) for batch in batches)
        losses: Tensor = torch.vmap(loss, in_dims=(0, places))(self.state, tuple(map(tuple, batches)))
        check_gradient(losses, self.phase)
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


def one_number(loss: object, phase: Phase) -> Tensor:
    """What the loss of a step of a phase gave. Raises TrainingError for anything but a tensor of no dimensions."""
    if isinstance(loss, Tensor) and loss.dim() == 0:
        return loss
    given = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise TrainingError(
        f"A loss of phase '{phase.name}' returns {given}: it must return a tensor of no dimensions, such as a mean."
    )


def check_gradient(loss: Tensor, phase: Phase) -> None:
    """Raises TrainingError where a loss was cut off from all parameters."""
    if not loss.requires_grad:
        raise TrainingError(
            f"A loss of phase '{phase.name}' returns a tensor without gradient: it must depend on what its step "
            "trains, and not be detached."
        )


class _Call(nn.Module):
    """A method's loss as a module's ``forward``, as ``functional_call`` needs it."""

    def __init__(self, method: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.method = method
        self.loss = loss

    def forward(self, *batches: Batch) -> Tensor:
        return self.loss(*batches)


def _names(method: nn.Module, step: Step) -> list[str]:
    """Names within the method of the parameters that a step trains."""
    trained = {id(parameter) for network in step.trains for parameter in network.parameters()}
    return [name for name, parameter in method.named_parameters() if id(parameter) in trained]
