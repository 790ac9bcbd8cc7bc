"""Contact sheets: many small images in a grid or two side by side, each with a few words beneath, as one PNG."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# The grid of found images grows sideways first.
COLUMNS, ALIGNED_COLUMNS, LEAST_ROWS = (6, 10), 4, 2
# Pixels of the sheet. Small images are enlarged by whole numbers to at least SMALL, large ones reduced to LARGE.
SMALL, LARGE = 80, 128
WIDTH = 900  # at least, for the words of a sheet of one grid
MARGIN, GAP, FRAME, LINE, HEAD, DIVIDE = 20, 10, 3, 14, 118, 44
DPI = 100
AGREES, DISAGREES, UNKNOWN = (0, 158, 115), (230, 97, 0), (190, 190, 190)


@dataclass(frozen=True)
class Tile:
    """An image, uint8 [3, H, W], the words beneath it, and whether its bias label agrees, where that is known."""

    image: np.ndarray
    lines: Sequence[str]
    agrees: bool | None


@dataclass(frozen=True)
class Panel:
    heading: str
    order: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Sheet:
    """``aligned`` is for contrast, a narrow grid beside the other; without it that takes the whole sheet."""

    title: str
    subtitle: str
    found: Panel
    aligned: Panel | None
    notes: Sequence[str]


def columns(found: int) -> int:
    """How many of so many found images stand in a row."""
    least, most = COLUMNS
    return min(most, max(least, math.ceil(found / least)))


def beside(found: int) -> int:
    """How many aligned images stand beside so many found ones."""
    return ALIGNED_COLUMNS * max(LEAST_ROWS, math.ceil(found / columns(found)))


def enlarged(image: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] of a size that can be looked at: whole pixels of small images, means of large ones."""
    pixels = image.transpose(1, 2, 0)
    side = max(pixels.shape[:2])
    if side <= LARGE:
        factor = math.ceil(SMALL / side)
        return pixels.repeat(factor, 0).repeat(factor, 1)
    height, width = (max(1, round(each * LARGE / side)) for each in pixels.shape[:2])
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.BOX))


def png(sheet: Sheet) -> bytes:
    """The sheet as a PNG; the same sheet gives the same bytes."""
    aligned = sheet.aligned
    tiles = [*sheet.found.tiles, *(aligned.tiles if aligned else ())]
    height, width = np.max([enlarged(tile.image).shape[:2] for tile in tiles], 0)
    words = max(len(tile.lines) for tile in tiles)
    row, column = height + 2 * FRAME + words * LINE + GAP, width + 2 * FRAME + GAP
    found_columns, rows = columns(len(sheet.found.tiles)), beside(len(sheet.found.tiles)) // ALIGNED_COLUMNS
    left = MARGIN + found_columns * column + DIVIDE
    bottom = HEAD + rows * row
    right = left + ALIGNED_COLUMNS * column if aligned else max(WIDTH, left - DIVIDE)
    right = max(right, MARGIN + 11 * len(sheet.title), MARGIN + 8 * len(sheet.subtitle))  # pixels of a character
    notes = [line for note in sheet.notes for line in textwrap.wrap(note, (right - MARGIN) // 7)]
    shape = bottom + (len(notes) + 1) * 18, right + MARGIN

    canvas = np.full((*shape, 3), 255, np.uint8)
    figure = Figure(figsize=(shape[1] / DPI, shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    panels = [(sheet.found, MARGIN, found_columns), *([(aligned, left, ALIGNED_COLUMNS)] if aligned else [])]
    for panel, x, across in panels:
        _text(axes, x, HEAD - 30, panel.heading, 15, weight="bold")
        _text(axes, x, HEAD - 12, panel.order if panel.tiles else "none", 12, color="#444444")
        for number, tile in enumerate(panel.tiles):
            top, side = HEAD + number // across * row, x + number % across * column
            _place(canvas, tile, top, side)
            for index, line in enumerate(tile.lines):
                fits = column // 6
                short = line if len(line) <= fits else f"{line[: fits - 1]}…"
                _text(axes, side, top + height + 2 * FRAME + (index + 1) * LINE - 2, short, 11)
    _text(axes, MARGIN, 30, sheet.title, 18, weight="bold")
    _text(axes, MARGIN, 54, sheet.subtitle, 14)
    for index, note in enumerate(notes):
        _text(axes, MARGIN, bottom + (index + 1) * 18, note, 12, color="#444444")
    if aligned:
        axes.plot([left - DIVIDE / 2] * 2, [HEAD - 44, bottom - GAP], color="#BBBBBB", linewidth=1)
    axes.imshow(canvas, interpolation="none", extent=(0, shape[1], shape[0], 0), zorder=0)
    axes.set(xlim=(0, shape[1]), ylim=(shape[0], 0))
    axes.axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _place(canvas: np.ndarray, tile: Tile, top: int, side: int) -> None:
    """Paint a tile and its frame."""
    pixels = enlarged(tile.image)
    height, width = pixels.shape[:2]
    color = UNKNOWN if tile.agrees is None else AGREES if tile.agrees else DISAGREES
    canvas[top : top + height + 2 * FRAME, side : side + width + 2 * FRAME] = color
    canvas[top + FRAME : top + FRAME + height, side + FRAME : side + FRAME + width] = pixels


def _text(axes: Axes, x: float, y: float, text: str, pixels: int, color: str = "black", weight: str = "normal") -> None:
    look = {"fontsize": pixels * 72 / DPI, "color": color, "fontweight": weight, "va": "baseline"}
    axes.text(x, y, text, look, parse_math=False)  # a "$" in a name is a "$"
