"""Automatic feature reweighting (Qiu et al., ICML 2023; repository AndPotap/afr)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import (
    Batch,
    Method,
    NewNetwork,
    NonNegative,
    Phase,
    Predict,
    Step,
    TrainingSet,
    UnitInterval,
    Updates,
)

PARTS = 10  # of the second phase, after each of which it is measured


def afr_weights(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """exp(−γ p_y)/n_y, scaled to a sum of 1, [n]: badly fitted samples count most, each class by its mean.

    logits: [n, C] of the first stage; targets: [n].
    """
    fit = torch.exp(-losses.cross_entropy(logits, targets))
    weights = torch.exp(-gamma * fit) / torch.bincount(targets, minlength=logits.shape[1])[targets]
    return weights / weights.sum()


@register("afr")
class AFR(Method):
    """Plain training on a part of the training set, then the last layer on the rest, weighted by what it misses.

    The random share ``held_out`` of the training set is left for the second phase, which descends Σ w·CE +
    λ‖θ − θ₀‖², with w by ``afr_weights`` (γ = ``gamma``), λ = ``pull`` and θ₀ the last layer of the first: it draws
    samples with probability w.
    """

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        held_out: UnitInterval,
        gamma: NonNegative,
        pull: NonNegative,
        last_layer_updates: Updates,
    ) -> None:
        super().__init__(data, new_network, epochs)
        self.gamma = gamma
        self.pull = pull
        self.last_layer_updates = last_layer_updates
        self.target = new_network()
        n = len(data.targets)
        rank = torch.randperm(n)
        self.held_out = nn.Buffer(rank < min(max(round(held_out * n), 1), n - 1))
        self.sample_weights = nn.Buffer((~self.held_out).float())
        self.first_layer = nn.Buffer(torch.zeros_like(self.last_layer()))

    def phases(self) -> tuple[Phase, ...]:
        train = Step(self.loss, (self.target,))
        reweight = Step(self.last_layer_loss, (self.target.classifier,))
        return (
            Phase("train", (train,), self.epochs, sampler="weighted", end=self.reweight),
            # The authors look after every update, and the best come early.
            Phase("last layer", (reweight,), epochs=PARTS, updates=self.last_layer_updates, sampler="weighted"),
        )

    def loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.target(batch.images), batch.targets).mean()

    def reweight(self, predict: Predict) -> None:
        """Weigh what was held out by how the first stage fits it, and remember its last layer."""
        rows = self.held_out
        weights = afr_weights(predict(self.target)[rows], self.all_targets[rows], self.gamma)
        self.sample_weights.zero_()
        self.sample_weights[rows] = weights.to(self.sample_weights.dtype)
        self.first_layer.copy_(self.last_layer())

    def last_layer_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            representations = self.target.features(batch.images)
        ce = losses.cross_entropy(self.target.classifier(representations), batch.targets)
        return ce.mean() + self.pull * (self.last_layer() - self.first_layer).square().sum()

    def last_layer(self) -> Tensor:
        """All of its parameters, in one vector."""
        return torch.cat([parameter.flatten() for parameter in self.target.classifier.parameters()])

    def summary(self) -> dict[str, float | list[int]]:
        return {"held_out": int(self.held_out.sum())}
