"""Small methods and batches for them, and the scalar references that the tests of several methods share.

The references, here and beside the tests, are loops over Python floats written from the methods' formulas; they share
nothing with the code under test but the logits of the networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.plan.recipes import load
from methods import get
from methods.base import Batch, Method, Network, TrainingSet
from networks.mlp import mlp

IMAGE_SHAPE = (3, 2, 2)
# A balanced training set of three classes and two bias values.
TARGETS = [0, 1, 2] * 8
BIAS = [0, 1, 0, 1, 1, 0] * 4
# Classes of unequal size, and batches in which samples come back.
UNEVEN = [0, 2, 1, 0, 2, 2, 0, 2, 2, 1, 0, 2]
LFF_BATCHES = ([0, 1, 2, 5, 9], [3, 4, 0, 1, 11], [2, 6, 7, 8, 10, 0], [5, 1, 9, 3], list(range(12)))
close = partial(pytest.approx, rel=1e-5, abs=1e-6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sharp_mlp(num_classes: int) -> Network:
    """A tiny network whose probabilities differ between samples, as those of a trained one do."""
    network = mlp(IMAGE_SHAPE, num_classes)
    with torch.no_grad():
        network.classifier.weight.mul_(60)
    return network


def build(
    name: str,
    targets: Sequence[int],
    bias: Sequence[int] | None = None,
    num_classes: int | None = None,
    num_biases: int = 2,
    **overrides: Any,
) -> Any:
    """A method with its default hyper-parameters, unless overridden, on a training set with these labels.

    Validation images, where it uses them, have the same ones.
    """
    torch.manual_seed(0)
    classes = num_classes or max(targets) + 1
    uses = get(name)
    data = TrainingSet(
        targets=torch.tensor(targets),
        bias=torch.tensor(bias) if uses.uses_bias_labels else None,
        aligned_bias=torch.arange(classes) % num_biases if uses.uses_bias_labels else None,
        num_classes=classes,
        num_biases=num_biases,
        validation_targets=torch.tensor(targets) if uses.uses_validation else None,
        validation_bias=torch.tensor(bias) if uses.uses_validation_bias else None,
    )
    return uses(data, lambda: sharp_mlp(classes), 2, **load().options(name) | overrides)


def make_batch(
    method: Method, indices: Iterable[int], bias: Sequence[int] | None = None, seed: int = 0, draws: int = 0
) -> Batch:
    """Random images for these training samples, and random numbers; ``bias`` is that of the whole training set."""
    chosen = torch.tensor(list(indices))
    source = generator(seed)
    images = torch.randn(len(chosen), *IMAGE_SHAPE, generator=source)
    drawn = torch.rand(len(chosen), draws, generator=source) if draws else None
    known = None if bias is None else torch.tensor(bias)[chosen]
    return Batch(images, method.all_targets[chosen], chosen, known, drawn)


def scalar_ce(logits: Tensor, targets: Tensor) -> list[float]:
    """−log p_y of every sample."""
    values = []
    for row, y in zip(logits.tolist(), targets.tolist(), strict=True):
        top = max(row)
        values.append(top + math.log(sum(math.exp(x - top) for x in row)) - row[y])
    return values


def network_ce(network: nn.Module, batch: Batch) -> list[float]:
    with torch.no_grad():
        return scalar_ce(network(batch.images), batch.targets)


def number(loss: Tensor) -> float:
    return loss.item()


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def predicting(classes: Sequence[int], num_classes: int) -> Any:
    """A ``Predict`` whose networks are sure of these classes."""
    return lambda network: 9.0 * F.one_hot(torch.tensor(classes), num_classes).float()


def gradients(loss: Tensor, network: nn.Module) -> Tensor:
    """All gradients of the network in one vector."""
    parts = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def assert_descends_weighted_ce(loss: Tensor, network: nn.Module, batch: Batch, weights: Sequence[float]) -> None:
    """The loss has the gradient of Σ weight·CE with constant weights: none of it flows through the weights."""
    ce = F.cross_entropy(network(batch.images), batch.targets, reduction="none")
    expected = gradients((torch.tensor(weights, dtype=torch.float32) * ce).sum(), network)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradients(loss, network), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def members_by_class(labels: Sequence[int]) -> list[list[int]]:
    """Positions of the samples of each class that is present."""
    return [[i for i, y in enumerate(labels) if y == c] for c in sorted(set(labels))]


class ScalarLfF:
    """The weights W of LfF, one sample at a time."""

    def __init__(self, targets: Sequence[int], alpha: float) -> None:
        self.targets, self.alpha = targets, alpha
        self.averages: list[dict[int, float]] = [{}, {}]

    def update(self, indices: Sequence[int], biased: Sequence[float], target: Sequence[float]) -> list[float]:
        for averages, ces in zip(self.averages, (biased, target), strict=True):
            for i, ce in zip(indices, ces, strict=True):
                averages[i] = self.alpha * averages[i] + (1 - self.alpha) * ce if i in averages else ce
        weights = []
        for i in indices:
            b, t = (
                averages[i] / max(averages.get(j, 0.0) for j, y in enumerate(self.targets) if y == self.targets[i])
                for averages in self.averages
            )
            weights.append(b / (b + t + 1e-8))
        return weights
