from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_settings

from benchmark import claims
from benchmark.claims import Claim, acquire, newest
from benchmark.plan import Run
from benchmark.records import Store, patiently
from benchmark.training import Training
from benchmark.worker import Worker
from datasets import BiasedDataset


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "task" / "method" / "abc-s0.json"


def rewrite(record: Path, **changes: object) -> None:
    """Make the newest claim say something else, such as that its owner lives on another machine."""
    holder = newest(record)
    assert holder
    path = record.with_name(f"{record.stem}.{holder.number}.claim")
    path.write_text(json.dumps(holder.content | changes))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_of_many_contenders_one_gets_the_claim(record: Path) -> None:
    for _ in range(20):
        found: list[Claim | None] = []
        barrier = threading.Barrier(8)

        def contend(found: list[Claim | None] = found, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            found.append(acquire(record))

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [claim for claim in found if claim]
        winner.release()


def test_a_released_claim_is_free_and_a_record_ends_all_claims(record: Path) -> None:
    first = acquire(record)
    assert first
    assert acquire(record) is None
    first.release()
    second = acquire(record)
    assert second
    assert second.number == 2
    record.write_text("{}")
    second.release()
    assert [path.name for path in record.parent.iterdir()] == [record.name]


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, False),
        ({"pid": "dead"}, True),
        ({"started": "another process with this id"}, True),
        ({"pid": "dead", "machine": "another"}, False),
        ({"machine": "another", "since": 0, "written": 0}, False),  # a clock in the past proves nothing
        ({"machine": "another", "since": 9e9, "written": 9e9}, False),
        ({"machine": "another", "job": "7_1", "restarts": 0}, True),  # this is job 7_1, started again
        ({"machine": "another", "job": "7_1", "restarts": 1}, False),
        ({"machine": "another", "job": "7_2", "restarts": 0}, False),
    ],
)
def test_who_is_known_to_be_dead(
    record: Path, changes: dict[str, object], free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT", 1e6)
    for key, value in {"ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "1", "JOB_ID": "8", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    assert acquire(record)
    rewrite(record, **(changes | ({"pid": dead_process()} if changes.get("pid") else {})))
    assert (acquire(record) is not None) == free


def test_a_claim_without_content_is_respected_until_it_is_watched_long_enough(record: Path) -> None:
    """Its owner may have died, or be between creating the file and writing it."""
    record.parent.mkdir(parents=True)
    record.with_name("abc-s0.1.claim").write_text("")
    holder = newest(record)
    assert acquire(record) is None
    assert acquire(record, abandoned=holder)
    assert acquire(record, abandoned=holder) is None, "only one may succeed it"


def test_the_owner_notices_that_he_was_succeeded(record: Path) -> None:
    first = acquire(record)
    assert first
    first.check()
    assert acquire(record, abandoned=newest(record))
    with pytest.raises(claims.Lost):
        first.check()


@pytest.fixture
def worker(tmp_path: Path, tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(Worker, "dataset", lambda self, run: (tiny, "fingerprint"))
    return Worker(Store(tmp_path), Path("unused"), torch.device("cpu"))


@pytest.fixture
def run() -> Run:
    return Run(tiny_settings("vanilla"), 0)


def claimed_elsewhere(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim of another machine, which gives no more sign of life."""
    with monkeypatch.context() as patch:
        patch.setattr(claims, "BEAT", 1e6)
        assert acquire(worker.store.record_path(run))
    rewrite(worker.store.record_path(run), machine="another")


def test_a_silent_owner_is_succeeded_after_a_while(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "STALE", 1.5)
    claimed_elsewhere(worker, run, monkeypatch)
    other = Run(run.settings, 1)
    started = time.monotonic()
    assert worker.work([run, other]) == ["done", "done"]
    assert time.monotonic() - started >= 1.5
    left = sorted(path.suffix for path in worker.store.record_path(run).parent.iterdir())
    assert left == [".json"] * 2 + [".npz"] * 2


def test_a_living_owner_is_left_alone(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed_elsewhere(worker, run, monkeypatch)
    threading.Timer(1, lambda: rewrite(worker.store.record_path(run), beat=2)).start()
    assert worker.work([run]) == ["elsewhere"]
    assert not worker.store.has(run)


def test_a_run_finished_elsewhere_meanwhile_is_not_trained(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.work([run]) == ["done"]
    monkeypatch.setattr("benchmark.worker.train", lambda trainings: pytest.fail("it trained"))
    assert worker.work([run]) == ["done"]


def test_a_finished_run_leaves_nothing_in_memory(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the next run would not find its place."""
    alive: list[weakref.ref[Training]] = []
    original = Training.start

    def start(self: Training) -> None:
        alive.append(weakref.ref(self))
        original(self)

    monkeypatch.setattr(Training, "start", start)
    assert worker.work([run]) == ["done"]
    assert [each() for each in alive] == [None]


def test_whoever_lost_the_run_stops_and_stores_nothing(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Training._measure

    def overslept(self: Training, *more: object) -> object:
        if self.epoch == 2:
            path = worker.store.record_path(run)
            assert acquire(path, abandoned=newest(path))
        return original(self, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "_measure", overslept)
    assert worker.execute([run]) == {run.id: "elsewhere"}
    assert not worker.store.has(run)
    assert not worker.store.failure(run)


def test_a_folder_that_cannot_be_written_for_a_while_costs_nothing(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the second epoch on nothing can be written, until somebody has waited twice."""
    worker.checkpoint_seconds = 0
    refused: list[object] = []
    slept: list[float] = []
    original = os.replace

    def replace(source: Path, target: Path) -> None:
        if len(slept) < 2 and worker._trainings and len(worker._trainings[0].history) >= 2:
            refused.append(target)
            raise OSError(30, "Read-only file system")
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr("benchmark.records.time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    assert worker.execute([run]) == {run.id: "done"}
    assert len(refused) >= 3
    printed = capsys.readouterr().out
    assert "No checkpoint was written" in printed
    assert "Read-only file system" in printed


def test_patience_has_an_end() -> None:
    def fail() -> None:
        raise OSError("gone for good")

    with pytest.raises(OSError, match="gone for good"):
        patiently(fail, seconds=-1)
