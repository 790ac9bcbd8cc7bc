"""The reduced font draws as the full one does, and what it lacks comes from that one."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmark.report import style
from benchmark.report.font import FULL, REDUCED


@pytest.mark.parametrize("weight", ["normal", "bold"])
@pytest.mark.parametrize("text", ["AVATo day, Wa. Te", "Poisoner, C-MNIST¹ (ρ = 0.99) ↓ 1.5 ± 0.3 ≥ −2 °†", "✓✗▸"])
def test_text_takes_the_room_that_it_takes_in_the_full_font(text: str, weight: str) -> None:
    drawing = Figure(dpi=style.DPI)
    renderer = FigureCanvasAgg(drawing).get_renderer()
    reduced, full = (
        Text(0, 0, text, figure=drawing, family=family, weight=weight).get_window_extent(renderer).bounds
        for family in (REDUCED, FULL)
    )
    assert reduced == full, "kerning and all"


def test_a_name_in_another_script_is_drawn(tmp_path: Path) -> None:
    drawing = Figure(figsize=(2, 1))
    drawing.text(0.1, 0.5, "Big nose Носы", weight="bold")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns of a glyph that no font has
        _, pdf = style.save(drawing, tmp_path / "names")
    content = pdf.read_bytes()
    assert b"+BenchmarkSans-Bold" in content
    assert b"+DejaVuSans-Bold" in content
