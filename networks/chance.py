"""Networks without chance of their own: a step draws from no generator but the run's, which none of them has."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode

# What layers and models of torch, torchvision and timm call the probability with which they drop something.
_PROBABILITIES = ("dropout", "attention_dropout", "drop_prob", "drop_rate")


def without_chance(network: nn.Module) -> None:
    """Set every dropout and stochastic depth to nothing."""
    module: Any
    for module in network.modules():
        if isinstance(module, _DropoutNd) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0
        for name in _PROBABILITIES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


class Draws(TorchDispatchMode):
    """Notes the operations inside the context that draw from a global generator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and _probability(func, args, kwargs) != 0:
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **kwargs)


def _probability(func: Any, args: Any, kwargs: Any) -> Any:
    """With which an operation drops, None where it draws in any case. Attention draws nothing where that is nought."""
    named = {each.name: each.default_value for each in func._schema.arguments}
    given = named | dict(zip(named, args, strict=False)) | kwargs
    return given.get("dropout_p")
