"""Generalised cross-entropy (Zhang & Sabuncu, NeurIPS 2018): the biased model of LfF, a row of Table 3."""

from __future__ import annotations

from torch import Tensor

from methods import losses, register
from methods.base import NewNetwork, TrainingSet
from methods.vanilla import Vanilla


@register("gce")
class GCE(Vanilla):
    """Vanilla with the generalised cross-entropy, which favours what the network already fits."""

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int, *, q: losses.GCEExponent) -> None:
        super().__init__(data, new_network, epochs)
        self.q = q

    def sample_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return losses.generalized_cross_entropy(logits, targets, self.q)
