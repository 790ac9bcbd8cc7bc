"""DPR, disagreement-probability-based resampling (Han et al., NeurIPS 2024; repository hygnhan/DPR)."""

from __future__ import annotations

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Method, Network, NewNetwork, Phase, Predict, Step, TrainingSet

Temperature = Annotated[float, Meta(ge=1e-3, le=1e3)]


def disagreement(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """1 − p_y of the logits divided by the temperature, [n]: how probably a drawn prediction is not the label.

    At least 1e-8, as in the authors' code, so that no sample is out of reach.
    """
    return (-torch.expm1(-losses.cross_entropy(logits / temperature, targets))).clamp_min(1e-8)


@register("dpr")
class DPR(Method):
    """Train a biased network with GCE, then draw each sample as probably as that network disagrees with its label.

    The target network starts from the biased one's weights and is trained with cross-entropy on batches drawn with
    replacement, for as many epochs again.
    """

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        q: losses.GCEExponent,
        temperature: Temperature,
    ) -> None:
        super().__init__(data, new_network, epochs)
        self.q = q
        self.temperature = temperature
        self.biased: Network = new_network()
        self.target = new_network()
        self.sample_weights = nn.Buffer(torch.ones(len(data.targets)))

    def phases(self) -> tuple[Phase, ...]:
        bias = Step(self.biased_loss, (self.biased,))
        debias = Step(self.target_loss, (self.target,))
        return (
            Phase("bias", (bias,), self.epochs, end=self.resample),
            Phase("train", (debias,), self.epochs, sampler="weighted"),
        )

    def biased_loss(self, batch: Batch) -> Tensor:
        return losses.generalized_cross_entropy(self.biased(batch.images), batch.targets, self.q).mean()

    def resample(self, predict: Predict) -> None:
        self.sample_weights.copy_(disagreement(predict(self.biased), self.all_targets, self.temperature))
        self.target.load_state_dict(self.biased.state_dict())

    def target_loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.target(batch.images), batch.targets).mean()

    def summary(self) -> dict[str, float | list[int]]:
        """``effective_samples``: (Σw)²/Σw² of the sampling weights w, so many equal ones would be drawn alike."""
        weights = self.sample_weights.double()
        return {"effective_samples": float(weights.sum() ** 2 / (weights**2).sum())}
