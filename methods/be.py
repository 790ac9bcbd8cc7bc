"""BiasEnsemble (Lee et al., AAAI 2023; repository kakaoenterprise/BiasEnsemble) on top of LfF."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UserError
from methods import losses, register
from methods.base import Batch, Networks, NewNetwork, Phase, Predict, Step, TrainingSet, UnitInterval, Updates
from methods.lff import LfF


@register("be")
class BiasEnsemble(LfF):
    """LfF whose biased network sees only samples that a vote of auxiliary biased networks is sure of.

    ``models`` auxiliary networks are trained with GCE for ``auxiliary_updates`` each. A sample belongs to the
    bias-amplified set D_A when at least ``votes`` of them give its label more than ``confidence``; of a class without
    any such sample, the surer half does, with a warning.
    """

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        q: losses.GCEExponent,
        alpha: UnitInterval,
        models: Networks,
        auxiliary_updates: Updates,
        confidence: UnitInterval,
        votes: Networks,
    ) -> None:
        super().__init__(data, new_network, epochs, q=q, alpha=alpha)
        self.auxiliary_updates = auxiliary_updates
        self.confidence = confidence
        self.votes = votes
        self.auxiliaries = nn.ModuleList(new_network() for _ in range(models))
        n = len(data.targets)
        self.vote_count = nn.Buffer(torch.zeros(n, dtype=torch.int64))
        self.confidence_sum = nn.Buffer(torch.zeros(n))
        self.amplified = nn.Buffer(torch.zeros(n, dtype=torch.bool))

    @classmethod
    def check(cls, options: Mapping[str, Any], optimizer: str) -> None:
        if options["votes"] > options["models"]:
            raise UserError(
                f"be.votes is {options['votes']}, and be.models={options['models']} cast no more than that many votes: "
                "choose fewer, or more models."
            )

    def phases(self) -> tuple[Phase, ...]:
        auxiliary = [
            Phase(
                f"auxiliary {number}",
                (Step(partial(self.auxiliary_loss, network), (network,)),),
                updates=self.auxiliary_updates,
                end=partial(self.vote, network),
            )
            for number, network in enumerate(self.auxiliaries, start=1)
        ]
        return (*auxiliary, *super().phases())

    def auxiliary_loss(self, network: nn.Module, batch: Batch) -> Tensor:
        return losses.generalized_cross_entropy(network(batch.images), batch.targets, self.q).mean()

    def vote(self, network: nn.Module, predict: Predict) -> None:
        sure = torch.exp(-losses.cross_entropy(predict(network), self.all_targets))
        self.vote_count.add_(sure > self.confidence)
        self.confidence_sum.add_(sure)
        self.amplified.copy_(self.vote_count >= self.votes)
        filled = self._fill_empty_classes()
        if filled and network is self.auxiliaries[-1]:
            warnings.warn(
                f"No sample of the classes {', '.join(map(str, filled))} had {self.votes} votes: D_A has the half of "
                "each that the auxiliary networks are surer of in its place.",
                stacklevel=1,
            )

    def _fill_empty_classes(self) -> list[int]:
        """A class without any member would never be learnt by the biased network: keep its surer half.

        Returns the classes that had none.
        """
        filled = []
        for c in range(self.num_classes):
            members = (self.all_targets == c).nonzero().squeeze(1)
            if len(members) and not self.amplified[members].any():
                order = self.confidence_sum[members].argsort(descending=True, stable=True)
                self.amplified[members[order[: (len(members) + 1) // 2]]] = True
                filled.append(c)
        return filled

    def biased_loss(self, batch: Batch, logits: Tensor, ce: Tensor) -> Tensor:
        member = self.amplified[batch.indices]
        return (ce * member).sum() / member.sum().clamp_min(1)

    def summary(self) -> dict[str, float | list[int]]:
        kept = torch.bincount(self.all_targets[self.amplified], minlength=self.num_classes)
        return {"amplified_per_class": kept.tolist()}
