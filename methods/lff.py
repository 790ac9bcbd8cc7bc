"""Learning from Failure (Nam et al., NeurIPS 2020; repository alinlab/LfF)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Method, Network, NewNetwork, Phase, Step, TrainingSet, UnitInterval


class SampleAverage(nn.Module):
    """Exponential moving average of one loss per training sample, with the exact maximum of every class.

    Averages are kept class by class in a zero-padded matrix [C, largest class], so that the class maxima are
    one ``amax``. A sample's first loss is taken as it is; unvisited samples count as 0.
    """

    def __init__(self, targets: Tensor, num_classes: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        sizes = torch.bincount(targets, minlength=num_classes)
        by_class = torch.argsort(targets, stable=True)
        rank = torch.empty_like(by_class)
        starts = sizes.cumsum(0) - sizes
        rank[by_class] = torch.arange(len(targets)) - starts[targets[by_class]]
        width = int(sizes.max())
        self.slot = nn.Buffer(targets * width + rank, persistent=False)
        self.average = nn.Buffer(torch.zeros(num_classes, width))
        self.visited = nn.Buffer(torch.zeros(num_classes * width, dtype=torch.bool))

    def update(self, indices: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
        """Take in the batch's losses [m]; returns its averages divided by their class maxima, in [0, 1]."""
        slot = self.slot[indices]
        flat = self.average.view(-1)
        moved = self.alpha * flat[slot] + (1 - self.alpha) * loss
        average = torch.where(self.visited[slot], moved, loss)
        flat[slot] = average
        self.visited.index_fill_(0, slot, True)  # unlike an assignment, which sends the value to the device and waits
        return average / (self.average.amax(1)[targets] + 1e-8)


@register("lff")
class LfF(Method):
    """A biased network trained with GCE and a debiased one that weights samples by their relative difficulty.

    W_i = β̃_i/(β̃_i + δ̃_i) with β̃, δ̃ the class-normalised averages of both networks' cross-entropies.
    """

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        q: losses.GCEExponent,
        alpha: UnitInterval,
    ) -> None:
        super().__init__(data, new_network, epochs)
        self.q = q
        self.biased: Network = new_network()
        self.target = new_network()
        self.biased_average = SampleAverage(data.targets, data.num_classes, alpha)
        self.target_average = SampleAverage(data.targets, data.num_classes, alpha)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", (Step(self.loss, (self.biased, self.target)),), self.epochs),)

    def loss(self, batch: Batch) -> Tensor:
        biased_logits = self.biased(batch.images)
        biased_ce = losses.cross_entropy(biased_logits, batch.targets)
        target_ce = losses.cross_entropy(self.target(batch.images), batch.targets)
        weights = self.relative_difficulty(batch, biased_ce.detach(), target_ce.detach())
        return self.biased_loss(batch, biased_logits, biased_ce) + (weights * target_ce).mean()

    def relative_difficulty(self, batch: Batch, biased_ce: Tensor, target_ce: Tensor) -> Tensor:
        biased = self.biased_average.update(batch.indices, batch.targets, biased_ce)
        target = self.target_average.update(batch.indices, batch.targets, target_ce)
        return biased / (biased + target + 1e-8)

    def biased_loss(self, batch: Batch, logits: Tensor, ce: Tensor) -> Tensor:
        return losses.generalized_cross_entropy(logits, batch.targets, self.q).mean()
