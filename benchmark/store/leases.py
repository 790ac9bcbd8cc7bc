"""Leases: who trains a run, so that several launchers and machines can share one results folder.

A lease is a small file beside the record, ``<hash>-s<seed>.<number>.lease``. It is created exclusively and numbered
one above the highest there is, so that of several contenders exactly one gets it; the highest number counts. Its
owner rewrites it every BEAT seconds. A lease may be succeeded by the next number when it was released, when its owner
is known to be dead, or when it did not change for STALE seconds of watching. Clocks of different machines are never
compared. Exclusive creation and renaming are all that is asked of the file system; network file systems give them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.store.atomic import write_atomically

BEAT = 10.0
STALE = 60.0
NAME = re.compile(r"(.+)\.(\d+)\.lease")


class Lost(Exception):
    """Another worker has taken the run over, because this one was silent for too long."""


@cache
def machine() -> str:
    """Name of this machine, boot and process namespace: two processes with the same one can see each other's ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: the name has to do
        return platform.node()


def started(pid: int) -> str | None:
    """When a process of this machine was started, in the kernel's ticks, "" where unknown; None when there is none.

    Process ids are used again; the pair of id and start is not.
    """
    try:
        os.waitpid(pid, os.WNOHANG)  # a child that has ended stays visible until its parent has asked for it
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def slurm_job() -> str | None:
    """Id of the SLURM job this process belongs to, as SLURM prints it; None outside."""
    environ = os.environ
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


@dataclass(frozen=True)
class Holder:
    """The newest lease on a run as it was read; ``text`` changes with every beat."""

    number: int
    text: str

    @property
    def content(self) -> dict[str, Any]:
        """What the lease says; empty in the moment between its creation and its first beat."""
        try:
            return json.loads(self.text)
        except ValueError:
            return {}

    @property
    def gone(self) -> bool:
        """Whether the owner is known not to train any more."""
        content = self.content
        if content.get("released"):
            return True
        if content.get("machine") == machine():
            return started(content["pid"]) != content["started"]
        # A job that SLURM has started again: its earlier life is over, wherever that was.
        same_job = content.get("job") is not None and content["job"] == slurm_job()
        return same_job and content["restarts"] < _restarts()


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
        return Holder(max(numbers), _path(record, max(numbers)).read_text(encoding="utf-8"))
    except FileNotFoundError:  # its run was finished while we looked
        return None


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
        os.close(os.open(_path(record, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return None
    return Lease(record, number, log)


class Lease:
    """A run that is ours, kept alive by a thread until it is released. ``done`` of ``total`` epochs are trained."""

    def __init__(self, record: Path, number: int, log: Path | None) -> None:
        self.record = record
        self.number = number
        self.done, self.total = 0, 0
        self._beats = 0
        # A plain flag and no lock: release() is also called from a signal handler.
        self._released = False
        self._owner = {
            "machine": machine(),
            "host": platform.node(),
            "pid": os.getpid(),
            "started": started(os.getpid()),
            "job": slurm_job(),
            "restarts": _restarts(),
            "log": str(log) if log else None,
            "since": time.time(),
        }
        self._beat()
        threading.Thread(target=self._keep_alive, daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether somebody has made the next lease."""
        return _path(self.record, self.number + 1).exists()

    def check(self) -> None:
        """Raises Lost when somebody has taken the run over."""
        if self.lost:
            raise Lost(f"{self.record.stem} was taken over by another worker")

    def release(self) -> None:
        """Let others have the run. Once there is a record nobody needs a lease, and all of the run's go."""
        self._released = True
        try:
            if not self.record.exists():
                self._beat()
                return
            for number in range(self.number, 0, -1):
                _path(self.record, number).unlink(missing_ok=True)
        except OSError:  # unwritable: the lease goes stale instead
            pass

    def _keep_alive(self) -> None:
        while True:
            time.sleep(BEAT)
            if self._released:
                return
            self._beat()

    def _beat(self) -> None:
        self._beats += 1
        content = {
            **self._owner,
            "beat": self._beats,
            "written": time.time(),
            "done": self.done,
            "total": self.total,
            "released": self._released,
        }
        try:
            write_atomically(_path(self.record, self.number), json.dumps(content) + "\n")
        except OSError:  # the folder cannot be written for the moment; the next beat may succeed
            pass
