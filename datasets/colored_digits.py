"""Colored digits: the 1,797 handwritten digits shipped inside scikit-learn, coloured like Colored MNIST.

Needs no download. It is not a task of the paper; it is the quick tour and the ground for tests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.base import BiasedDataset, Split, register
from datasets.coloring import COLOR_NAMES, NUM_COLORS, assign_colors, tint_split

TRAIN, VALIDATION = 1197, 100


@register("colored_digits")
def colored_digits(data_root: Path, *, ratio: float, severity: int, validation_ratio: float) -> BiasedDataset:
    """The first 1,197 digits for training with share ``ratio`` aligned; the last 500 for testing, each in all ten
    colours, so that every one of the 100 groups holds about 50 images.

    The 100 between them are for validation, each ten times with share ``validation_ratio`` aligned: 0.1 shows each in
    all ten colours.

    The order is scikit-learn's. ``data_root`` is not used: the images come with the package.
    """
    from sklearn.datasets import load_digits  # takes two seconds, which no other dataset should wait for

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    targets = digits.target.astype(np.int64)
    train, validation, test = np.split(np.arange(len(targets)), (TRAIN, TRAIN + VALIDATION))
    validation = np.tile(validation, NUM_COLORS)
    rng = np.random.default_rng(0)

    def tinted(part: np.ndarray, colors: np.ndarray) -> Split:
        return tint_split(grey[part], targets[part], colors, severity, rng)

    return BiasedDataset(
        name="Colored digits",
        class_names=tuple("0123456789"),
        bias_names=COLOR_NAMES,
        aligned_bias=np.arange(NUM_COLORS),
        train=tinted(train, assign_colors(targets[train], ratio)),
        validation=tinted(validation, assign_colors(targets[validation], validation_ratio, "validation_ratio")),
        test=tinted(np.repeat(test, NUM_COLORS), np.tile(np.arange(NUM_COLORS), len(test))),
    )
