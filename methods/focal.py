"""Focal loss (Lin et al., ICCV 2017)."""

from __future__ import annotations

from torch import Tensor

from methods import losses, register
from methods.base import NewNetwork, NonNegative, TrainingSet
from methods.vanilla import Vanilla


@register("focal")
class Focal(Vanilla):
    """Vanilla with the focal loss; ``gamma`` is the focusing exponent, not Poisoner's γ."""

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int, *, gamma: NonNegative) -> None:
        super().__init__(data, new_network, epochs)
        self.gamma = gamma

    def sample_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return losses.focal(logits, targets, self.gamma)
