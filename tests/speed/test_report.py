"""What is rendered of measurements; the page docs/speed.md shows the committed ones."""

from __future__ import annotations

import json
import shutil
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


STORED = ROOT / "results" / "speed" / "cpu-mlp-28.json"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        "network",
        "subjects",
        ("network", "another"),
        ("commit", 1),
        ("load", [1.0]),
        ("batch_size", 10**400),
        ("repetitions", 3),
        ("Vanilla", None),
        ("Vanilla", {"seconds": []}),
        ("Vanilla", {"seconds": [0.0] * 15}),
        ("Vanilla", {"images": 0}),
        ("copy", {"bytes": 0}),
        ("LfF", {"peak_device_memory": 1}),
    ],
)
def test_a_damaged_measurement_is_left_out(
    tmp_path: Path, damage: bytes | str | tuple[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speed").mkdir()
    path = tmp_path / "speed" / "a.json"
    content = json.loads(STORED.read_text(encoding="utf-8"))
    if isinstance(damage, str):
        del content[damage]
    elif isinstance(damage, tuple):
        key, value = damage
        if key not in content["subjects"]:
            content[key] = value
        elif value is None:
            del content["subjects"][key]
        else:
            content["subjects"][key] |= value
    path.write_bytes(damage if isinstance(damage, bytes) else json.dumps(content).encode())
    assert report.write(tmp_path) == []
    shutil.copy(STORED, tmp_path / "speed" / "b.json")
    assert len(report.write(tmp_path)) == 3
    assert capsys.readouterr().out.count(f"Measurement {path} is damaged (") == 2
    assert len(report.load(tmp_path / "speed")) == 1
