"""LISA, selective mixing of samples (Yao et al., ICML 2022; repository huaxiuyao/LISA). Uses bias labels."""

from __future__ import annotations

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from methods import losses, register
from methods.base import Batch, Method, NewNetwork, Phase, Step, TrainingSet, UnitInterval


def chosen(eligible: Tensor, draws: Tensor) -> Tensor:
    """The column of a True in each row of ``eligible`` [m, k], all equally probable, by a uniform number each, [m].

    The last column for a row without any.
    """
    place = (draws * eligible.sum(1)).long()
    return (eligible.cumsum(1) <= place[:, None]).sum(1).clamp_max(eligible.shape[1] - 1)


@register("lisa")
class LISA(Method):
    """Cross-entropy on mixtures of pairs that share the class and not the bias, or the bias and not the class.

    Both samples of a pair come from group-balanced batches. One chance decides for all pairs of a batch: within the
    class with probability ``intra_label``, else within the bias. The first sample has the share λ ~ Beta(α, α) of its
    image and of its label, drawn for each pair; α = ``alpha`` is whole, since the median of 2α − 1 uniform numbers is
    so distributed. A sample without a partner in the batch stays as it is.
    """

    uses_bias_labels = True

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        alpha: Annotated[int, Meta(ge=1, le=10)],
        intra_label: UnitInterval,
    ) -> None:
        super().__init__(data, new_network, epochs)
        self.alpha = alpha
        self.intra_label = intra_label
        self.target = new_network()

    def phases(self) -> tuple[Phase, ...]:
        step = Step(self.loss, (self.target,), 2 * self.alpha + 1, ("group_balanced", "group_balanced"))
        return (Phase("train", (step,), self.epochs),)

    def loss(self, batch: Batch, others: Batch) -> Tensor:
        share, partner = self.pairs(batch, others)
        mixed = torch.lerp(others.images[partner], batch.images, share[:, None, None, None])
        logits = self.target(mixed)
        own, other = (losses.cross_entropy(logits, labels) for labels in (batch.targets, others.targets[partner]))
        return (share * own + (1 - share) * other).mean()

    def pairs(self, batch: Batch, others: Batch) -> tuple[Tensor, Tensor]:
        """The share λ of each sample in its pair, and its partner's position in ``others``; both [m]."""
        assert batch.draws is not None
        assert batch.bias is not None
        assert others.bias is not None
        same_class = batch.targets[:, None] == others.targets
        same_bias = batch.bias[:, None] == others.bias
        within_class = batch.draws[0, -1] < self.intra_label
        eligible = (same_class != same_bias) & (same_class == within_class)
        share = batch.draws[:, :-2].sort(1).values[:, self.alpha - 1]
        return torch.where(eligible.any(1), share, 1), chosen(eligible, batch.draws[:, -2])
