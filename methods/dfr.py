"""Deep feature reweighting (Kirichenko et al., ICLR 2023; repository PolinaKirichenko/deep_feature_reweighting).

Uses validation images with their bias labels.
"""

from __future__ import annotations

import warnings
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Method, NewNetwork, Phase, Predict, Step, TrainingSet

Positive = Annotated[float, Meta(ge=1e-6, le=1e6)]


class Standardised(nn.Module):
    """Representations [m, d] as they are; once ``fit``, of mean 0 and deviation ``deviation`` on training images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(width))
        self.scale = nn.Buffer(torch.ones(width))

    def forward(self, representations: Tensor) -> Tensor:
        return (representations - self.mean) * self.scale

    def fit(self, representations: Tensor, deviation: float) -> None:
        """``representations`` [n, d]; a unit that is the same everywhere only becomes 0."""
        found, mean = torch.std_mean(representations, dim=0, correction=0)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(found > 1e-8, deviation / found, 1))


@register("dfr")
class DFR(Method):
    """Plain training, then a fresh last layer on validation images, groups equally often.

    The second phase descends mean CE + ‖w‖₁/(C·n) on standardised features, where C is ``inverse_regularisation`` and
    n the number of images in the authors' balanced subset: the groups times the size of the smallest. Its features
    have the deviation ``feature_deviation`` instead of 1 and the penalty is as much smaller, which changes how far a
    step of Adam goes, not the objective.
    """

    version = 1
    uses_validation = True
    uses_validation_bias = True

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        inverse_regularisation: Positive,
        feature_deviation: Positive,
    ) -> None:
        super().__init__(data, new_network, epochs)
        assert data.validation_targets is not None
        assert data.validation_bias is not None
        self.feature_deviation = feature_deviation
        self.target = new_network()
        self.standardised = Standardised(self.target.classifier.in_features)
        self.target.features = nn.Sequential(self.target.features, self.standardised)
        groups = data.validation_targets * data.num_biases + data.validation_bias
        sizes = torch.bincount(groups, minlength=data.num_classes * data.num_biases)
        present = sizes[sizes > 0]
        self.missing_groups = int((sizes == 0).sum())
        self.smallest_group = int(present.min())
        self.penalty = feature_deviation / (inverse_regularisation * len(present) * self.smallest_group)

    def phases(self) -> tuple[Phase, ...]:
        train = Step(self.loss, (self.target,))
        retrain = Step(self.last_layer_loss, (self.target.classifier,))
        return (
            Phase("train", (train,), self.epochs, end=self.begin_anew),
            Phase("last layer", (retrain,), self.epochs, sampler="group_balanced", split="validation"),
        )

    def loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.target(batch.images), batch.targets).mean()

    def begin_anew(self, predict: Predict) -> None:
        """Standardise the features, and forget the last layer."""
        if self.missing_groups:
            warnings.warn(
                f"DFR gets no validation image of {self.missing_groups} groups, which its last layer is not balanced "
                "for.",
                stacklevel=1,
            )
        self.standardised.fit(predict(self.target.features), self.feature_deviation)
        for parameter in self.target.classifier.parameters():
            parameter.zero_()

    def last_layer_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            representations = self.target.features(batch.images)
        ce = losses.cross_entropy(self.target.classifier(representations), batch.targets)
        return ce.mean() + self.penalty * self.target.classifier.weight.abs().sum()

    def summary(self) -> dict[str, float | list[int]]:
        return {"smallest_validation_group": self.smallest_group, "missing_validation_groups": self.missing_groups}
