"""Logs of trainings: what is measured after each epoch, written as it comes, for other programs to follow.

A log is derived from the history that checkpoints and records hold, and nothing is read from it but to be shown. A run
that is resumed begins its log anew with the history of its checkpoint, so that no epoch is there twice or missing.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from benchmark.errors import UserError
from benchmark.store.atomic import write_atomically

FORMATS = ("jsonl", "tensorboard")
TOLD = ("phase", "epoch", "loss", "target", "biased")  # of an epoch's entry, without the counts by group
Entry = Mapping[str, Any]
"""An epoch of ``training.progress.history``."""


def folder(results: Path) -> Path:
    return results / "logs"


def path_of(results: Path, run_id: str) -> Path:
    """A run's lines of JSON; TensorBoard's files are in the folder of that name without suffix."""
    return folder(results) / f"{run_id}.jsonl"


def check(formats: Collection[str]) -> None:
    """Raises UserError for a format that needs what is not installed."""
    if "tensorboard" in formats and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "--log tensorboard needs TensorBoard, which is not installed: pip install -e '.[tensorboard]', or choose "
            "--log jsonl."
        )


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """An epoch as a line of JSON: ``done`` of ``total`` are over; its phase, mean loss, and the networks' metrics."""

    done: int
    total: int
    phase: str
    epoch: int
    loss: float
    target: dict[str, float | None] = {}
    biased: dict[str, float | None] = {}


_decoder = msgspec.json.Decoder(Line)


def read(results: Path, run_id: str) -> list[Line]:
    """The lines of a run's log, up to the first that is none, as a kill leaves the last one."""
    found: list[Line] = []
    try:
        for line in path_of(results, run_id).read_bytes().splitlines():
            found.append(_decoder.decode(line))
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return found


class Writer(Protocol):
    def follow(self, history: Sequence[Entry]) -> None:
        """Bring the log up to date with all epochs so far. What was written by others is replaced."""

    def close(self) -> None: ...


class RunLog:
    """The logs of a run of ``total`` epochs. What goes wrong is said once, and costs the run nothing."""

    def __init__(
        self, results: Path, run_id: str, formats: Collection[str], total: int, say: Callable[[str], None]
    ) -> None:
        path = path_of(results, run_id)
        makers: dict[str, Callable[[], Writer]] = {
            "jsonl": lambda: JsonLines(path, total),
            "tensorboard": lambda: TensorBoard(path.with_suffix("")),
        }
        self._writers = [makers[each]() for each in formats]
        self._say: Callable[[str], None] | None = say

    def follow(self, history: Sequence[Entry]) -> None:
        for writer in self._writers:
            self._try(partial(writer.follow, history))

    def close(self) -> None:
        for writer in self._writers:
            self._try(writer.close)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # a full disk, or whatever a library makes of one
            if self._say:
                self._say(f"The log could not be written ({error}); the run goes on, and tries again after each epoch.")
            self._say = None


class JsonLines:
    """A ``Line`` an epoch."""

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total = path, total
        self._written = 0

    def follow(self, history: Sequence[Entry]) -> None:
        written = self._written if self.path.exists() else 0
        lines = [
            msgspec.json.encode(Line(done, self.total, **{key: entry[key] for key in TOLD if key in entry})).decode()
            + "\n"
            for done, entry in enumerate(history[written:], written + 1)
        ]
        self._written = 0  # what fails halfway is begun anew
        if written:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        else:
            write_atomically(self.path, lines)
        self._written = len(history)

    def close(self) -> None:
        pass


class TensorBoard:
    """Scalars over the number of epochs that are done: the loss of each phase, and the metrics of each network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: Any = None
        self._written = 0

    def follow(self, history: Sequence[Entry]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._events is None:
            for path in self.folder.glob("events.out.tfevents.*"):
                path.unlink()
            self._events, self._written = EventFileWriter(str(self.folder)), 0
        events, self._events = self._events, None  # what fails halfway is begun anew
        for done, entry in enumerate(history[self._written :], self._written + 1):
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _scalars(entry)]
            events.add_event(Event(wall_time=time.time(), step=done, summary=Summary(value=values)))
        events.flush()
        self._events, self._written = events, len(history)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def _scalars(entry: Entry) -> Iterator[tuple[str, float]]:
    yield f"loss/{entry['phase']}", entry["loss"]
    for network in ("target", "biased"):
        yield from ((f"{network}/{name}", value) for name, value in entry.get(network, {}).items() if value is not None)
