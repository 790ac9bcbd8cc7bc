"""Classes seen equally often (Idrissi et al., CLeaR 2022; repository facebookresearch/BalancingGroups)."""

from __future__ import annotations

import torch
from torch import nn

from methods import register
from methods.base import NewNetwork, TrainingSet
from methods.vanilla import Vanilla


@register("rwy")
class RWY(Vanilla):
    """Vanilla on samples drawn with replacement, so that classes are equally likely."""

    sampler = "weighted"

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int) -> None:
        super().__init__(data, new_network, epochs)
        self.sample_weights = nn.Buffer(1 / torch.bincount(data.targets)[data.targets], persistent=False)
