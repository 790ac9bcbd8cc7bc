"""Group DRO (Sagawa et al., ICLR 2020; repository kohpangwei/group_DRO). Uses bias labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods import losses, register
from methods.base import Batch, Method, NewNetwork, NonNegative, Phase, Step, TrainingSet


@register("groupdro")
class GroupDRO(Method):
    """Minimises a weighted sum of group losses whose weights q grow exponentially with them.

    A group is (class y, bias b), numbered y·B + b; groups without training samples do not take part.
    ``adjustment`` is the C of C/√n_g, ``step_size`` the η of the update q_g ← q_g exp(η(ℓ_g + C/√n_g)).
    """

    uses_bias_labels = True

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        step_size: NonNegative,
        adjustment: NonNegative,
    ) -> None:
        super().__init__(data, new_network, epochs)
        assert data.bias is not None
        self.step_size = step_size
        self.num_biases = data.num_biases
        self.target = new_network()
        groups = data.targets * data.num_biases + data.bias
        sizes = torch.bincount(groups, minlength=data.num_classes * data.num_biases)
        self.margin = nn.Buffer(adjustment / sizes.clamp_min(1).sqrt(), persistent=False)
        self.group_weights = nn.Buffer((sizes > 0) / (sizes > 0).sum())

    def phases(self) -> tuple[Phase, ...]:
        step = Step(self.loss, (self.target,))
        return (Phase("train", (step,), self.epochs, sampler="group_balanced"),)

    def loss(self, batch: Batch) -> Tensor:
        assert batch.bias is not None
        ce = losses.cross_entropy(self.target(batch.images), batch.targets)
        group = batch.targets * self.num_biases + batch.bias
        zeros = torch.zeros_like(self.group_weights)
        sizes = zeros.index_add(0, group, torch.ones_like(ce))
        group_loss = zeros.index_add(0, group, ce) / sizes.clamp_min(1)
        return self.reweight(group_loss.detach()) @ group_loss

    def reweight(self, group_loss: Tensor) -> Tensor:
        grown = self.group_weights * torch.exp(self.step_size * (group_loss + self.margin))
        return self.group_weights.copy_(grown / grown.sum())

    def summary(self) -> dict[str, float | list[int]]:
        return {"largest_group_weight": float(self.group_weights.max())}
