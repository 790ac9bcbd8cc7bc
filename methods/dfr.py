"""Deep feature reweighting (Kirichenko et al., ICLR 2023; repository PolinaKirichenko/deep_feature_reweighting).

Uses validation images with their bias labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Method, NewNetwork, Phase, Predict, Step, TrainingSet, Updates, check_scale

Positive = Annotated[float, Meta(ge=1e-6, le=1e6)]
PARTS = 10  # of the second phase, after each of which networks are measured


class Standardised(nn.Module):
    """Representations [m, d] as they are; once ``fit``, of mean 0 and deviation 1 on the training images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(width))
        self.deviation = nn.Buffer(torch.ones(width))

    def forward(self, representations: Tensor) -> Tensor:
        return (representations - self.mean) / self.deviation

    def fit(self, representations: Tensor) -> None:
        """``representations``: [n, d]. A unit that is the same everywhere is only shifted."""
        deviation, mean = torch.std_mean(representations, dim=0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-8, deviation, 1))


class Amplified(nn.Linear):
    """A linear layer times ``factor``, hence with parameters as much smaller.

    Adam moves each by about its learning rate at a time, so that the layer moves as if that were ``factor`` times as
    large.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.load_state_dict(layer.state_dict())
        self.factor = nn.Buffer(torch.ones(()))

    def forward(self, representations: Tensor) -> Tensor:
        return super().forward(representations) * self.factor


@register("dfr")
class DFR(Method):
    """Plain training, then the last layer alone on validation images, groups equally often.

    The second phase descends mean CE + ‖w‖₁/(C·n) on standardised features, where C is ``inverse_regularisation`` and
    n the number of images in the authors' balanced subset: the groups times the size of the smallest. That is convex:
    where the layer begins does not matter. It takes ``last_layer_updates`` steps at ``rate_factor`` times the learning
    rate, see ``Amplified``.
    """

    uses_validation = True
    uses_validation_bias = True

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        inverse_regularisation: Positive,
        rate_factor: Positive,
        last_layer_updates: Updates,
    ) -> None:
        super().__init__(data, new_network, epochs)
        assert data.validation_targets is not None
        assert data.validation_bias is not None
        self.rate_factor = rate_factor
        self.last_layer_updates = last_layer_updates
        self.target = new_network()
        self.last_layer = self.target.classifier = Amplified(self.target.classifier)
        self.standardised = Standardised(self.last_layer.in_features)
        self.target.features = nn.Sequential(self.target.features, self.standardised)
        groups = data.validation_targets * data.num_biases + data.validation_bias
        sizes = torch.bincount(groups, minlength=data.num_classes * data.num_biases)
        present = sizes[sizes > 0]
        self.missing_groups = int((sizes == 0).sum())
        self.smallest_group = int(present.min())
        self.penalty = rate_factor / (inverse_regularisation * len(present) * self.smallest_group)

    @classmethod
    def check(cls, options: Mapping[str, Any], optimizer: str) -> None:
        check_scale("dfr.rate_factor", options["rate_factor"], optimizer)

    def phases(self) -> tuple[Phase, ...]:
        train = Step(self.loss, (self.target,))
        retrain = Step(self.last_layer_loss, (self.last_layer,))
        return (
            Phase("train", (train,), self.epochs, end=self.standardise),
            Phase(
                "last layer",
                (retrain,),
                epochs=PARTS,
                updates=self.last_layer_updates,
                sampler="group_balanced",
                split="validation",
            ),
        )

    def loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.target(batch.images), batch.targets).mean()

    def standardise(self, predict: Predict) -> None:
        """Standardise the features; the last layer takes that back, so that the network says what it said before."""
        if self.missing_groups:
            warnings.warn(
                f"DFR gets no validation image of {self.missing_groups} groups, which its last layer is not balanced "
                "for.",
                stacklevel=1,
            )
        layer, standardised = self.last_layer, self.standardised
        standardised.fit(predict(self.target.features))
        layer.factor.fill_(self.rate_factor)
        layer.bias.copy_((layer.bias + layer.weight @ standardised.mean) / self.rate_factor)
        layer.weight.mul_(standardised.deviation / self.rate_factor)

    def last_layer_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            representations = self.target.features(batch.images)
        ce = losses.cross_entropy(self.last_layer(representations), batch.targets)
        return ce.mean() + self.penalty * self.last_layer.weight.abs().sum()

    def summary(self) -> dict[str, float | list[int]]:
        return {"smallest_validation_group": self.smallest_group, "missing_validation_groups": self.missing_groups}
