"""Colouring: exact shares, and one colour an image."""

from __future__ import annotations

import numpy as np

from datasets import coloring


def test_shares_of_a_class_are_exact_and_need_no_random_draw() -> None:
    targets = np.random.default_rng(0).integers(0, 10, 20_000)
    colors = coloring.assign_colors(targets, 0.97)
    assert (colors == coloring.assign_colors(targets, 0.97)).all()
    for c in range(10):
        counts = np.bincount(colors[targets == c], minlength=10)
        size = counts.sum()
        assert abs(counts[c] - 0.97 * size) <= 1
        others = np.delete(counts, c)
        assert abs(others - 0.03 * size / 9).max() <= 1


def test_pixels_are_the_grey_value_times_one_colour_an_image() -> None:
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (500, 5, 5), dtype=np.uint8)
    grey[:, 0, 0] = 255
    targets = np.arange(500) % 10
    colors = np.arange(500) // 50
    split = coloring.tint_split(grey, targets, colors, severity=4, rng=rng)
    tint = split.images[:, :, 0, 0] / 255
    assert np.abs(split.images - grey[:, None] * tint[:, :, None, None]).max() <= 1
    assert (split.images[np.broadcast_to(grey[:, None] == 0, split.images.shape)] == 0).all()
    for color in range(10):
        drawn = tint[colors == color]
        assert np.abs(drawn.mean(0) - coloring.COLORS[color]).max() < 0.01
        assert drawn.std(0).max() < 0.01, "severity 4 is a deviation of 0.005"
