"""Files that exist whole or not at all, and patience with file systems that fail for a while."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from benchmark.store.processes import LARGEST, machine, started

T = TypeVar("T")
Content = str | bytes | Iterable[str]
# What a file system without hard links answers when it is asked for one.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
TEMPORARY = re.compile(r"\..+\.([0-9a-f]{12})-([0-9]+)-([0-9]*)\.[0-9a-f]{32}\.tmp")
_noted: ContextVar[dict[Path, str | None]] = ContextVar("noted")
ABANDONED = 24 * 3600  # seconds after which nobody still writes to a temporary file, whatever the clocks say


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write to, which takes the place of ``path`` at the end; what fails leaves nothing behind."""
    with _temporary(path) as temporary:
        yield temporary
        _flush(temporary)
        note = _noted.get(None)
        digest = sha256(temporary) if note is not None else None
        os.replace(temporary, path)
        if note is not None:
            note[path] = digest


@contextmanager
def noting() -> Iterator[dict[Path, str | None]]:
    """The SHA-256 of every file that is replaced meanwhile, as it was written, and None for each that is withdrawn."""
    found: dict[Path, str | None] = {}
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def withdraw(path: Path) -> None:
    """Delete a file that there is no reason for any more, if it is there."""
    path.unlink(missing_ok=True)
    if (note := _noted.get(None)) is not None:
        note[path] = None


def sha256(path: Path) -> str | None:
    """The SHA-256 of a file's content, None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No other process, host or signal handler may write to the same one, and whoever finds it can tell whose it is.
    temporary = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{started(os.getpid())}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Delete a file, if it is there and the folder allows it; what stays does no harm."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass


def write_atomically(path: Path, content: Content) -> None:
    """Replace ``path`` by ``content`` in one step: readers see the old file or the new one, never a part.

    Pieces of a long text are written one after the other.
    """
    with replacing(path) as temporary:
        _write(temporary, content)


def create_atomically(path: Path, content: Content) -> None:
    """Write a file that does not exist yet. Raises FileExistsError, and changes nothing, where another was faster."""
    with _temporary(path) as temporary:
        _write(temporary, content)
        _flush(temporary)
        _create(temporary, path)


def keep_as(path: Path, other: Path) -> None:
    """Let what ``path`` holds now stay under a second name, whatever takes its place. Raises OSError."""
    try:
        os.link(path, other)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        write_atomically(other, path.read_bytes())


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write(path: Path, content: Content) -> None:
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            file.writelines(piece.encode() for piece in ([content] if isinstance(content, str) else content))


def _create(temporary: Path, path: Path) -> None:
    """Give a file its name unless that is taken. A link, unlike a renaming, replaces nothing."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        if os.stat(temporary).st_nlink == 1:  # else a network file system has asked twice
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        os.replace(temporary, path)


def _machine() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:12]


def is_abandoned(path: Path) -> bool:
    """Whether nobody writes to a temporary file any more: its writer is dead or, elsewhere, it is a day old."""
    named = TEMPORARY.fullmatch(path.name)
    if named and named[1] == _machine():
        pid = int(named[2])
        return not 0 < pid <= LARGEST or started(pid) != named[3]
    try:
        return time.time() - path.stat().st_mtime > ABANDONED
    except FileNotFoundError:
        return False


class Patience:
    """The time that one run may wait, in all, for a folder that fails: shared file systems have bad minutes."""

    def __init__(self, seconds: float = 600) -> None:
        self.left = seconds

    def __call__(self, action: Callable[[], T], path: Path) -> T:
        """Do what concerns the file ``path``, again and again while that fails.

        Raises the last OSError, naming the file, when no patience is left.
        """
        while True:
            began = time.monotonic()
            try:
                return action()
            except OSError as error:
                reason = error.strerror or str(error)
                if self.left <= 0:
                    raise OSError(error.errno or errno.EIO, reason, str(path)) from error
                print(
                    f"{path.name} cannot be written to {path.parent} ({reason}); "
                    f"trying again for {self.left:.0f} seconds.",
                    flush=True,
                )
                time.sleep(5)
                self.left -= time.monotonic() - began
