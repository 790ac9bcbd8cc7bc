"""Colouring grey digits so that colour predicts the class: the recipe of Colored MNIST (repository alinlab/LfF)."""

from __future__ import annotations

import numpy as np

from benchmark.errors import UserError
from datasets.base import Split

# Mean RGB colour that goes with each digit.
COLORS = np.array(
    [
        [0.9837, 0.3125, 0.1686],
        [0.9905, 0.9156, 0.3515],
        [0.6730, 0.4611, 0.5798],
        [0.7833, 0.8316, 0.6013],
        [0.0880, 0.7780, 0.9818],
        [0.3214, 0.9611, 0.4464],
        [0.0246, 0.2357, 0.7587],
        [0.5552, 0.1016, 0.7618],
        [0.2077, 0.3929, 0.0187],
        [0.8337, 0.2024, 0.2669],
    ]
)
COLOR_NAMES = ("red", "yellow", "mauve", "khaki", "cyan", "green", "blue", "purple", "olive", "crimson")
# Standard deviation of an image's colour around the mean colour, by severity 1 to 5.
DEVIATION = {1: 0.05, 2: 0.02, 3: 0.01, 4: 0.005, 5: 0.002}
NUM_COLORS = len(COLORS)


def assign_colors(targets: np.ndarray, ratio: float, name: str = "ratio") -> np.ndarray:
    """Colour index of every image, int64 [n], without any random draw.

    In each class a share ``ratio`` gets the class's own colour and the rest is spread evenly over the nine
    others: the cumulative shares are rounded to counts and handed out in data order, so each image gets one.
    Raises UserError, naming the setting under data, for a ratio that is no share.
    """
    if not 0 <= ratio <= 1:
        raise UserError(f"data.{name} is {ratio}: it must lie between 0 and 1.")
    colors = np.empty(len(targets), dtype=np.int64)
    for c in range(NUM_COLORS):
        shares = np.full(NUM_COLORS, (1 - ratio) / (NUM_COLORS - 1))
        shares[c] = ratio
        members = np.flatnonzero(targets == c)
        ends = np.rint(np.cumsum(shares) * len(members)).astype(np.int64)
        colors[members] = np.repeat(np.arange(NUM_COLORS), np.diff(ends, prepend=0))
    return colors


def tint_split(
    grey: np.ndarray, targets: np.ndarray, colors: np.ndarray, severity: int, rng: np.random.Generator
) -> Split:
    """Tint each grey image with one colour drawn around its mean colour.

    grey: uint8 [n, H, W], black background; targets, colors: int64 [n]. Raises UserError for an unknown severity.
    """
    if severity not in DEVIATION:
        raise UserError(f"data.severity is {severity}: it must be one of {', '.join(map(str, DEVIATION))}.")
    noise = DEVIATION[severity] * rng.standard_normal((len(targets), 3))
    tint = np.clip(COLORS[colors] + noise, 0, 1).astype(np.float32)
    images = np.empty((len(targets), 3, *grey.shape[1:]), dtype=np.uint8)
    for channel in range(3):
        images[:, channel] = np.rint(grey * tint[:, channel, None, None])
    return Split(images, targets, colors)
