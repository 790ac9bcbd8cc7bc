"""Random images of objects, and settings to train a ResNet on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmark.plan.recipes import load
from benchmark.plan.run import Settings
from datasets import BiasedDataset, Split


def noise(n: int, size: int = 32) -> Split:
    """Random images of 2 × 2 groups in turn; class 1 is brighter, so that something can be learnt."""
    rng = np.random.default_rng(n)
    targets, bias = np.arange(n) % 2, np.arange(n) // 2 % 2
    images = rng.integers(0, 200, (n, 3, size, size), dtype=np.uint8)
    images += (50 * targets).astype(np.uint8)[:, None, None, None]
    return Split(images, targets, bias)


def noise_dataset() -> BiasedDataset:
    return BiasedDataset(
        name="noise",
        class_names=("dark", "bright"),
        bias_names=("a", "b"),
        aligned_bias=np.array([0, 1]),
        train=noise(40),
        validation=noise(8),
        test=noise(16),
    )


def noise_settings(method: str = "vanilla", **changes: Any) -> Settings:
    """The reduced recipe of dogs and cats, which flips and crops, cut down to two epochs."""
    base = load().resolve("dogs_cats", method, (), "reduced")
    return {**base, "epochs": 2, "batch_size": 16, **changes}
