"""XRM, cross-risk minimisation (Pezeshki et al., ICML 2024; repository facebookresearch/XRM), and GroupDRO on it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Network, NewNetwork, NonNegative, Phase, Predict, Sampler, Step, TrainingSet
from methods.groupdro import GroupDRO


def sum_of_class_means(ce: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The mean loss of each class in the batch, summed over those that are there; ``ce`` and ``labels`` [m]."""
    zeros = torch.zeros(num_classes, dtype=ce.dtype, device=ce.device)
    sizes = zeros.index_add(0, labels, torch.ones_like(ce))
    return (zeros.index_add(0, labels, ce) / sizes.clamp_min(1)).sum()


@register("xrm")
class XRM(GroupDRO):
    """Twin networks discover two environments, on which GroupDRO trains the target network.

    Each twin is trained on one random half of the samples. Every sample's label is replaced, for good, by what the twin
    that does not train on it predicts, with the probability (p − 1/C)·C/(C − 1) that its confidence p leaves above
    chance: the twins come to share their confident mistakes. A sample belongs to the second environment when either
    twin, at last, gets its true label wrong. The groups of GroupDRO are (class, environment); its batches are shuffled,
    or "weighted", which draws every group equally often.

    ``biased``, whose Bias Accuracy is reported, is the first twin.
    """

    uses_bias_labels = False

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        step_size: NonNegative,
        target_sampler: Literal["shuffled", "weighted"],
    ) -> None:
        undivided = replace(data, bias=torch.zeros_like(data.targets), num_biases=2)
        super().__init__(undivided, new_network, epochs, step_size=step_size, adjustment=0.0)
        self.biased: Network = new_network()
        self.sibling = new_network()
        self.target_sampler: Sampler = target_sampler
        n = len(data.targets)
        self.first_half = nn.Buffer(torch.rand(n) < 0.5)
        self.labels = nn.Buffer(data.targets.clone())
        self.sample_weights = nn.Buffer(torch.ones(n))
        self.environments = nn.Buffer(torch.zeros(n, dtype=torch.int64))

    def phases(self) -> tuple[Phase, ...]:
        twins = Step(self.twin_loss, (self.biased, self.sibling), draws=1)
        target = Step(self.target_loss, (self.target,))
        return (
            Phase("discover", (twins,), self.epochs, end=self.discover),
            Phase("train", (target,), self.epochs, sampler=self.target_sampler),
        )

    def twin_loss(self, batch: Batch) -> Tensor:
        assert batch.draws is not None
        first, second = self.biased(batch.images), self.sibling(batch.images)
        of_first = self.first_half[batch.indices, None]
        labels = self.labels[batch.indices]
        loss = losses.cross_entropy(torch.where(of_first, first, second), labels)
        self.flip(batch, labels, torch.where(of_first, second, first).detach())
        return sum_of_class_means(loss, labels, self.num_classes)

    def flip(self, batch: Batch, labels: Tensor, held_out: Tensor) -> None:
        """Store the prediction of logits ``held_out`` [m, C] as the label where it is confident, by chance."""
        assert batch.draws is not None
        confidence, predicted = held_out.float().softmax(1).max(1)
        above_chance = (confidence - 1 / self.num_classes) * self.num_classes / (self.num_classes - 1)
        self.labels[batch.indices] = torch.where(batch.draws[:, 0] < above_chance, predicted, labels)

    def discover(self, predict: Predict) -> None:
        """Divide the samples into environments, and begin GroupDRO with its groups equally weighted."""
        wrong = [predict(twin).argmax(1) != self.all_targets for twin in (self.biased, self.sibling)]
        self.environments.copy_(wrong[0] | wrong[1])
        groups = self.num_biases * self.all_targets + self.environments
        sizes = torch.bincount(groups, minlength=len(self.group_weights))
        environments = (sizes.view(self.num_classes, -1) > 0).sum(1)
        if single := int((environments == 1).sum()):
            warnings.warn(
                f"XRM found one environment only in {single} of {self.num_classes} classes: each is one group of its "
                "GroupDRO.",
                stacklevel=1,
            )
        self.sample_weights.copy_(1 / sizes[groups])
        self.group_weights.copy_((sizes > 0) / (sizes > 0).sum())

    def target_loss(self, batch: Batch) -> Tensor:
        return self.loss(batch._replace(bias=self.environments[batch.indices]))

    def summary(self) -> dict[str, float | list[int]]:
        return {
            "labels_flipped": int((self.labels != self.all_targets).sum()),
            "second_environment": int(self.environments.sum()),
            **super().summary(),
        }
