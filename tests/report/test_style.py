"""Colours of methods: what tells them apart, by the formulas of those who measured it."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmark.plan.ours import MODERN
from benchmark.plan.paper import COMPARED
from benchmark.report import style
from benchmark.report.style import BLACK, COLOURS, METHODS, look, looks

# Machado, Oliveira and Fernandes (2009): what eyes without green, and without red, receptors make of linear RGB.
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
# Ottosson's Oklab: linear RGB to cones, and these, after a cube root, to lightness and two colour axes.
CONES = [
    [0.41222147, 0.53633254, 0.05144599],
    [0.21190350, 0.68069955, 0.10739696],
    [0.08830246, 0.28171884, 0.62997870],
]
OKLAB = [
    [0.21045426, 0.79361779, -0.00407205],
    [1.97799850, -2.42859221, 0.45059371],
    [0.02590404, 0.78277177, -0.80867577],
]
GROUNDS = re.findall(
    r"--ground: (#[0-9a-f]{6});", (Path(style.__file__).parent / "page.css").read_text(encoding="utf-8")
)


def linear(colour: str) -> np.ndarray:
    """Linear RGB [3] of "#rrggbb"."""
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    return np.array(OKLAB) @ np.cbrt(np.array(CONES) @ np.clip(rgb, 0, 1))


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours."""
    darker, lighter = sorted(float(np.dot((0.2126, 0.7152, 0.0722), linear(each))) for each in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("seen", [np.eye(3), np.array(DEUTERANOPIA), np.array(PROTANOPIA)])
def test_all_colours_are_told_apart_by_all_eyes(seen: np.ndarray) -> None:
    """Two hundredths of Oklab are just noticeable."""
    for one, other in combinations((BLACK, *COLOURS), 2):
        assert np.linalg.norm(oklab(seen @ linear(one)) - oklab(seen @ linear(other))) > 0.09, (one, other)


def test_colours_stand_out_from_the_page() -> None:
    assert len(GROUNDS) == 2, "light and dark"
    for ground in GROUNDS:
        assert min(contrast(colour, ground) for colour in COLOURS) >= 3


def test_methods_of_a_table_have_colours_of_their_own() -> None:
    assert len({look(row.method)[0] for row in COMPARED}) == len(COMPARED)
    assert len({look(row.method)[0] for row in MODERN.rows}) >= 8
    assert len({*METHODS.values()}) == len(METHODS)


def test_lines_of_one_method_keep_its_colour() -> None:
    found = looks(["poisoner", "vanilla", "poisoner"])
    assert found[0] == METHODS["poisoner"]
    assert {colour for colour, _ in found[::2]} == {METHODS["poisoner"][0]}
    assert len({*found}) == len(found)
    assert look("mine") == look("mine")


def test_a_curve_lies_at_the_epochs_that_were_measured() -> None:
    """After every other epoch, in two phases of one network."""
    line = [{"epoch": epoch, "avg_acc": 10.0 * place} for place, epoch in enumerate((1, 2, 4, 6, 1, 2, 3))]
    axes = Figure().subplots()
    style.plot(axes, [line, line], "avg_acc", "one", "#000000", "-")
    (drawn,) = axes.lines
    assert [*drawn.get_xdata()] == [1, 2, 4, 6, 7, 8, 9]
    assert [*drawn.get_ydata()] == [0, 10, 20, 30, 40, 50, 60]
