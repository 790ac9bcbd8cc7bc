"""What is rendered of measurements; the page docs/speed.md shows the committed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.speed import report

ROOT = Path(__file__).resolve().parents[2]


def made_up() -> dict[str, Any]:
    """Two repetitions of which the second took twice as long throughout, as on a machine that something disturbs."""
    return {
        "subjects": {
            "matrix product": {"images": 0, "flops": 100, "bytes": 0, "seconds": [1, 2]},
            "copy": {"images": 0, "flops": 0, "bytes": 30, "seconds": [1, 2]},
            "image files": {"images": 10, "flops": 100, "bytes": 60, "seconds": [10, 20]},
            "Vanilla": {"images": 20, "flops": 200, "bytes": 120, "seconds": [5, 10]},
            "LfF": {"images": 20, "flops": 500, "bytes": 120, "seconds": [15, 30]},
        }
    }


def test_multiples_are_of_the_time_for_an_image_and_paired() -> None:
    measurement = made_up()
    assert report.times(measurement, "LfF", "Vanilla") == 3
    assert report.times(measurement, "image files", "Vanilla") == 4
    assert report.implied(measurement, "LfF") == 2.5
    assert report.rate(measurement, "Vanilla") == pytest.approx(20 / 7.5)


def test_the_floor_is_computing_or_moving_whichever_takes_longer() -> None:
    measurement = made_up()
    assert report.floor_seconds(measurement, "LfF") == pytest.approx(500 / (100 / 1.5))
    assert report.floor_seconds(measurement, "Vanilla") == pytest.approx(120 / (30 / 1.5))


def test_the_table_shows_the_committed_measurements() -> None:
    rendered = report.markdown(report.load(ROOT / "results" / "speed"))
    assert (ROOT / "results" / "tables" / "speed.md").read_text(encoding="utf-8") == rendered
