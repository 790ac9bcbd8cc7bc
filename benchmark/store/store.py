"""The folder of records: one file per finished run, written atomically. A record exists, valid, or not at all."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UserError, unknown
from benchmark.plan.run import Run
from benchmark.store import record as records
from benchmark.store.atomic import write_atomically
from benchmark.store.record import Record


@dataclass(frozen=True)
class Store:
    """Records, failure notes, checkpoints and predictions of all runs, under ``folder``/runs."""

    folder: Path

    def record_path(self, run: Run) -> Path:
        return self._runs / f"{run.id}.json"

    def checkpoint_path(self, run: Run) -> Path:
        return self.record_path(run).with_suffix(".ckpt")

    def predictions_path(self, run: Run) -> Path:
        return self.record_path(run).with_suffix(".npz")

    def failure_path(self, run: Run) -> Path:
        return self.record_path(run).with_suffix(".failed.json")

    def check_writable(self) -> None:
        """Raises UserError unless files can be made and replaced in the folder."""
        probe = self._runs / f".probe-{os.getpid()}"
        try:
            write_atomically(probe, "")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"The results folder {self.folder} cannot be written ({error.strerror}): choose another with --results."
            ) from error

    def has(self, run: Run) -> bool:
        """Whether the run has a record, told by its end: 10,000 of them are looked at within a second.

        One that breaks off is set aside by ``load``, which alone looks at every number.
        """
        try:
            with self.record_path(run).open("rb") as file:
                file.seek(-min(2, os.fstat(file.fileno()).st_size), os.SEEK_END)
                complete = file.read() == b"}\n"
        except FileNotFoundError:
            return False
        return complete or self.load(run) is not None

    def load(self, run: Run) -> Record | None:
        """The run's record, or None. A damaged one is set aside under another name, so that the run is done again."""
        return self.read(run.id)

    def everything(self) -> Iterator[Record]:
        """Every record of the folder, whatever table it belongs to, in order of their ids."""
        return (record for each in self._ids() if (record := self.read(each)))

    def ids(self, beginning: str) -> list[str]:
        """The stored runs that are called, or begin, so, in order. Raises UserError where none is."""
        ids = self._ids()
        if not ids:
            raise UserError(
                f"{self._runs} holds no record: train with python -m benchmark.run, or name another --results."
            )
        chosen = [beginning] if beginning in ids else [each for each in ids if each.startswith(beginning)]
        if not chosen:
            raise unknown("run", beginning, {each.rpartition("/")[0] for each in ids})
        return chosen

    def read(self, run_id: str) -> Record | None:
        """The record of a run of that id, or None, as ``load``."""
        path = self._runs / f"{run_id}.json"
        try:
            record = records.decode(path.read_bytes())
            if record.run.id == run_id:
                return record
            problem = f"it is of {record.run.id}"
        except FileNotFoundError:
            return None
        except ValueError as error:
            problem = str(error)
        aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            os.replace(path, aside)
        except FileNotFoundError:  # another process has just done so
            return None
        print(f"Record {path} is damaged ({problem}); kept as {aside.name}, the run counts as missing.")
        return None

    @property
    def _runs(self) -> Path:
        return self.folder / "runs"

    def _ids(self) -> list[str]:
        names = (path.relative_to(self._runs).as_posix() for path in self._runs.glob("*/*/*.json"))
        return sorted(name.removesuffix(".json") for name in names if not name.endswith(".failed.json"))

    def set_aside(self, run: Run, why: str) -> None:
        """Give the run's record another name, so that the run is done again and nothing is lost."""
        path = self.record_path(run)
        os.replace(path, path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%d-%H%M%S')}"))

    def save(self, record: Record) -> None:
        """Store a finished run. Raises ValueError for a record that contradicts itself."""
        run = record.run
        write_atomically(self.record_path(run), records.encode(record))
        self.failure_path(run).unlink(missing_ok=True)
        self.checkpoint_path(run).unlink(missing_ok=True)

    def save_predictions(self, record: Record, predicted: np.ndarray, score: np.ndarray) -> None:
        """Store what ``Training.predictions`` gives beside the record that it belongs to.

        Kept out of the record, which is text to be read and compared.
        """
        largest = int(predicted.max(initial=0))
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            predicted=predicted.astype(np.min_scalar_type(largest)),
            score=score.astype(np.float32),
            finished=record.provenance.finished,
        )
        write_atomically(self.predictions_path(record.run), buffer.getvalue())

    def predictions(self, record: Record) -> tuple[np.ndarray, np.ndarray] | None:
        """Predicted class, int64 [n], and probability of the label, float64 [n], of every training sample.

        None where none are stored, or those of another training than the record's.
        """
        try:
            with np.load(self.predictions_path(record.run)) as stored:
                if str(stored["finished"]) != record.provenance.finished:
                    return None
                return stored["predicted"].astype(np.int64), stored["score"].astype(np.float64)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def save_failure(self, run: Run, reason: str, trace: str, **where: str | None) -> None:
        """Note why a run failed, and ``where``: its job and log file, if it has them."""
        note = {"task": run.task, "method": run.method, "seed": run.seed, "reason": reason, "trace": trace, **where}
        write_atomically(self.failure_path(run), json.dumps(note, indent=1, ensure_ascii=False) + "\n")

    def failure(self, run: Run) -> dict[str, Any]:
        """The note of the run's last failure; empty when there was none, or it cannot be read."""
        return _note(self.failure_path(run))

    def failures(self) -> dict[str, str]:
        """Why runs failed, by run id."""
        notes = {path: _note(path) for path in sorted(self._runs.glob("*/*/*.failed.json"))}
        return {
            path.relative_to(self._runs).as_posix().removesuffix(".failed.json"): note["reason"]
            for path, note in notes.items()
            if note
        }


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) and isinstance(note.get("reason"), str) else {}
