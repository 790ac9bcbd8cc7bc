"""A dataset as small as the digits' recipe can train on, and settings and weights for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from benchmark.plan import recipes
from benchmark.plan.run import Settings
from datasets import BiasedDataset, Split


def make_split(n: int, num_classes: int, aligned: float, seed: int) -> Split:
    """Images whose first channel shows the target faintly and whose second shows the bias plainly."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % num_classes
    other = rng.integers(0, num_classes, n)
    bias = np.where(rng.random(n) < aligned, targets, other)
    images = rng.integers(0, 60, (n, 3, 2, 4), dtype=np.uint8)
    images[:, 0].reshape(n, -1)[np.arange(n), targets] += 60
    images[:, 1].reshape(n, -1)[np.arange(n), bias] += 190
    return Split(images, targets, bias)


def tiny() -> BiasedDataset:
    """4 classes × 4 bias values, 203 training images: no multiple of a batch or of the classes."""
    names = tuple("abcd")
    return BiasedDataset(
        name="tiny",
        class_names=names,
        bias_names=names,
        aligned_bias=np.arange(4),
        train=make_split(203, 4, 0.8, 0),
        validation=make_split(40, 4, 0.8, 1),
        test=make_split(160, 4, 0.0, 2),
    )


def tiny_settings(method: str, **changes: object) -> Settings:
    """The digits' recipe cut down to a few short epochs, too few for the learning rate to fall, inputs in [−1, 1]."""
    settings = recipes.load().resolve("colored_digits", method)
    settings |= {"epochs": 3, "batch_size": 64, "learning_rate_decay": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3}
    updates = {"be": "auxiliary_updates", "afr": "last_layer_updates", "dfr": "last_layer_updates"}
    if method in updates:
        settings["options"][updates[method]] = 6
    for key, value in changes.items():
        place = settings["options"] if key in settings["options"] else settings
        place[key] = value
    return settings


def draw_weights(module: nn.Module, seed: int) -> None:
    """Weights and biases of all layers anew, with bits that do not depend on the processor; PyTorch's do."""
    rng = np.random.default_rng(seed)
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            bound = layer.weight[0].numel() ** -0.5
            for parameter in layer.parameters():
                parameter.data.copy_(torch.from_numpy(rng.uniform(-bound, bound, parameter.shape)))
