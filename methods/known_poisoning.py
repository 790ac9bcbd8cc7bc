"""Poisoning where the conflicting samples are known: the paper's Figure 2 (c). Uses bias labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Method, NewNetwork, Phase, Step, TrainingSet


@register("known_poisoning")
class KnownPoisoning(Method):
    """Poisoner's first stage with the true conflicting samples in place of those it finds.

    Every conflicting sample of a batch takes the network's own prediction as its label, for good. The biased
    model that comes out is the bound of what finding them can reach.
    """

    uses_bias_labels = True

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int) -> None:
        super().__init__(data, new_network, epochs)
        assert data.bias is not None
        assert data.aligned_bias is not None
        self.target = self.biased = new_network()
        self.conflicting = nn.Buffer(data.bias != data.aligned_bias[data.targets], persistent=False)
        self.labels = nn.Buffer(data.targets.clone())

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("poison", (Step(self.loss, (self.target,)),), self.epochs, sampler="class_balanced"),)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.target(batch.images)
        labels = torch.where(self.conflicting[batch.indices], logits.detach().argmax(1), self.labels[batch.indices])
        self.labels[batch.indices] = labels
        return losses.cross_entropy(logits, labels).mean()

    def summary(self) -> dict[str, float | list[int]]:
        return {"labels_poisoned": int((self.labels != self.all_targets).sum())}
