"""Contact sheets show the images as they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmark.inspect import sheets


@pytest.mark.parametrize("contrasted", [True, False])
def test_a_sheet_shows_the_pixels_themselves(contrasted: bool) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 3, 28, 28), dtype=np.uint8)
    tiles = [sheets.Tile(image, ("$cat_1$",), agrees) for image, agrees in zip(images, [None, True] * 7, strict=True)]
    found, aligned = sheets.Panel("found", "", tiles[:7]), sheets.Panel("aligned", "", tiles[7:])
    sheet = sheets.Sheet("title", "subtitle", found, aligned if contrasted else None, ["note"])
    content = sheets.png(sheet)
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    size = 3 * 28
    column, row = size + 2 * sheets.FRAME + sheets.GAP, size + 2 * sheets.FRAME + sheets.LINE + sheets.GAP
    for number, (across, down) in enumerate([(i, 0) for i in range(6)] + [(0, 1)]):
        top = sheets.HEAD + down * row + sheets.FRAME
        left = sheets.MARGIN + across * column + sheets.FRAME
        shown = picture[top : top + size, left : left + size]
        assert np.array_equal(shown, images[number].transpose(1, 2, 0).repeat(3, 0).repeat(3, 1)), number
        frame = tuple(picture[top - 1, left - 1])
        assert frame == (sheets.AGREES if number % 2 else sheets.UNKNOWN)
    assert content == sheets.png(sheet)


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 8), (80, 80)), ((2, 4), (40, 80)), ((64, 64), (128, 128)), ((224, 112), (128, 64))]
)
def test_small_images_are_enlarged_by_whole_numbers_and_large_ones_reduced(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert sheets.enlarged(np.zeros((3, *shape), np.uint8)).shape == (*expected, 3)
