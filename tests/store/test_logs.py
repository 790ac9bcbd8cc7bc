"""Logs of trainings: every epoch once, as measured, whatever happens to the run, its folder or the disk."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories.records import make_run

from benchmark.options import Execution
from benchmark.run import main
from benchmark.store.logs import JsonLines, RunLog, TensorBoard, path_of
from benchmark.store.store import Store
from benchmark.training.training import Training
from benchmark.workers import crew

EXECUTION = Execution(Path("unused"), "cpu", 0, None, workers=1, logs=("jsonl",))
HISTORY: list[dict[str, Any]] = [
    {"phase": "train", "epoch": epoch, "loss": 1 / epoch, "target": {"avg_acc": 10.0 * epoch, "model_bias": None}}
    for epoch in (1, 2, 3)
]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("count", [1, 2])
def test_a_line_an_epoch_of_every_phase_with_what_the_record_holds(tmp_path: Path, count: int) -> None:
    runs = [make_run("colored_digits", "poisoner", "epochs=2", seed=seed) for seed in (0, 1)]
    assert crew.train(runs, Store(tmp_path), replace(EXECUTION, workers=count)) == 0
    for run in runs:
        record = Store(tmp_path).load(run)
        assert record
        logged = lines(path_of(tmp_path, run.id))
        assert [each["done"] for each in logged] == list(range(1, record.epochs + 1))
        assert {each["total"] for each in logged} == {record.epochs}
        assert [(each["phase"], each["epoch"]) for each in logged] == [
            (phase.name, epoch) for phase in record.phases for epoch in range(1, len(phase.loss) + 1)
        ]
        losses = [loss for phase in record.phases for loss in phase.loss.tolist()]
        assert [each["loss"] for each in logged] == pytest.approx(losses, rel=1e-4), "which the record rounds"
        of_target = [each["target"]["avg_acc"] for each in logged if "target" in each]
        assert of_target == pytest.approx([entry["avg_acc"] for entry in record.curve("target")], rel=1e-4)
        assert any("biased" in each for each in logged)
        assert all("test" not in each for each in logged), "counts by group are the record's"


@pytest.mark.parametrize("checkpoint_seconds", [0, 1000], ids=["resumed", "started over"])
def test_a_run_that_goes_on_has_the_log_of_one_that_was_never_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_seconds: float
) -> None:
    run = make_run("colored_digits", "vanilla", "epochs=4")
    execution = replace(EXECUTION, checkpoint_seconds=checkpoint_seconds)
    original = Training._measure

    def interrupt(self: Training) -> object:
        if self.progress.epoch == 3:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Training, "_measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        crew.train([run], Store(tmp_path / "parts"), execution)
    monkeypatch.setattr(Training, "_measure", original)
    log = path_of(tmp_path / "parts", run.id)
    assert len(lines(log)) == 2
    with log.open("a") as file:
        file.write('{"done": 3, "to')  # as a kill in the middle of a line leaves it
    for name in ("parts", "whole"):
        assert crew.train([run], Store(tmp_path / name), execution) == 0
    assert log.read_bytes() == path_of(tmp_path / "whole", run.id).read_bytes()


def test_a_disk_that_fails_costs_no_run_and_leaves_no_gap(tmp_path: Path) -> None:
    said: list[str] = []
    log = RunLog(tmp_path, "task/method/hash-s0", ["jsonl"], 3, said.append)
    log.follow(HISTORY[:1])
    path = path_of(tmp_path, "task/method/hash-s0")
    path.unlink()
    path.mkdir()
    log.follow(HISTORY[:2])
    log.follow(HISTORY[:2])
    assert len(said) == 1, "told once"
    assert "could not be written" in said[0]
    path.rmdir()
    log.follow(HISTORY)
    assert [each["epoch"] for each in lines(path)] == [1, 2, 3]


def test_a_log_that_was_deleted_begins_anew_with_all_epochs(tmp_path: Path) -> None:
    writer = JsonLines(tmp_path / "a.jsonl", 3)
    writer.follow(HISTORY[:2])
    (tmp_path / "a.jsonl").unlink()
    writer.follow(HISTORY)
    assert [each["done"] for each in lines(tmp_path / "a.jsonl")] == [1, 2, 3]


def test_tensorboard_has_every_epoch_once_after_a_resumption(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for history in (HISTORY[:2], HISTORY):  # killed after the second epoch, and resumed
        writer = TensorBoard(tmp_path / "run")
        writer.follow(history[:2])
        writer.follow(history)
        writer.close()
    found = accumulators.EventAccumulator(str(tmp_path / "run")).Reload()
    assert set(found.Tags()["scalars"]) == {"loss/train", "target/avg_acc"}
    scalars = [(each.step, each.value) for each in found.Scalars("target/avg_acc")]
    assert scalars == [(1, 10.0), (2, 20.0), (3, 30.0)]


def test_tensorboard_is_refused_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--quick", "--log", "tensorboard", "--results", str(tmp_path)]) == 2
    assert "pip install -e '.[tensorboard]'" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))
