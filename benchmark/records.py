"""The folder of records: one JSON file per finished run, written atomically. A record exists, valid, or not at all."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmark import metrics
from benchmark.errors import UserError, unknown
from benchmark.plan import Run

SCHEMA = 1
Record = dict[str, Any]
T = TypeVar("T")
KEYS = {
    "schema": int,
    "task": str,
    "method": str,
    "seed": int,
    "preset": str,
    "settings": dict,
    "groups": dict,
    "test": dict,
    "train": dict,
    "curves": list,
    "summary": dict,
    "warnings": list,
    "provenance": dict,
}


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content`` in one step: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # No other process, host or signal handler may write to the same partial file.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
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


def run_of(record: Record) -> Run:
    """The run that the record is of."""
    return Run(record["settings"], record["seed"])


def faults(record: Record) -> list[str]:
    """What is wrong with a record: missing or mistyped keys, counts that contradict themselves (methods' §5.5)."""
    found = [
        f"'{key}' is missing or not a {kind.__name__}"
        for key, kind in KEYS.items()
        if not isinstance(record.get(key), kind)
    ]
    if found:
        return found
    if record["schema"] != SCHEMA:
        return [f"its schema is {record['schema']}, this version reads {SCHEMA}"]
    if any(record["settings"].get(key) != record[key] for key in ("task", "method")):
        return ["its settings are not those of its task and method"]
    total = np.asarray(record["groups"]["test"])
    for selection, result in record["test"].items():
        correct = np.asarray(result["correct"])
        if correct.shape != total.shape:
            return [f"the counts of test.{selection} have shape {correct.shape}, not {total.shape}"]
        found += [f"test.{selection}: {each}" for each in metrics.inconsistencies(correct, total)]
    return found


def fairness(record: Record, selection: str = "last") -> dict[str, float | None]:
    """The metrics of Tables 1 and 2 under a selection rule, "last" or "validation"; empty where not measured."""
    if selection not in record["test"]:
        return {}
    correct, total = np.asarray(record["test"][selection]["correct"]), np.asarray(record["groups"]["test"])
    scored = record["groups"].get("scored")
    return metrics.fairness(correct, total, None if scored is None else np.asarray(scored))


def bias_accuracy(record: Record, epoch: int | None = None) -> float | None:
    """Bias Accuracy of the biased model on the training set, after ``epoch`` epochs or at its end (Table 3)."""
    curve = biased_curve(record)
    if epoch is not None:
        curve = [entry for entry in curve if entry["epoch"] == epoch]
    return curve[-1]["bias_acc"] if curve else None


def identification(record: Record) -> dict[str, float]:
    """Recall and precision, in percent, of calling conflicting what the biased model gets wrong in training."""
    groups, right = record["groups"], record["train"]
    wrong = np.asarray(groups["train"]) - np.asarray(right["biased" if "biased" in right else "target"])
    conflicting = ~metrics.aligned_mask(wrong.shape, groups["aligned_bias"])
    total, found = np.asarray(groups["train"])[conflicting].sum(), wrong[conflicting].sum()
    return {"recall": 100 * found / max(total, 1), "precision": 100 * found / max(wrong.sum(), 1)}


def biased_curve(record: Record) -> list[dict[str, Any]]:
    """Entries, one an epoch, of the biased model; for plain training that is the model itself."""
    role = "biased" if any("biased" in entry for entry in record["curves"]) else "target"
    return [{"epoch": entry["epoch"], **entry[role]} for entry in record["curves"] if role in entry]


def target_curve(record: Record) -> list[dict[str, Any]]:
    """Entries, one an epoch, of the network that is tested."""
    return [{"epoch": entry["epoch"], **entry["target"]} for entry in record["curves"] if "target" in entry]


@dataclass(frozen=True)
class Store:
    """Records, failure notes, checkpoints and predictions of all runs, under ``folder``/runs."""

    folder: Path

    def record_path(self, run: Run) -> Path:
        return self.folder / "runs" / f"{run.id}.json"

    def checkpoint_path(self, run: Run) -> Path:
        return self.record_path(run).with_suffix(".ckpt")

    def predictions_path(self, run: Run) -> Path:
        return self.record_path(run).with_suffix(".npz")

    def failure_path(self, run: Run) -> Path:
        return self.record_path(run).with_suffix(".failed.json")

    def check_writable(self) -> None:
        """Raises UserError unless files can be made and replaced in the folder."""
        probe = self.folder / "runs" / f".probe-{os.getpid()}"
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
        return self._read(self.record_path(run))

    def everything(self) -> Iterator[Record]:
        """Every record of the folder, whatever table it belongs to, in order of their ids."""
        for each in self._ids():
            if record := self._read(self.folder / "runs" / f"{each}.json"):
                yield record

    def _ids(self) -> list[str]:
        folder = self.folder / "runs"
        names = (path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.json"))
        return sorted(name.removesuffix(".json") for name in names if not name.endswith(".failed.json"))

    def _read(self, path: Path) -> Record | None:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            problems = faults(record) if isinstance(record, dict) else ["it is not a JSON object"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems = [f"{type(error).__name__}: {error}"]
        if not problems:
            return record
        aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            os.replace(path, aside)
        except FileNotFoundError:  # another process has just done so
            return None
        print(f"Record {path} is damaged ({problems[0]}); kept as {aside.name}, the run counts as missing.")
        return None

    def save(self, run: Run, record: Record) -> None:
        """Store a finished run. Raises ValueError for a record that contradicts itself."""
        if problems := faults(record):
            raise ValueError(f"The record of {run} is invalid: {'; '.join(problems)}.")
        write_atomically(self.record_path(run), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        self.failure_path(run).unlink(missing_ok=True)
        self.checkpoint_path(run).unlink(missing_ok=True)

    def save_predictions(self, run: Run, record: Record, predicted: np.ndarray, score: np.ndarray) -> None:
        """Store what ``Training.predictions`` gives beside the record that it belongs to.

        Kept out of the record, which is text to be read and compared.
        """
        largest = int(predicted.max(initial=0))
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            predicted=predicted.astype(np.min_scalar_type(largest)),
            score=score.astype(np.float32),
            finished=record["provenance"]["finished"],
        )
        write_atomically(self.predictions_path(run), buffer.getvalue())

    def predictions(self, run: Run, record: Record) -> tuple[np.ndarray, np.ndarray] | None:
        """Predicted class, int64 [n], and probability of the label, float64 [n], of every training sample.

        None where none are stored, or those of another training than the record's.
        """
        try:
            with np.load(self.predictions_path(run)) as stored:
                if str(stored["finished"]) != record["provenance"].get("finished"):
                    return None
                return stored["predicted"].astype(np.int64), stored["score"].astype(np.float64)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def find(self, beginning: str = "") -> list[Record]:
        """The records whose run is called, or begins, so, in order of their ids. Raises UserError where none is."""
        folder = self.folder / "runs"
        ids = self._ids()
        if not ids:
            raise UserError(f"{folder} holds no record: train with python -m benchmark.run, or name another --results.")
        chosen = [beginning] if beginning in ids else [each for each in ids if each.startswith(beginning)]
        found = [record for each in chosen if (record := self._read(folder / f"{each}.json"))]
        if not found:
            raise unknown("run", beginning, {each.rpartition("/")[0] for each in ids})
        return found

    def save_failure(self, run: Run, reason: str, trace: str, **where: str | None) -> None:
        """Note why a run failed, and ``where``: its job and log file, if it has them."""
        note = {"task": run.task, "method": run.method, "seed": run.seed, "reason": reason, "trace": trace, **where}
        write_atomically(self.failure_path(run), json.dumps(note, indent=1, ensure_ascii=False) + "\n")

    def failure(self, run: Run) -> str | None:
        """Why the run's last attempt failed, or None."""
        return self.failure_note(run).get("reason")

    def failure_note(self, run: Run) -> dict[str, Any]:
        """All that is known of the run's last failure; empty when there was none."""
        try:
            return json.loads(self.failure_path(run).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

    def seeds(self, run: Run) -> list[Record]:
        """The records of all seeds of the run's settings, in order of their seeds."""
        return [record for each in self._siblings(run, ".json") if (record := self.load(each))]

    def failures(self, run: Run) -> list[tuple[Run, str]]:
        """The failed runs among all seeds of the run's settings, each with its reason."""
        return [(each, reason) for each in self._siblings(run, ".failed.json") if (reason := self.failure(each))]

    def _siblings(self, run: Run, suffix: str) -> Iterator[Run]:
        """Runs of the same settings that have a file of that suffix, in order of their seeds."""
        start = f"{run.digest}-s"
        names = (path.name for path in self.record_path(run).parent.glob(f"{start}*{suffix}"))
        numbers = (name[len(start) : -len(suffix)] for name in names)
        for seed in sorted(int(number) for number in numbers if number.isdigit()):
            yield Run(run.settings, seed)
