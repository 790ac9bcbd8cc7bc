"""Colored digits: the 1,797 handwritten digits shipped inside scikit-learn, coloured like Colored MNIST.

Needs no download. It is not a task of the paper; it is the quick tour and the ground for tests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from datasets.base import BiasedDataset, register
from datasets.coloring import COLOR_NAMES, NUM_COLORS, color_split

TRAIN, VALIDATION = 1197, 100


@register("colored_digits")
def colored_digits(data_root: Path, *, ratio: float, severity: int) -> BiasedDataset:
    """The first 1,197 digits for training and 100 for validation with share ``ratio`` aligned, 500 for testing.

    The order is scikit-learn's. ``data_root`` is not used: the images come with the package.
    """
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    targets = digits.target.astype(np.int64)
    rng = np.random.default_rng(0)
    train, validation, test = (
        color_split(grey[part], targets[part], share, severity, rng)
        for part, share in (
            (slice(0, TRAIN), ratio),
            (slice(TRAIN, TRAIN + VALIDATION), ratio),
            (slice(TRAIN + VALIDATION, None), 1 / NUM_COLORS),
        )
    )
    return BiasedDataset(
        name="Colored digits",
        class_names=tuple("0123456789"),
        bias_names=COLOR_NAMES,
        aligned_bias=np.arange(NUM_COLORS),
        train=train,
        validation=validation,
        test=test,
    )
