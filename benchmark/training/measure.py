"""Clean measurements of a network between two epochs: evaluation mode, no augmentation, counted by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import metrics
from benchmark.training.loader import DeviceSplit
from datasets import BiasedDataset

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Splits:
    """A dataset's splits on a device, which seeds of one run share."""

    train: DeviceSplit
    validation: DeviceSplit
    test: DeviceSplit

    @classmethod
    def of(cls, dataset: BiasedDataset, settings: dict[str, Any], device: torch.device) -> Splits:
        biases = len(dataset.bias_names)
        parts = (dataset.train, dataset.validation, dataset.test)
        return cls(*(DeviceSplit(split, biases, settings, device) for split in parts))


class Measurement:
    """What is measured of the networks of one training."""

    def __init__(self, dataset: BiasedDataset, splits: Splits) -> None:
        self.dataset = dataset
        self.splits = splits
        self._logits: dict[nn.Module, Tensor] = {}

    def forget(self) -> None:
        """To be called when networks are about to change."""
        self._logits.clear()

    def predict(self, network: nn.Module) -> Tensor:
        """Logits [n, C] on the training set, computed once between two epochs."""
        if network not in self._logits:
            self._logits[network] = self.splits.train.logits(network)
        return self._logits[network]

    def scores(self, network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        """Predicted class, int64 [n], and probability of the label, float32 [n], of every training sample."""
        logits = self.predict(network)
        score = logits.softmax(1).gather(1, self.splits.train.targets[:, None]).squeeze(1)
        return logits.argmax(1).cpu().numpy(), score.cpu().numpy()

    def on_training(self, network: nn.Module) -> tuple[Metrics, np.ndarray]:
        """Bias Accuracy, and error and loss of aligned and conflicting samples; right answers by group [C, B]."""
        logits, split = self.predict(network), self.splits.train
        counts = self._group_counts(logits, split)
        losses = self._group_sum(F.cross_entropy(logits, split.targets, reduction="none"), split)
        total, aligned_bias = self.dataset.group_sizes(self.dataset.train), self.dataset.aligned_bias
        aligned = metrics.aligned_mask(total.shape, aligned_bias)
        measured: Metrics = {"bias_acc": metrics.bias_accuracy(counts, total, aligned_bias)}
        for name, mask in (("aligned", aligned), ("conflicting", ~aligned)):
            size = total[mask].sum()
            measured[f"{name}_error"] = float(100 * (1 - counts[mask].sum() / size)) if size else None
            measured[f"{name}_loss"] = float(losses[mask].sum() / size) if size else None
        return measured, counts.astype(int)

    def on_test(self, network: nn.Module) -> tuple[Metrics, np.ndarray]:
        """The metrics of Tables 1 and 2, and right answers by group [C, B]."""
        counts = self._group_counts(self.splits.test.logits(network), self.splits.test)
        total = self.dataset.group_sizes(self.dataset.test)
        return metrics.fairness(counts, total, self.dataset.scored), counts.astype(int)

    def validation_accuracy(self, network: nn.Module) -> float | None:
        """Counted over samples, not groups: validation images need no bias label. None where there are none."""
        split = self.splits.validation
        if not len(split):
            return None
        right = split.logits(network).argmax(1) == split.targets
        return metrics.sample_accuracy(int(right.sum()), len(right))

    def _group_counts(self, logits: Tensor, split: DeviceSplit) -> np.ndarray:
        return self._group_sum((logits.argmax(1) == split.targets).double(), split)

    def _group_sum(self, values: Tensor, split: DeviceSplit) -> np.ndarray:
        """Sum of ``values`` [n] over each group, [C, B]; samples of unknown bias go to a slot of their own."""
        shape = len(self.dataset.class_names), len(self.dataset.bias_names)
        groups = shape[0] * shape[1]
        sums = torch.zeros(groups + 1, dtype=torch.float64, device=split.device)
        sums.index_add_(0, torch.where(split.bias < 0, groups, split.groups), values.double())
        return sums[:groups].view(shape).cpu().numpy()
