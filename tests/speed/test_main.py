"""The command python -m benchmark.speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.speed.__main__ import main


def test_a_measurement_is_stored_and_rendered_again_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--images", "300", "--repetitions", "2", "--workers", "0", "--device", "cpu", "--results"]
    assert main([*arguments, str(tmp_path), "--methods", "jtt"]) == 0
    stored = json.loads((tmp_path / "speed" / "cpu-mlp-28.json").read_text())
    assert list(stored["subjects"]) == [
        "matrix product", "copy", "bare loop", "image files", "Vanilla", "JTT: identify", "JTT: train"
    ]  # fmt: skip
    for subject in stored["subjects"].values():
        assert len(subject["seconds"]) == 2
        assert min(subject["seconds"]) > 0
        assert "peak_device_memory" not in subject, "a CPU does not tell"
    assert stored["subjects"]["Vanilla"]["images"] == 512, "every batch is full"
    paths = [tmp_path / "tables" / "speed.md", *(tmp_path / "figures" / f"speed.{each}" for each in ("png", "pdf"))]
    before = [path.read_bytes() for path in paths]
    assert "| JTT: identify |" in capsys.readouterr().out
    assert main(["--render-only", "--results", str(tmp_path)]) == 0
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "mlp", "--size", "64"], "mlp is measured at 28 pixels"),
        (["--network", "resnet18", "--size", "28"], "resnet18 is measured at 64 or 224 pixels"),
        (["--repetitions", "0"], "--repetitions 1"),
        (["--methods", "lf"], "did you mean 'lff'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
