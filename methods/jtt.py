"""Just Train Twice (Liu et al., ICML 2021; repository anniesch/jtt)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Epochs, Method, Network, NewNetwork, NonNegative, Phase, Predict, Step, TrainingSet


@register("jtt")
class JTT(Method):
    """Train briefly, collect the errors, train a fresh network that sees each error ``upsampling`` more times.

    As in the authors' code an error sample counts 1 + λ_up times. The second stage draws with replacement
    by these weights and has as many updates as every other method's target network.
    """

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        identification_epochs: Epochs,
        upsampling: NonNegative,
    ) -> None:
        super().__init__(data, new_network, epochs)
        self.identification_epochs = identification_epochs
        self.upsampling = upsampling
        self.biased: Network = new_network()
        self.target = new_network()
        self.errors = nn.Buffer(torch.zeros(len(data.targets), dtype=torch.bool))
        self.sample_weights = nn.Buffer(torch.ones(len(data.targets)))

    def phases(self) -> tuple[Phase, ...]:
        identify = Step(self.identification_loss, (self.biased,))
        train = Step(self.target_loss, (self.target,))
        return (
            Phase("identify", (identify,), self.identification_epochs, end=self.upsample_errors),
            Phase("train", (train,), self.epochs, sampler="weighted"),
        )

    def identification_loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.biased(batch.images), batch.targets).mean()

    def target_loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.target(batch.images), batch.targets).mean()

    def upsample_errors(self, predict: Predict) -> None:
        self.errors.copy_(predict(self.biased).argmax(1) != self.all_targets)
        if not self.errors.any():
            warnings.warn("JTT's error set is empty: its second stage weights all samples alike.", stacklevel=1)
        self.sample_weights.copy_(1 + self.upsampling * self.errors)

    def summary(self) -> dict[str, float | list[int]]:
        return {"error_set": int(self.errors.sum())}
