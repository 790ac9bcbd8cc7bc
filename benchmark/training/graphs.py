"""CUDA graphs: an update captured once and replayed, since launching its kernels one by one takes longer than running
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all epochs and phases: PyTorch and cuBLAS keep memory for each."""
    return torch.cuda.Stream(device)


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Another stream than the default one on a GPU, which may not be captured, nor what warms a capture up."""
    if device.type != "cuda":
        yield
        return
    before, aside = torch.cuda.current_stream(device), _stream(device)
    aside.wait_stream(before)
    with torch.cuda.stream(aside):
        yield
    before.wait_stream(aside)


def can_capture(device: torch.device) -> bool:
    """Whether ``capture`` works on the device."""
    return device.type == "cuda"


def capture(update: Callable[[], None], optimizers: Sequence[torch.optim.Optimizer]) -> Callable[[], None]:
    """Capture an update as a CUDA graph, without running it; returns what replays it.

    Raises RuntimeError for one that makes the host wait for the device, and whatever else the update raises.
    """
    graph = torch.cuda.CUDAGraph()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)  # gradients shall lie in the graph's own memory
        for group in optimizer.param_groups:
            group["capturable"] = True
    failed: Exception | None = None
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            try:
                update()
            except Exception as error:
                failed = error
                raise
    except RuntimeError as error:
        # A capture that an error broke off cannot be ended either, which is raised in the place of the true error.
        raise failed or error from None
    finally:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = False
    return graph.replay
