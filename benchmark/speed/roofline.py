"""What an update costs at least: its floating-point operations, counted, and the bytes that it has to move, estimated.

Operations are those of matrix products and convolutions, forward and backward, as PyTorch's counter sees them
executed. Bytes are summed by the rules of ``TRAFFIC``; a machine that keeps some of them in its caches moves less.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.training.training import Training
from benchmark.training.updates import Updates

# How often a byte of each kind is read or written in an update.
TRAFFIC = {
    "activation": 2,  # every layer's output: written, read by the next
    "activation with gradient": 5,  # and read in the backward pass, its gradient written and read
    "parameter": 1,  # read
    "parameter with gradient": 3,  # and read in the backward pass, its gradient written
    "optimiser": 7,  # Adam reads parameter, gradient and two moments, and writes all but the gradient
    "image": 1 + 4 + 4,  # read as uint8; written and read as float32
}


def of_update(training: Training, index: int) -> tuple[int, int]:
    """Floating-point operations and bytes of one update of a phase, all of its steps; trains that update."""
    phase = training.phases[index]
    phases, training.phases = training.phases, (replace(phase, updates=1),)
    training.go_to(0)
    with FlopCounterMode(display=False) as counter, _traffic(training.method) as layers:
        Updates([training]).epoch()
    training.phases = phases
    trained = [each for step in phase.steps for network in step.trains for each in network.parameters()]
    batch = training.batches.size(phase) * training.dataset.train.images[0].nbytes
    return counter.get_total_flops(), (
        sum(layers)
        + TRAFFIC["optimiser"] * sum(each.nbytes for each in trained)
        + TRAFFIC["image"] * batch * sum(map(len, phase.batches))
    )


@contextmanager
def _traffic(module: nn.Module) -> Iterator[list[int]]:
    """The bytes that each layer called within the context moves, forward and backward."""
    moved: list[int] = []

    def listen(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kind = " with gradient" if output.requires_grad else ""
        moved.append(TRAFFIC[f"parameter{kind}"] * sum(each.nbytes for each in layer.parameters()))
        if output.data_ptr() != inputs[0].data_ptr():  # views and in-place layers move nothing of their own
            moved.append(TRAFFIC[f"activation{kind}"] * output.nbytes)

    layers = (each for each in module.modules() if not any(True for _ in each.children()))
    hooks: list[Any] = [each.register_forward_hook(listen) for each in layers]
    try:
        yield moved
    finally:
        for hook in hooks:
            hook.remove()
