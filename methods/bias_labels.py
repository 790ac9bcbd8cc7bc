"""The ideal biased model of the paper's Figure 2 (d): trained on the bias instead of the class. Uses bias labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, NewNetwork, TrainingSet
from methods.vanilla import Vanilla


def bias_as_class(targets: Tensor, bias: Tensor, aligned_bias: Tensor) -> Tensor:
    """The class y whose g(y) is the sample's bias, [n]: its own, if that is one of several, else the first.

    A bias that goes with no class leaves the target as it is.
    """
    matches = bias[:, None] == aligned_bias  # [n, C]
    own = matches.gather(1, targets[:, None]).squeeze(1)
    return torch.where(own | ~matches.any(1), targets, matches.int().argmax(1))


@register("bias_labels")
class BiasLabels(Vanilla):
    """Vanilla on ``bias_as_class``: what a biased model would be that knew the bias and nothing else."""

    uses_bias_labels = True

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int) -> None:
        super().__init__(data, new_network, epochs)
        assert data.bias is not None
        assert data.aligned_bias is not None
        labels = bias_as_class(data.targets, data.bias, data.aligned_bias)
        self.labels = nn.Buffer(labels, persistent=False)

    def loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.target(batch.images), self.labels[batch.indices]).mean()
