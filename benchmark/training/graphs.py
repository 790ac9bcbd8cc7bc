"""CUDA graphs: an update captured once and replayed, since launching its kernels one by one takes longer than running
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
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
