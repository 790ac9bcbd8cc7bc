"""A damaged file in results is named and left out, and stops nothing that does not depend on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories.records import make_record, make_run

from benchmark.collect import collect
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.store import status
from benchmark.store.store import Store
from slurm import jobs

NO_TEXT = [
    b"",
    b"[]",
    b"null",
    b"{}",
    b"\xff",
    b'{"reason": "\xff"}',
    b"[" * 100_000,
    b'{"reason": ' + b"[" * 100_000,
    b"9" * 5000,
]


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def damage(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return damage


HUGE = 10**400
DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "deep settings": put("settings", "data", "deep", value=deep(500)),
    "a huge setting": put("settings", "epochs", value=10**4299),
    "huge test counts": put("answers", "test", 0, 0, value=HUGE),
    "a fraction of an answer": put("answers", "test", 0, 0, value=0.5),
    "answers without groups": put("answers", "validation", value=[1, 2, 3]),
    "epochs out of order": put("answers", "epochs", value=[3, 2, 1]),
    "validation without sizes": put("groups", "validation", value=None),
    "huge group": put("groups", "test", 0, 0, value=HUGE),
    "huge training counts": put("train", "target", 0, 0, value=HUGE),
    "more right than there are": put("train", "target", 0, 0, value=10**6),
    "huge loss": put("phases", 0, "loss", 0, value=HUGE),
    "huge metric": put("phases", 0, "target", "bias_acc", 0, value=HUGE),
    "nested metric": put("phases", 0, "target", "bias_acc", 0, value=[1]),
    "metric of text": put("phases", 0, "target", "bias_acc", 0, value="80"),
    "infinite metric": put("phases", 0, "target", "aligned_loss", 0, value="inf"),
    "more than all": put("phases", 0, "target", "avg_acc", 0, value=100.1),
    "less than none": put("phases", 0, "target", "conflicting_error", 0, value=-0.1),
    "a loss below zero": put("phases", 0, "target", "aligned_loss", 0, value=-0.1),
    "a measured loss that no network has": put("phases", 0, "target", "aligned_loss", 0, value=1e300),
    "a loss that no network has": put("phases", 0, "loss", 0, value=-1e300),
    "an epoch without loss": put("phases", 0, "loss", 0, value=None),
    "an error that was measured": put("phases", 0, "target", "aligned_error", 1, value=None),
    "a loss that was measured": put("phases", 0, "target", "conflicting_loss", 2, value=None),
    "model bias that was measured": put("phases", 0, "target", "model_bias", 0, value=None),
    "no tested group that is scored": put("groups", "scored", value=[[False] * 10] * 10),
    "huge summary": put("summary", "error_set", value=HUGE),
    "huge speed": put("provenance", "images_per_second", value=HUGE),
    "phases of numbers": put("phases", value=[1, 2]),
    "empty provenance": put("provenance", value={}),
    "predictions without digest": put("provenance", "predictions", value="../../x"),
    "no networks": put("train", value={}),
    "no epoch": put("answers", value={"epochs": [], "test": []}),
    "no biases that go with classes": put("groups", "aligned_bias", value=[]),
    "a bias that is none": put("groups", "aligned_bias", 0, value=10),
    "scored of another shape": put("groups", "scored", value=[[True]]),
    "seed of text": put("seed", value="0"),
    "huge seed": put("seed", value=HUGE),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With one record that is whole, of seed 1."""
    store = Store(tmp_path)
    store.save(make_record(make_run(seed=1)))
    return store


@pytest.fixture
def run() -> Run:
    return make_run(seed=0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_left_out(store: Store, run: Run, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.save(make_record(run))
    path = store.record_path(run)
    content = json.loads(path.read_bytes())
    DAMAGES[damage](content)
    path.write_text(json.dumps(content) + "\n")
    assert [record.seed for record in collect(store, load()).records] == [1]
    assert f"Record {path} is damaged (" in capsys.readouterr().out
    assert store.save(make_record(run)), "it can be trained again"


@pytest.mark.parametrize("content", NO_TEXT)
def test_bytes_that_are_no_record_are_left_out(store: Store, run: Run, content: bytes) -> None:
    store.record_path(run).write_bytes(content)
    assert not store.has(run)
    assert [record.seed for record in collect(store, load()).records] == [1]


def test_a_name_that_is_no_text_is_left_out(store: Store, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    store.record_path(run).with_name("a\udcff-s0.json").write_bytes(b"[]")
    assert len(collect(store, load()).records) == 1
    assert "a\\udcff-s0.json is damaged" in capsys.readouterr().out


def test_a_folder_in_the_place_of_a_record_is_left_out(
    store: Store, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    store.record_path(run).mkdir()
    assert len(collect(store, load()).records) == 1
    assert f"Record {store.record_path(run)} cannot be read (Is a directory)" in capsys.readouterr().out


@pytest.mark.parametrize("content", [*NO_TEXT, b'{"reason": 1}'])
def test_a_damaged_note_of_a_failure_is_left_out(
    store: Store, run: Run, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save_failure(make_run(seed=2), "out of memory", "trace")
    store.failure_path(run).write_bytes(content)
    assert list(store.failures().values()) == ["out of memory"]
    assert f"Note {store.failure_path(run)} of a failure is damaged" in capsys.readouterr().out


NOTE = {"launcher": "slurm", "submitted": 1.0, "runs": {"7_0": ["a run"]}, "log": "%j.out"}


@pytest.mark.parametrize(
    "content",
    [
        *NO_TEXT,
        json.dumps(NOTE | {"launcher": "another"}).encode(),
        json.dumps(NOTE | {"submitted": None}).encode(),
        json.dumps(NOTE | {"runs": {"7": "a run"}}).encode(),
        json.dumps(NOTE | {"runs": {"--all": ["a run"]}}).encode(),
        json.dumps(NOTE | {"log": 1}).encode(),
    ],
)
def test_a_damaged_note_of_a_submission_is_left_out(
    store: Store, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "slurm_states", lambda arrays, accounting: {})
    jobs.register(store.folder, "slurm", {"8_0": ["another run"]}, Path("%j.out"))
    path = jobs.folder(store.folder) / "slurm-7.json"
    path.write_bytes(content)
    assert list(jobs.last_jobs(store.folder)) == ["another run"]
    assert f"Note {path} of a submission is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("pid", ["9" * 18, "0", "1_1"])
def test_a_process_that_cannot_be_is_not_running(store: Store, pid: str) -> None:
    jobs.register(store.folder, "local", {"1": ["a run"]}, Path("%j.out"))
    (path,) = jobs.folder(store.folder).glob("*.json")
    note = json.loads(path.read_bytes())
    path.write_text(json.dumps(note | {"runs": {pid: ["a run"]}, "started": {pid: None}}))
    assert jobs.last_jobs(store.folder)["a run"].state == ""


@pytest.mark.parametrize("content", NO_TEXT)
def test_the_status_survives_every_damaged_file(store: Store, run: Run, content: bytes) -> None:
    other = make_run(seed=1)
    for path in (
        store.failure_path(run),
        store.record_path(run).with_name(f"{run.digest}-s0.1.lease"),
        store.checkpoint_path(run),
    ):
        path.write_bytes(content)
    found = status.survey([run, other], store, {})
    assert [(each.condition, each.note) for each in found] == [("running", "just begun"), ("done", "")]
