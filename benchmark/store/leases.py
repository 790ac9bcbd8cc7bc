"""Leases: who trains a run, so that several launchers and machines can share one results folder.

A lease is a small file beside the record, ``<hash>-s<seed>.<number>.lease``. It is created exclusively and numbered
one above the highest there is, so that of several contenders exactly one gets it; the highest number counts. Its
owner writes to it every BEAT seconds, into the file that he opened and never by its name, so that a late beat can
neither bring back what was deleted nor touch what is now another's. A lease may be succeeded by the next number when
it was released, when its owner is known to be dead, or when it did not change for STALE seconds of watching. Clocks of
different machines are never compared. Exclusive creation is all that is asked of the file system; network file systems
give it.
"""

from __future__ import annotations

import os
import platform
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec

from benchmark.store.processes import LARGEST, machine, started

BEAT = 10.0
STALE = 60.0
LAST = 10  # epochs that a lease tells of
NAME = re.compile(r"(.+)\.([1-9][0-9]*)\.lease")


class Lost(Exception):
    """Another worker has taken the run over, or finished it, because this one was silent for too long."""


def slurm_job() -> str | None:
    """Id of the SLURM job this process belongs to, as SLURM prints it; None outside."""
    environ = os.environ
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


class Epoch(msgspec.Struct, frozen=True):
    """An epoch of a phase: its mean loss, metrics, and how many seconds after the lease was made it was over."""

    phase: str
    epoch: int
    loss: float
    metrics: dict[str, float]
    seconds: float


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What a lease says: whose it is, how many of ``total`` epochs are ``done``, and how often that was written.

    ``last`` are the last epochs, for ``--status`` to show.
    """

    machine: str
    host: str
    pid: Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
    started: str | None = None
    job: str | None
    restarts: int
    log: str | None = None
    since: float
    beat: int = 0
    written: float
    done: int = 0
    total: int = 0
    last: tuple[Epoch, ...] = ()
    released: bool = False

    @property
    def pace(self) -> float:
        """Seconds an epoch, of the last ones; 0 where fewer than two are told of."""
        return (self.last[-1].seconds - self.last[0].seconds) / (len(self.last) - 1) if len(self.last) > 1 else 0.0

    @property
    def gone(self) -> bool:
        """Whether the owner is known not to train any more."""
        if self.released:
            return True
        if self.machine == machine():
            return started(self.pid) != self.started
        # A job that SLURM has started again: its earlier life is over, wherever that was.
        return self.job is not None and self.job == slurm_job() and self.restarts < _restarts()


_decoder = msgspec.json.Decoder(Owner)


@dataclass(frozen=True)
class Holder:
    """The newest lease on a run as it was read; ``content`` changes with every beat."""

    number: int
    content: bytes

    @cached_property
    def owner(self) -> Owner | None:
        """None where the lease says nothing: in the moment between its creation and its first beat, or damaged."""
        try:
            return _decoder.decode(self.content)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    @property
    def gone(self) -> bool:
        """Whether the owner is known not to train any more; of one that cannot be read, only watching tells."""
        return self.owner is not None and self.owner.gone


def _restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT", 0))


def newest(record: Path, names: Iterable[str] | None = None) -> Holder | None:
    """The newest lease on the run of that record; ``names`` are those of the files beside it, if already known."""
    if names is None:
        names = os.listdir(record.parent) if record.parent.is_dir() else ()
    matches = (NAME.fullmatch(name) for name in names)
    numbers = [int(match[2]) for match in matches if match and match[1] == record.stem]
    if not numbers:
        return None
    try:
        return Holder(max(numbers), _path(record, max(numbers)).read_bytes())
    except FileNotFoundError:  # its run was finished while we looked
        return None
    except OSError:
        return Holder(max(numbers), b"")


def _path(record: Path, number: int) -> Path:
    return record.with_name(f"{record.stem}.{number}.lease")


def acquire(record: Path, log: Path | None = None, abandoned: Holder | None = None) -> Lease | None:
    """Lease the run of that record; None while somebody else has it. ``abandoned`` was watched for STALE seconds."""
    record.parent.mkdir(parents=True, exist_ok=True)
    holder = newest(record)
    if holder and not holder.gone and holder != abandoned:
        return None
    number = holder.number + 1 if holder else 1
    try:
        return Lease(record, number, os.open(_path(record, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), log)
    except FileExistsError:
        return None


class Lease:
    """A run that is ours, kept alive by a thread until it is released. ``done`` of ``total`` epochs are trained.

    ``last`` are those of them that the next beat tells of.
    """

    def __init__(self, record: Path, number: int, file: int, log: Path | None) -> None:
        self.record = record
        self.number = number
        self.done, self.total = 0, 0
        self.last: tuple[Epoch, ...] = ()
        # Open to the end: as long as it is, no other file can look the same to ``lost``.
        self._file = file
        self._beats, self._length = 0, 0
        self._released = False
        # The thread's beat and the release; re-entered where a signal handler releases what is being released.
        self._writing = threading.RLock()
        self._owner = Owner(
            machine=machine(),
            host=platform.node(),
            pid=os.getpid(),
            started=started(os.getpid()),
            job=slurm_job(),
            restarts=_restarts(),
            log=str(log) if log else None,
            since=time.time(),
            written=time.time(),
        )
        self._beat()
        threading.Thread(target=self._keep_alive, daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether somebody has made the next lease, or deleted ours with those of a finished run.

        Where the folder does not say, the lease counts as ours: a record replaces none, whoever stores it.
        """
        if self._released:
            return True
        try:
            ours = os.path.samestat(os.stat(_path(self.record, self.number)), os.fstat(self._file))
            return not ours or _path(self.record, self.number + 1).exists()
        except FileNotFoundError:
            return self.record.parent.is_dir()
        except OSError:
            return False

    def check(self) -> None:
        """Raises Lost when somebody has taken the run over, or finished it."""
        if self.lost:
            raise Lost(f"{self.record.stem} was taken over or finished by another worker")

    def tell(self, phase: str, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """Have the next beats tell of an epoch that is over."""
        told = Epoch(phase, epoch, loss, metrics, time.time() - self._owner.since)
        self.last = (*self.last, told)[-LAST:]

    def release(self) -> None:
        """Let others have the run. Once there is a record nobody needs a lease, and all of the run's go."""
        with self._writing:
            if self._released:
                return
            self._released = True
            self._write()
            os.close(self._file)
        try:
            if self.record.exists():
                for number in range(self.number, 0, -1):
                    _path(self.record, number).unlink(missing_ok=True)
        except OSError:  # unwritable for the moment
            pass

    def _keep_alive(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._writing:
                if self._released:
                    return
                self._beat()

    def _beat(self) -> None:
        self._beats += 1
        self._write()

    def _write(self) -> None:
        told = {"written": time.time(), "done": self.done, "total": self.total, "last": self.last}
        owner = msgspec.structs.replace(self._owner, beat=self._beats, **told, released=self._released)
        # Never shorter than before, so that nothing of the last beat is left behind this one.
        text = msgspec.json.encode(owner).ljust(self._length) + b"\n"
        self._length = len(text) - 1
        try:
            os.pwrite(self._file, text, 0)
            os.fsync(self._file)
        except OSError:  # the folder cannot be written for the moment; the next beat may succeed
            pass
