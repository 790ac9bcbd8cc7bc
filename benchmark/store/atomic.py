"""Files that exist whole or not at all, and patience with file systems that fail for a while."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def write_atomically(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Replace ``path`` by ``content`` in one step: readers see the old file or the new one, never a part.

    Pieces of a long text are written one after the other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # No other process, host or signal handler may write to the same partial file.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with partial.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                file.writelines(piece.encode() for piece in ([content] if isinstance(content, str) else content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def patiently(action: Callable[[], T], seconds: float = 600) -> T:
    """Do something to the results folder, again and again while it fails: shared file systems have bad minutes.

    Raises the last OSError when that took longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except OSError as error:
            if time.monotonic() > deadline:
                raise
            print(f"The results folder cannot be used ({error}); trying again.", flush=True)
            time.sleep(5)
