"""What the batches of a run consist of: how many there are, of which samples, and what its method sees of them."""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from torch import Tensor

from benchmark.errors import unknown
from benchmark.training import samplers
from benchmark.training.loader import Augmentation, DeviceSplit
from benchmark.training.measure import Splits
from benchmark.training.networks import memory_format
from datasets import BiasedDataset, Split
from methods.base import Batch, Method, Phase, Sampler


class Batches:
    """Those of a method, of ``settings["batch_size"]`` samples each, or as many as there are.

    A method that trains on validation images is ``given`` its own. Phases raise ValueError for a split, bias labels
    or a sampler whose use the method does not declare.
    """

    def __init__(
        self, dataset: BiasedDataset, given: Split | None, splits: Splits, settings: dict[str, Any], method: Method
    ) -> None:
        self.dataset, self.given, self.splits = dataset, given, splits
        self.method = method
        self.layout = memory_format(method)
        self.augmentation = Augmentation(settings)
        self._most: int = settings["batch_size"]
        self._images: dict[int, Tensor] = {}

    def split(self, phase: Phase) -> DeviceSplit:
        """The images that a phase trains on, as the device sees them."""
        return self.splits.to_train_on(phase.split)

    def size(self, phase: Phase) -> int:
        return min(self._most, len(self.split(phase)))

    def updates_per_pass(self, phase: Phase) -> int:
        return math.ceil(len(self.split(phase)) / self.size(phase))

    def updates_per_epoch(self, phase: Phase) -> int:
        """Those of a pass, or of a part where the phase counts its updates and says into how many they are divided."""
        if phase.updates is None or not phase.epochs:
            return self.updates_per_pass(phase)
        return max(1, phase.updates // phase.epochs)

    def epochs(self, phase: Phase) -> int:
        """How many a phase has, of which the last may be shorter."""
        return phase.epochs if phase.updates is None else math.ceil(phase.updates / self.updates_per_epoch(phase))

    def passes(self, phase: Phase, epoch: int) -> int:
        """How many whole passes over its images a phase has made before an epoch, of which 0 is the first."""
        return epoch * self.updates_per_epoch(phase) // self.updates_per_pass(phase)

    def draw(self, phase: Phase, epoch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw an epoch of a phase, of which 0 is the first: sample indices [updates × batches, m], the augmentation
        of each sample, and the random numbers [updates × batches, m, k] of the step that asks for most.

        One row a batch, in the order in which the phase's steps take turns, and each takes its own.
        """
        size, updates = self.size(phase), self.updates_per_epoch(phase)
        if phase.updates is not None:
            updates = min(updates, phase.updates - epoch * updates)
        rows = [self._rows(phase, sampler, updates, generator) for of_step in phase.batches for sampler in of_step]
        order = torch.stack(rows, 1).flatten(0, 1)
        augmented = self.augmentation.draw(len(order), size, generator)
        most = max(step.draws for step in phase.steps)
        shape = len(order), size, most
        return order, augmented, torch.rand(shape, generator=generator) if most else torch.empty(shape)

    def _rows(self, phase: Phase, sampler: Sampler, updates: int, generator: torch.Generator) -> Tensor:
        """So many rows of ``order``, of which one pass may not have enough."""
        passes = -(-updates // self.updates_per_pass(phase))
        return torch.cat([self.order(phase, sampler, generator) for _ in range(passes)])[:updates]

    def order(self, phase: Phase, sampler: Sampler, generator: torch.Generator) -> Tensor:
        """Sample indices of an epoch, int64 [updates, m], one row a batch. Raises ValueError as said above."""
        images = self.dataset.train if self.given is None or phase.split == "train" else self.given
        targets, size = torch.from_numpy(images.targets), self.size(phase)
        if sampler == "shuffled":
            return samplers.shuffled(len(targets), size, generator)
        if sampler == "class_balanced":
            return samplers.class_balanced(targets, len(self.dataset.class_names), size, generator)
        if sampler == "weighted":
            weights = self.method.sample_weights.cpu()
            if len(weights) != len(targets):
                raise ValueError(f"Phase '{phase.name}' has {len(weights)} weights for {len(targets)} images.")
            return samplers.weighted(weights, size, generator)
        if sampler != "group_balanced":
            raise unknown("sampler", sampler, get_args(Sampler))
        if not self._sees_bias(phase):
            raise ValueError(f"Phase '{phase.name}' balances groups, but its method declares no use of bias labels.")
        groups = targets * len(self.dataset.bias_names) + torch.from_numpy(images.bias)
        return samplers.weighted(1 / torch.bincount(groups)[groups], size, generator)

    def batch(
        self,
        phase: Phase,
        indices: Tensor,
        images: Tensor,
        augmented: Tensor,
        draws: Tensor | None = None,
        place: int = 0,
    ) -> Batch:
        """What a method sees of the samples ``indices`` [m], or [S, m] for S seeds, until the next batch in its place.

        ``place``: which batch of a loss it is.
        """
        images = self.augmentation.apply(images, augmented).contiguous(memory_format=self.layout)
        if place not in self._images or self._images[place].shape != images.shape:
            self._images[place] = torch.empty_like(images, dtype=torch.get_default_dtype())
        split = self.split(phase)
        return Batch(
            images=split.normalise(images, self._images[place]),
            targets=split.targets[indices],
            indices=indices,
            bias=split.bias[indices] if self._sees_bias(phase) else None,
            draws=draws,
            split=phase.split,
        )

    def _sees_bias(self, phase: Phase) -> bool:
        """Whether the method declares use of the bias labels of the images that a phase trains on."""
        return self.method.uses_bias_labels if phase.split == "train" else self.method.uses_validation_bias
