"""Clean measurements of networks between two epochs: evaluation mode, no augmentation, counted by group.

What is counted stays on the device, and is read once an epoch for all networks of all seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import metrics
from benchmark.training.loader import DeviceSplit
from datasets import BiasedDataset, Split
from methods.base import SplitName

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Splits:
    """A dataset's splits on a device, which seeds of one run share; ``given`` are a method's own validation images."""

    train: DeviceSplit
    validation: DeviceSplit
    test: DeviceSplit
    given: DeviceSplit | None = None

    @classmethod
    def of(
        cls, dataset: BiasedDataset, settings: dict[str, Any], device: torch.device, given: Split | None = None
    ) -> Splits:
        biases = len(dataset.bias_names)
        parts = (dataset.train, dataset.validation, dataset.test, *([] if given is None else [given]))
        return cls(*(DeviceSplit(split, biases, settings, device) for split in parts))

    def to_train_on(self, name: SplitName) -> DeviceSplit:
        """The training set, or a method's own validation images. Raises ValueError where it gets none."""
        if name == "train":
            return self.train
        if self.given is None:
            raise ValueError("The method trains on validation images, or looks at them, and does not declare it.")
        return self.given


class Measurement:
    """What is measured of the networks of one training, of what ``count`` counted."""

    def __init__(self, dataset: BiasedDataset, splits: Splits) -> None:
        self.dataset = dataset
        self.splits = splits
        self._logits: dict[tuple[nn.Module, SplitName], Tensor] = {}
        self._sums: dict[tuple[nn.Module, str], np.ndarray] = {}

    def forget(self) -> None:
        """To be called when networks are about to change."""
        self._logits.clear()
        self._sums.clear()

    def predict(self, network: nn.Module, split: SplitName = "train") -> Tensor:
        """Logits [n, C] on a split that is trained on, computed once between two epochs."""
        if (network, split) not in self._logits:
            self._logits[network, split] = self.splits.to_train_on(split).logits(network)
        return self._logits[network, split]

    def scores(self, network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        """Predicted class, int64 [n], and probability of the label, float32 [n], of every training sample."""
        logits = self.predict(network)
        score = logits.softmax(1).gather(1, self.splits.train.targets[:, None]).squeeze(1)
        return logits.argmax(1).cpu().numpy(), score.cpu().numpy()

    def is_finite(self, network: nn.Module) -> bool:
        """Whether all logits and losses of the network that were counted are finite numbers."""
        return all(np.isfinite(sums).all() for (counted, _), sums in self._sums.items() if counted is network)

    def on_training(self, network: nn.Module) -> tuple[Metrics, np.ndarray]:
        """Bias Accuracy, and error and loss of aligned and conflicting samples; right answers by group [C, B]."""
        counts, losses = (self._by_group(each) for each in self._sums[network, "train"])
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
        counts = self._by_group(self._sums[network, "test"][0])
        total = self.dataset.group_sizes(self.dataset.test)
        aligned_bias = self.dataset.aligned_bias if self.dataset.told_by else None
        return metrics.fairness(counts, total, self.dataset.scored, aligned_bias), counts.astype(int)

    def on_validation(self, network: nn.Module) -> tuple[float | None, np.ndarray | None]:
        """Plain accuracy, and right answers by the data set's ``validation_sizes``; None without images.

        Accuracy is counted over samples, not groups: validation images need no bias label.
        """
        sizes = self.dataset.validation_sizes
        if sizes is None:
            return None, None
        right = self._sums[network, "validation"][0]
        counts = self._by_group(right)
        if sizes.shape[1] == 1:
            counts = (counts.sum(1) + right[counts.size :])[:, None]
        return metrics.sample_accuracy(right.sum(), sizes.sum()), counts.astype(int)

    def sums(self, logits: Tensor, split: DeviceSplit) -> Tensor:
        """Right answers and losses of logits [S, n, C] summed over each group, [S, 2, C · B + C], as float64.

        The last C are of samples whose bias is unknown, by class. A loss of logits that are not all finite is NaN.
        """
        seeds, groups = len(logits), len(self.dataset.class_names) * len(self.dataset.bias_names)
        targets = split.targets.expand(seeds, -1)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        loss = loss.masked_fill(~logits.isfinite().all(2), torch.nan)
        values = torch.stack(((logits.argmax(2) == targets).double(), loss.double()), 1)
        group = torch.where(split.bias < 0, groups + split.targets, split.groups)
        places = groups + len(self.dataset.class_names)
        return values.new_zeros(seeds, 2, places).index_add_(2, group, values)

    def _by_group(self, sums: np.ndarray) -> np.ndarray:
        """[C, B], without the samples of unknown bias."""
        shape = len(self.dataset.class_names), len(self.dataset.bias_names)
        return sums[: shape[0] * shape[1]].reshape(shape)


@torch.no_grad()
def count(measurements: Sequence[Measurement], wanted: Sequence[Sequence[tuple[nn.Module, str]]]) -> None:
    """Count what networks predict on splits, given for each measurement, and wait for the device once.

    Measurements that are of several seeds of a run want the same, each of its own networks.
    """
    if not any(wanted):
        return
    splits, sums = measurements[0].splits, []
    for alike in zip(*wanted, strict=True):
        networks, name = [network for network, _ in alike], alike[0][1]
        split: DeviceSplit = getattr(splits, name)
        logits = split.logits_of(networks)
        sums.append(measurements[0].sums(logits, split))
        if name == "train":
            for measurement, network, each in zip(measurements, networks, logits, strict=True):
                measurement._logits[network, "train"] = each
    read = torch.stack(sums, 1).cpu().numpy()
    for measurement, requests, numbers in zip(measurements, wanted, read, strict=True):
        measurement._sums |= dict(zip(requests, numbers, strict=True))
