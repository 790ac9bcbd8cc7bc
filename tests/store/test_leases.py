from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from factories.leases import rewrite

from benchmark.store import leases
from benchmark.store.leases import Lease, acquire, newest


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "task" / "method" / "abc-s0.json"


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_of_many_contenders_one_gets_the_lease(record: Path) -> None:
    for _ in range(20):
        found: list[Lease | None] = []
        barrier = threading.Barrier(8)

        def contend(found: list[Lease | None] = found, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            found.append(acquire(record))

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [lease for lease in found if lease]
        winner.release()


def test_a_released_lease_is_free_and_a_record_ends_all_leases(record: Path) -> None:
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
    monkeypatch.setattr(leases, "BEAT", 1e6)
    for key, value in {"ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "1", "JOB_ID": "8", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    assert acquire(record)
    rewrite(record, **(changes | ({"pid": dead_process()} if changes.get("pid") else {})))
    assert (acquire(record) is not None) == free


def test_a_lease_without_content_is_respected_until_it_is_watched_long_enough(record: Path) -> None:
    """Its owner may have died, or be between creating the file and writing it."""
    record.parent.mkdir(parents=True)
    record.with_name("abc-s0.1.lease").write_text("")
    holder = newest(record)
    assert acquire(record) is None
    assert acquire(record, abandoned=holder)
    assert acquire(record, abandoned=holder) is None, "only one may succeed it"


def test_the_owner_notices_that_he_was_succeeded(record: Path) -> None:
    first = acquire(record)
    assert first
    first.check()
    assert acquire(record, abandoned=newest(record))
    with pytest.raises(leases.Lost):
        first.check()


def test_a_lease_tells_of_the_last_epochs_and_their_pace(record: Path) -> None:
    lease = acquire(record)
    assert lease
    for epoch in range(1, 26):
        lease.tell("train", epoch, 0.5, {"avg_acc": float(epoch)})
    lease._beat()
    holder = newest(record)
    assert holder
    assert holder.owner
    assert [each.epoch for each in holder.owner.last] == list(range(16, 26))
    assert 0 < holder.owner.pace < 1
    lease.last = lease.last[:1]
    lease._beat()
    holder = newest(record)
    assert holder
    assert holder.owner
    assert holder.owner.pace == 0, "the shorter text leaves nothing of the longer one behind"
    lease.release()


def test_a_lease_of_an_older_version_is_read(record: Path) -> None:
    lease = acquire(record)
    assert lease
    holder = newest(record)
    assert holder
    told = json.loads(holder.content)
    del told["last"]
    record.with_name(f"{record.stem}.1.lease").write_text(json.dumps(told))
    holder = newest(record)
    assert holder
    assert holder.owner
    assert holder.owner.last == ()
    lease.release()
