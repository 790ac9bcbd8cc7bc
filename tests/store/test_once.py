"""A run is finished once: whoever comes late overwrites nothing, leaves nothing, and cleans up after the dead."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from factories.leases import rewrite
from msgspec.structs import replace

from benchmark.errors import UserError
from benchmark.plan.run import Run
from benchmark.store import atomic, leases
from benchmark.store.atomic import Patience, create_atomically, is_abandoned, replacing, write_atomically
from benchmark.store.leases import Lost, acquire, newest
from benchmark.store.record import Record
from benchmark.store.store import Store

PREDICTIONS = np.array([0, 3, 2]), np.array([1, 0.5, 0.25], np.float32)
OTHERS = np.array([1, 3, 2]), np.array([0.1, 0.5, 0.25], np.float32)


def files(store: Store) -> list[str]:
    return sorted(path.name.split(".", 1)[1] for path in store.folder.rglob("*.*") if path.is_file())


def test_the_second_record_of_a_run_is_not_stored(tmp_path: Path, record: Record) -> None:
    store = Store(tmp_path)
    assert store.save(record, PREDICTIONS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    late = replace(record, warnings=["late"])
    assert not store.save(late, OTHERS)
    assert not store.save(late, PREDICTIONS)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_record_that_was_stored_before_an_error_is_ones_own(tmp_path: Path, record: Record) -> None:
    """The second attempt finds what the first has left."""
    store = Store(tmp_path)
    assert store.save(record, PREDICTIONS)
    assert store.save(record, PREDICTIONS)


def test_predictions_without_their_record_are_none_and_go_with_the_next_record(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the two."""
    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.save(record, OTHERS)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    assert not store.has(record.run)
    assert store.predictions(record) is None
    assert store.save(record, PREDICTIONS)
    (path,) = tmp_path.rglob("*.npz")
    stored = store.load(record.run)
    assert stored
    assert path == store.predictions_path(stored)


def test_what_is_in_the_way_of_a_record_is_named(tmp_path: Path, run: Run, record: Record) -> None:
    store = Store(tmp_path)
    store.record_path(run).mkdir(parents=True)
    assert not store.has(run)
    assert store.load(run) is None
    with pytest.raises(UserError, match=r"s0\.json is in the way"):
        store.save(record)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_a_file_is_created_once_all_the_same(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*paths: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "file"
    create_atomically(path, "first")
    with pytest.raises(FileExistsError):
        create_atomically(path, "second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


# Leases


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "task" / "method" / "abc-s0.json"


def test_a_late_beat_cannot_undo_a_release(path: Path) -> None:
    lease = acquire(path)
    assert lease
    lease.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(lease._file)
    lease._beat()
    holder = newest(path)
    assert holder
    assert holder.gone


def test_a_late_beat_brings_no_deleted_lease_back(path: Path) -> None:
    """Its run was finished by another, who deleted all of the run's leases."""
    late = acquire(path)
    other = acquire(path, abandoned=newest(path))
    assert late
    assert other
    path.write_text("{}")
    other.release()
    late._beat()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    late.release()


def test_an_owner_notices_that_another_has_finished_the_run(path: Path) -> None:
    late = acquire(path)
    other = acquire(path, abandoned=newest(path))
    assert late
    assert other
    path.write_text("{}")
    other.release()
    with pytest.raises(Lost):
        late.check()
    path.unlink()
    again = acquire(path)
    assert again
    assert again.number == late.number, "a lease of the same name, but not his"
    with pytest.raises(Lost):
        late.check()
    late.release()
    again.check()


def test_a_folder_that_says_nothing_takes_no_lease_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = acquire(path)
    assert lease
    for error in (OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "Permission denied")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", lambda *more, error=error, **keys: (_ for _ in ()).throw(error))
            lease.check()
    lease.release()


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff",
        b"{}",
        b"[" * 100_000,
        json.dumps({"machine": leases.machine(), "pid": 10**30}).encode(),
    ],
)
def test_a_damaged_lease_is_respected_until_it_is_watched_long_enough(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.with_name("abc-s0.1.lease").write_bytes(content)
    holder = newest(path)
    assert holder
    assert holder.owner is None
    assert acquire(path) is None
    assert acquire(path, abandoned=holder)


@pytest.mark.parametrize("pid", [10**30, 0, -1, "1", None, 1.5])
def test_a_process_id_that_is_none_is_never_asked_for(path: Path, pid: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 1e6)
    lease = acquire(path)
    rewrite(path, pid=pid)
    monkeypatch.setattr(os, "kill", lambda *more: pytest.fail("it asked"))
    assert acquire(path) is None
    assert lease
    lease.release()


def test_a_lease_that_is_no_file_is_respected_as_well(path: Path) -> None:
    path.with_name("abc-s0.1.lease").mkdir(parents=True)
    assert acquire(path) is None
    assert acquire(path, abandoned=newest(path))


# What the dead leave


def leave_a_temporary_file(path: Path) -> Path:
    """What a process leaves that is killed while it writes."""
    code = f"""
import os, pathlib
from benchmark.store.atomic import replacing
with replacing(pathlib.Path({str(path)!r})) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    (temporary,) = path.parent.glob(".*.tmp")
    return temporary


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path, run: Run) -> None:
    store = Store(tmp_path)
    dead = leave_a_temporary_file(store.checkpoint_path(run))
    assert is_abandoned(dead)
    with replacing(store.record_path(run)) as temporary:
        temporary.write_text("half")
        elsewhere = temporary.with_name(temporary.name.replace(f".{atomic._machine()}-", f".{'0' * 12}-"))
        elsewhere.write_text("half")
        old = elsewhere.with_name(elsewhere.name.removesuffix(".tmp") + "0.tmp")
        old.write_text("half")
        os.utime(old, (0, time.time() - 2 * 24 * 3600))
        of_another_version = temporary.with_name(f".{run.digest}-s0.json.0123.tmp")
        of_another_version.write_text("half")
        store.clean()
        assert not dead.exists()
        assert not old.exists()
        assert {temporary, elsewhere, of_another_version} == {*temporary.parent.glob(".*.tmp")}


def test_what_served_to_get_a_record_goes_once_it_is_there(tmp_path: Path, run: Run, record: Record) -> None:
    store = Store(tmp_path)
    store.save(record, PREDICTIONS)
    whole = files(store)
    left = (".ckpt", ".ckpt.corrupt", ".1.lease", ".failed.json", ".0123456789ab.npz", ".npz")
    for other in (run, Run(run.settings, 1)):
        for suffix in left:
            store.record_path(other).with_suffix(suffix).write_text("left")
    store.clean()
    assert files(store) == sorted([*whole, *(suffix[1:] for suffix in left)]), "the other run has no record"
    stored = store.load(run)
    assert stored
    assert store.predictions(stored)


def test_a_record_stands_until_that_of_a_renewal_takes_its_place(tmp_path: Path, run: Run, record: Record) -> None:
    store = Store(tmp_path)
    store.save(record, PREDICTIONS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    store.checkpoint_path(run).write_text("of a late launcher")
    store.renew(run)
    assert not store.checkpoint_path(run).exists(), "nothing of an earlier training is continued"
    assert (store.has(run), store.lacks(run), store.is_renewed(run)) == (False, True, True)
    assert store.load(run), "tables show it meanwhile"
    for suffix in (".ckpt", ".1.lease", ".failed.json"):
        store.record_path(run).with_suffix(suffix).write_text("of the renewal")
    store.renew(run)
    store.clean()
    store.clean_up(run)
    assert files(store) == sorted(
        [*(path.name.split(".", 1)[1] for path in before), "1.lease", "again", "ckpt", "failed.json"]
    )
    assert store.save(replace(record, warnings=["new"]), OTHERS)
    stored = store.load(run)
    assert stored
    assert stored.warnings == ["new"]
    assert store.predictions(stored)
    assert (store.has(run), store.is_renewed(run)) == (True, False)
    aside = [path for path in tmp_path.rglob("*.*") if ".replaced-" in path.name]
    assert sorted(path.read_bytes() for path in aside) == sorted(before.values())
    assert len(files(store)) == len(aside) + 2, "a record and its predictions"
    assert not store.save(replace(record, warnings=["late"]), PREDICTIONS), "it is replaced once"


def test_a_note_of_a_renewal_that_is_over_says_nothing(tmp_path: Path, run: Run, record: Record) -> None:
    """Its launcher was killed right after it had stored the new record."""
    store = Store(tmp_path)
    store.save(record)
    store.renew(run)
    note = store.record_path(run).with_suffix(".again")
    content = note.read_bytes()
    store.save(replace(record, warnings=["new"]))
    for left in (content, b"\xff", b""):
        note.write_bytes(left)
        assert store.has(run)
        assert not store.save(record)
    store.clean()
    assert not note.exists()


@pytest.mark.parametrize("links", [True, False])
def test_what_is_kept_under_a_second_name_does_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def unsupported(*paths: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("old")
    atomic.keep_as(first, second)
    write_atomically(first, "new")
    assert (first.read_text(), second.read_text()) == ("new", "old")


def test_a_full_disk_is_noticed_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file still finds a place on one."""
    original = atomic._write

    def write(path: Path, content: str | bytes) -> None:
        original(path, content[:0])
        if content:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "_write", write)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        Store(tmp_path).check_writable()
    assert not files(Store(tmp_path))


def test_patience_is_one_for_all_that_a_run_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            now[0] += seconds

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "time", Clock)
    patience = Patience()
    for name in ("record.json", "note.json"):
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / name}'"):
            patience(full, tmp_path / name)
    assert now == [600]
    assert f"record.json cannot be written to {tmp_path} (No space left on device)" in capsys.readouterr().out
    assert patience(lambda: "done", tmp_path) == "done"


def test_a_file_is_whole_when_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renamed before it is on the disk is empty after a power cut."""
    done: list[str] = []
    for name in ("fsync", "replace", "link"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *more, name=name, original=original: (done.append(name), original(*more))[1]
        )
    write_atomically(tmp_path / "one", "text")
    create_atomically(tmp_path / "two", "text")
    assert done == ["fsync", "replace", "fsync", "link"]
