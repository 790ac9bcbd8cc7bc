"""DebiAN (Li et al., ECCV 2022; repository zhihengli-UR/DebiAN)."""

from __future__ import annotations

import torch
from torch import Tensor

from methods import losses, register
from methods.base import Batch, Method, NewNetwork, NonNegative, Phase, Step, TrainingSet

EPSILON = 1e-6


def per_class_mean(values: Tensor, weights: Tensor, membership: Tensor) -> Tensor:
    """Weighted mean of ``values`` [m] inside every class, [C]; ``membership`` is the one-hot matrix [m, C]."""
    return (weights * values) @ membership / (weights @ membership + EPSILON)


def classifier_weights(share: Tensor, fit: Tensor, membership: Tensor) -> Tensor:
    """1 + the soft membership [m] in the group of each class that the classifier serves worse, in [1, 2].

    share: s_i, soft share of bias group 1; fit: t_i, the classifier's probability of the label. Both [m].
    """
    first = per_class_mean(fit, share, membership)
    second = per_class_mean(fit, 1 - share, membership)
    first_is_worse = (membership @ (first <= second).float()) > 0
    return 1 + torch.where(first_is_worse, share, 1 - share)


def discovery_loss(share: Tensor, fit: Tensor, membership: Tensor, balance: float) -> Tensor:
    """L_UEO + λ_UA·L_UA averaged over the classes present: find groups treated unequally, but not one group."""
    gap = per_class_mean(fit, share, membership) - per_class_mean(fit, 1 - share, membership)
    size = membership.sum(0)
    mean_share = share @ membership / size.clamp_min(1)
    violation = -torch.log(EPSILON + gap.abs())
    assignment = -torch.log(EPSILON + 1 - (2 * mean_share - 1).abs())
    present = (size > 0).float()
    return ((violation + balance * assignment) * present).sum() / present.sum()


@register("debian")
class DebiAN(Method):
    """A classifier and a discoverer of bias groups, trained in turn on independently shuffled batches."""

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int, *, balance: NonNegative) -> None:
        super().__init__(data, new_network, epochs)
        self.balance = balance
        self.target = new_network()
        self.discoverer = new_network()

    def phases(self) -> tuple[Phase, ...]:
        classify = Step(self.classifier_loss, (self.target,))
        discover = Step(self.discoverer_loss, (self.discoverer,))
        return (Phase("train", (classify, discover), self.epochs),)

    def classifier_loss(self, batch: Batch) -> Tensor:
        ce = losses.cross_entropy(self.target(batch.images), batch.targets)
        with torch.no_grad():
            share = self.share(batch)
        weights = classifier_weights(share, torch.exp(-ce.detach()), self.membership(batch))
        return (weights * ce).mean()

    def discoverer_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            fit = torch.exp(-losses.cross_entropy(self.target(batch.images), batch.targets))
        return discovery_loss(self.share(batch), fit, self.membership(batch), self.balance)

    def share(self, batch: Batch) -> Tensor:
        logits = self.discoverer(batch.images).float()
        return torch.sigmoid(logits.gather(1, batch.targets[:, None]).squeeze(1))

    def membership(self, batch: Batch) -> Tensor:
        return (batch.targets[:, None] == torch.arange(self.num_classes, device=batch.targets.device)).float()
