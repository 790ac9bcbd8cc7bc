"""The command python -m benchmark.speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmark.speed.__main__ import Subject, _event_seconds, interleaved, main


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
        (["--repetitions", "0"], "--repetitions: '0' will not do"),
        (["--methods", "lf"], "did you mean 'lff'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_memory_is_the_most_of_any_repetition_and_a_graphs_that_of_its_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay takes none; and what cuDNN tries its algorithms with, in the first run, is not the others'."""
    runs: dict[str, list[int]] = {"captured": [70, 1, 1], "eager": [500, 20, 30]}
    taken = {name: iter(each) for name, each in runs.items()}
    peak = 0

    def run(name: str) -> None:
        nonlocal peak
        peak = 1000 + next(taken[name])

    monkeypatch.setattr("benchmark.speed.__main__._event_seconds", lambda run, device: run() or 1.0)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak)
    subjects = {name: Subject(lambda name=name: run(name), captured=name == "captured") for name in runs}
    seconds, memory = interleaved(subjects, 2, torch.device("cuda", 1))
    assert memory == {"captured": 70, "eager": 30}
    assert seconds == {"captured": [1.0, 1.0], "eager": [1.0, 1.0]}


def test_time_is_taken_on_the_stream_of_the_device_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[object] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None: ...

        def record(self, stream: object = "that of device 0") -> None:
            recorded.append(stream)

        def elapsed_time(self, end: Event) -> float:
            return 2000.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"that of {device}")
    assert _event_seconds(lambda: None, torch.device("cuda", 1)) == 2
    assert recorded == ["that of cuda:1"] * 2
