"""Echoes (Hu et al., ACM MM 2023; repository isruihu/Echoes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import (
    Batch,
    Method,
    Network,
    NewNetwork,
    NonNegative,
    Phase,
    Predict,
    Step,
    TrainingSet,
    UnitInterval,
    check_scale,
)


def balanced_inverse(weights: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Inverse weights [n], scaled so that every class has the same total and the largest is 1."""
    inverse = 1 / (weights + 1e-8)
    totals = torch.zeros(num_classes, device=weights.device).index_add_(0, targets, inverse)
    # The authors multiply by Π S_k / S_c, which overflows for ten classes; the final division cancels Π S_k.
    inverse = inverse * (totals.mean() / totals)[targets]
    return inverse / (inverse.max() + 1e-8)


@register("echoes")
class Echoes(Method):
    """A biased network whose errors lose weight round by round, and a target network weighted inversely.

    After each epoch, in classes where the biased network errs on less than ``error_threshold``, the weights of
    its errors are multiplied by ``decay``; the target's weights are the class-balanced inverse. The target's
    weights start at 0: it learns from the second epoch on.
    """

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        decay: UnitInterval,
        error_threshold: UnitInterval,
        target_factor: NonNegative,
    ) -> None:
        super().__init__(data, new_network, epochs)
        self.decay = decay
        self.error_threshold = error_threshold
        self.target_factor = target_factor
        self.biased: Network = new_network()
        self.target = new_network()
        self.biased_weights = nn.Buffer(torch.ones(len(data.targets)))
        self.target_weights = nn.Buffer(torch.zeros(len(data.targets)))

    @classmethod
    def check(cls, options: Mapping[str, Any], optimizer: str) -> None:
        check_scale("echoes.target_factor", options["target_factor"], optimizer)

    def phases(self) -> tuple[Phase, ...]:
        step = Step(self.loss, (self.biased, self.target))
        return (Phase("train", (step,), self.epochs, end_epoch=self.reweight),)

    def loss(self, batch: Batch) -> Tensor:
        biased_ce = losses.cross_entropy(self.biased(batch.images), batch.targets)
        target_ce = losses.cross_entropy(self.target(batch.images), batch.targets)
        biased = (self.biased_weights[batch.indices] * biased_ce).mean()
        target = (self.target_weights[batch.indices] * target_ce).mean()
        return biased + self.target_factor * target

    def reweight(self, predict: Predict) -> None:
        targets = self.all_targets
        wrong = predict(self.biased).argmax(1) != targets
        size = torch.bincount(targets, minlength=self.num_classes)
        error_rate = torch.bincount(targets[wrong], minlength=self.num_classes) / size.clamp_min(1)
        decays = wrong & (error_rate < self.error_threshold)[targets]
        weights = torch.where(decays, self.decay * self.biased_weights, self.biased_weights)
        self.biased_weights.copy_(weights / (weights.max() + 1e-8))
        self.target_weights.copy_(balanced_inverse(self.biased_weights, targets, self.num_classes))
