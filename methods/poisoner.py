"""Poisoner (Zhang et al., ACM MM 2024), from the paper: no code was published."""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from methods import losses, register
from methods.base import (
    Batch,
    Method,
    Network,
    NewNetwork,
    NonNegative,
    Phase,
    Predict,
    Sampler,
    Step,
    TrainingSet,
    UnitInterval,
)


def group_weights(aligned: Tensor, conflict_factor: float) -> Tensor:
    """Eq. 8: |D|/|D_a| for aligned samples and λ|D|/|D_c| for conflicting ones, [n]; both sets non-empty."""
    n, n_aligned = len(aligned), aligned.sum()
    return torch.where(aligned, n / n_aligned, conflict_factor * n / (n - n_aligned))


Differentiated = Literal["neither", "aligned", "conflicting", "both", "all_but_beta"]
"""Which group means of GIFL the gradient flows through."""


def gifl_multipliers(
    fit_aligned: Tensor,
    fit_conflicting: Tensor,
    gamma: float,
    floor: float,
    cap: float,
    differentiated: Differentiated,
) -> tuple[Tensor, Tensor]:
    """What GIFL and its stabiliser β leave on aligned samples, κ = ((1 − p̄_c)/(1 − p̄_a))^γ, and on conflicting ones, 1.

    Eq. 10 multiplies aligned samples by (1 − p̄_a)^−γ and conflicting ones by (1 − p̄_c)^−γ, and β = (1 − p̄_c)^γ
    multiplies both: the conflicting factor cancels to 1. ``floor`` and ``cap`` bound κ; a cap of 1 lets aligned samples
    only lose weight while conflicting ones are fitted better.

    Eq. 10 and 11 print the means as functions of the network, whose gradient then pushes p̄_c up and p̄_a down
    ("both"). Taken as constants ("neither") they re-weight and nothing else; "aligned" and "conflicting" differentiate
    one of them, "all_but_beta" all but those in β, so that the conflicting factor is 1 in value, not in gradient.
    """
    gap_aligned, gap_conflicting = ((1 - fit).clamp(1e-4, 1) for fit in (fit_aligned, fit_conflicting))
    beta = gap_conflicting if differentiated in ("conflicting", "both") else gap_conflicting.detach()
    if differentiated in ("neither", "conflicting"):
        gap_aligned = gap_aligned.detach()
    kappa = ((beta / gap_aligned) ** gamma).clamp(floor, cap)
    if differentiated == "all_but_beta":
        return kappa, (beta / gap_conflicting) ** gamma
    return kappa, torch.ones_like(kappa)


@register("poisoner")
class Poisoner(Method):
    """Stage I poisons labels until the biased network knows only the bias; stage II re-weights what it misses.

    Stage I (Alg. 1): in every class-balanced batch the ``percentile`` % of samples least like the others of
    their current label are relabelled with the network's own prediction, for good. Stage II (Eq. 8-11): a fresh
    network on clean labels, samples split by whether the biased network still predicts their clean label,
    weighted by ``group_weights`` (λ = ``conflict_factor``) and ``gifl_multipliers`` (γ = ``gamma``).

    ``warmup_epochs`` of the first stage come before any poisoning. ``strata`` "poisoned" balances its batches by
    current labels instead of clean ones.

    ``fit_momentum`` is 0 for the paper's batch means p̄; larger values average them over batches, which steadies
    them where a batch holds only a few conflicting samples. ``differentiated`` and the bounds of κ,
    ``multiplier_floor`` and ``multiplier_cap``, are those of ``gifl_multipliers``. docs/deviations.md lists the
    readings chosen.
    """

    def __init__(
        self,
        data: TrainingSet,
        new_network: NewNetwork,
        epochs: int,
        *,
        percentile: Annotated[float, Meta(ge=0.0, le=100.0)],
        conflict_factor: NonNegative,
        gamma: NonNegative,
        fit_momentum: UnitInterval,
        multiplier_floor: NonNegative,
        multiplier_cap: NonNegative,
        differentiated: Differentiated,
        target_sampler: Literal["shuffled", "class_balanced"],
        warmup_epochs: Annotated[int, Meta(ge=0, le=100_000)],
        strata: Literal["clean", "poisoned"],
    ) -> None:
        super().__init__(data, new_network, epochs)
        self.percentile = percentile
        self.conflict_factor = conflict_factor
        self.gamma = gamma
        self.fit_momentum = fit_momentum
        self.multiplier_floor = multiplier_floor
        self.multiplier_cap = multiplier_cap
        self.differentiated: Differentiated = differentiated
        self.target_sampler = target_sampler
        self.warmup_epochs = min(warmup_epochs, epochs)
        self.strata = strata
        self.biased: Network = new_network()
        self.target = new_network()
        n = len(data.targets)
        # Stage I poisons the labels; its end finds who is aligned, and the weights that follow.
        self.labels = nn.Buffer(data.targets.clone())
        self.aligned = nn.Buffer(torch.ones(n, dtype=torch.bool))
        self.weights = nn.Buffer(torch.ones(n))
        # Stage II: mean fit p̄ of aligned and of conflicting samples; equal means make κ = 1.
        self.fit = nn.Buffer(torch.full((2,), 1 / data.num_classes))
        self.seen = nn.Buffer(torch.zeros(2, dtype=torch.bool))
        if strata == "poisoned":
            self.sample_weights = nn.Buffer(torch.ones(n))
            self.balance_labels()

    def phases(self) -> tuple[Phase, ...]:
        warm_up = Step(self.clean_loss, (self.biased,))
        poison = Step(self.poisoned_loss, (self.biased,))
        debias = Step(self.target_loss, (self.target,))
        epochs = self.epochs - self.warmup_epochs
        clean = self.strata == "clean"
        sampler: Sampler = "class_balanced" if clean else "weighted"
        balance = None if clean else self.balance_labels
        phases = (
            Phase("poison", (poison,), epochs, sampler=sampler, end_epoch=balance, end=self.split),
            Phase("train", (debias,), self.epochs, sampler=self.target_sampler),
        )
        if not self.warmup_epochs:
            return phases
        return (Phase("warm up", (warm_up,), self.warmup_epochs, sampler="class_balanced"), *phases)

    def clean_loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.biased(batch.images), batch.targets).mean()

    def poisoned_loss(self, batch: Batch) -> Tensor:
        representations = self.biased.features(batch.images)
        logits = self.biased.classifier(representations)
        labels = self.poison(batch.indices, representations.detach(), logits.detach())
        return losses.cross_entropy(logits, labels).mean()

    def poison(self, indices: Tensor, representations: Tensor, logits: Tensor) -> Tensor:
        """Relabel the outliers of the batch (Eq. 4-6), in the store too; returns the batch's new labels [m]."""
        labels = self.labels[indices]
        score = losses.contrastive_dissimilarity(representations, labels)
        # Samples without peers (−∞) stay below any threshold; a finite stand-in keeps the quantile a number.
        score = score.clamp_min(torch.finfo(score.dtype).min / 4)
        threshold = losses.quantile(score, 1 - self.percentile / 100)
        labels = torch.where(score > threshold, logits.argmax(1), labels)
        self.labels[indices] = labels
        return labels

    def balance_labels(self, predict: Predict | None = None) -> None:
        """Let the next epoch draw every current label equally often."""
        self.sample_weights.copy_(1 / torch.bincount(self.labels, minlength=self.num_classes)[self.labels])

    def split(self, predict: Predict) -> None:
        self.aligned.copy_(predict(self.biased).argmax(1) == self.all_targets)
        if self.aligned.all() or not self.aligned.any():
            warnings.warn("Poisoner found only one group: its second stage is plain training.", stacklevel=1)
        else:
            self.weights.copy_(group_weights(self.aligned, self.conflict_factor))

    def target_loss(self, batch: Batch) -> Tensor:
        ce = losses.cross_entropy(self.target(batch.images), batch.targets)
        aligned = self.aligned[batch.indices]
        of_aligned, of_conflicting = self.multipliers(torch.exp(-ce), aligned)
        return (self.weights[batch.indices] * torch.where(aligned, of_aligned, of_conflicting) * ce).mean()

    def multipliers(self, fit: Tensor, aligned: Tensor) -> tuple[Tensor, Tensor]:
        """``gifl_multipliers`` of the mean fit p_y [m] of both groups; one missing from the batch keeps its last mean.

        1 until both groups were seen, hence always where there is only one.
        """
        member = torch.stack((aligned, ~aligned)).to(fit.dtype)
        count = member.sum(1)
        mean = member @ fit / count.clamp_min(1)
        moved = self.fit_momentum * self.fit + (1 - self.fit_momentum) * mean
        moved = moved.detach() + (mean - mean.detach())  # a running mean, with the gradient of the batch's
        means = torch.where(count > 0, moved, self.fit)
        self.fit.copy_(means.detach())
        self.seen.logical_or_(count > 0)
        multipliers = gifl_multipliers(
            means[0], means[1], self.gamma, self.multiplier_floor, self.multiplier_cap, self.differentiated
        )
        of_aligned, of_conflicting = (torch.where(self.seen.all(), each, 1) for each in multipliers)
        return of_aligned, of_conflicting

    def summary(self) -> dict[str, float | list[int]]:
        poisoned = self.labels != self.all_targets
        return {
            "found_conflicting": int((~self.aligned).sum()),
            "labels_poisoned": int(poisoned.sum()),
            "found_and_poisoned": int((poisoned & ~self.aligned).sum()),
        }
