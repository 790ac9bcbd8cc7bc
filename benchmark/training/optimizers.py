"""Optimisers and what the learning rate does, as a run's settings name them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def new_optimizer(settings: dict[str, Any], parameters: Sequence[nn.Parameter], rate: Tensor) -> torch.optim.Optimizer:
    """A fresh optimiser of the run's kind; ``rate`` [] is the tensor that it goes on reading.

    Adam (Kingma & Ba, 2015) and SGD add ``weight_decay`` times the weights to the gradient, and Adam then divides both
    by its running means; AdamW (Loshchilov & Hutter, 2019) takes rate times ``weight_decay`` times the weights off.
    """
    shared: dict[str, Any] = {"lr": rate, "weight_decay": settings["weight_decay"], "fused": True}
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(parameters, momentum=settings["momentum"], **shared)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings["optimizer"]](parameters, **shared)


def rate(settings: dict[str, Any], epoch: int, length: int) -> float:
    """The learning rate of an epoch, of which 0 is the first, in a phase of so many.

    The schedule extends over the task's ``epochs``, or over the phase if that is longer.

    "tenths": times ``learning_rate_decay`` for every tenth of the epochs behind it, after the schedule of Echoes' code.
    "step": times it after half and after three quarters of them (He et al., 2016). "cosine": half a cosine from the
    full rate towards 0 (Loshchilov & Hutter, 2017), as PyTorch's CosineAnnealingLR has it. "constant" is planned as
    "tenths" with a factor of 1, see ``benchmark.plan.run.without_effect``.
    """
    epochs, schedule = max(settings["epochs"], length), settings["schedule"]
    full: float = settings["learning_rate"]
    if schedule == "cosine":
        return full * (1 + math.cos(math.pi * epoch / epochs)) / 2
    behind = 10 * epoch // epochs if schedule == "tenths" else (2 * epoch >= epochs) + (4 * epoch >= 3 * epochs)
    return full * settings["learning_rate_decay"] ** behind


def warming(update: int, length: float) -> float:
    """The factor on the rate of an update of a phase, of which 0 is the first: up to 1 along a line of ``length``
    updates (Goyal et al., 2017)."""
    return min(1.0, (update + 1) / (length + 1))
