"""A CUDA graph's stand-in on the CPU: records the operations of an update, and replays them on the same memory.

Like a graph it knows nothing of the Python around the operations: an update that counts in Python, makes a new tensor
of what it remembers, or looks at a value, replays wrongly or cannot be captured at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What a GPU would have to send to the host before Python can go on.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal", "is_nonzero"}


class Tape(TorchDispatchMode):
    """Records what is done inside the context."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(each, Tensor) and each.dtype is torch.bool for each in args[1]
        )
        if name in WAITING or masked:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        out = func(*args, **(kwargs or {}))
        self.recorded.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, out in self.recorded:
                for place, value in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():  # not a view, not in place
                        place.copy_(value.view(place.shape))  # squeeze_() may have been applied since


def capture(
    update: Callable[[], None], optimizers: Sequence[torch.optim.Optimizer], state: list[Tensor]
) -> Callable[[], None]:
    """Like ``benchmark.training.graphs.capture``; a graph's capture runs nothing, so that ``state`` is put back."""
    before = [tensor.detach().clone() for tensor in state]
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    with Tape() as tape:
        update()
    with torch.no_grad():
        for tensor, old in zip(state, before, strict=True):
            tensor.copy_(old)
    return tape.replay
