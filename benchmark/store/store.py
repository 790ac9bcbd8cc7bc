"""The folder of records: one file per finished run, written atomically and once.

A record exists, valid, or not at all. Its predictions are written before it, under a name that holds their digest,
which the record holds, too: a record that is there has its predictions, and predictions without theirs count for
nothing. So are its kept models, in a folder of their own, under names that hold the record's digest.

A record is replaced only by that of a training that was asked for anew, which a note beside it says until then.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmark.errors import UserError, say, unknown
from benchmark.plan.run import Run
from benchmark.rules import Rule
from benchmark.store import encoding
from benchmark.store.atomic import create_atomically, is_abandoned, keep_as, remove, sha256, write_atomically
from benchmark.store.record import SCHEMA, Record

Predictions = tuple[np.ndarray, np.ndarray]
"""Predicted class, int64 [n], and probability of the label, float64 [n], of every training sample."""
Models = Callable[[str], Mapping[str, bytes]]
"""What is kept of a run's models, given the SHA-256 of its record's file: contents by how the files' names end."""
ROOM = 1 << 20  # bytes that a folder must have room for: those of a record and its predictions, about
# The name of a record, as seen from the results folder; a note of a failure has one more dot.
RECORD = re.compile(r"runs/([^/]+/[^/]+/[^/.]+)\.json")
RUN_FILE = re.compile(r"([^/]+/[^/]+/[0-9a-f]{12}-s[0-9]+)\.(json|ckpt|failed\.json|[0-9]+\.lease)$")
# Ends of files that serve to get a record and nobody needs beside one.
SUPERSEDED = (".ckpt", ".ckpt.corrupt", ".failed.json", ".lease", ".again")
WEIGHTS, ANSWERS = ".safetensors", ".npz"  # of a kept model, and of the predictions of a record or a model


@dataclass(frozen=True)
class Store:
    """Records, failure notes, checkpoints and predictions of all runs, under ``folder``/runs; kept models beside it."""

    folder: Path

    def record_path(self, run: Run | str) -> Path:
        """Where a run, or the one of an id, has its record."""
        return self._runs / f"{run if isinstance(run, str) else run.id}.json"

    def checkpoint_path(self, run: Run | str) -> Path:
        return self.record_path(run).with_suffix(".ckpt")

    def predictions_path(self, record: Record) -> Path:
        """Where the record's predictions are, if it has any."""
        return self.record_path(record.run).with_suffix(f".{(record.provenance.predictions or '')[:12]}.npz")

    def belonging(self, record: Record) -> dict[Path, str]:
        """The files that a record names, whether they are there or not: the SHA-256 that it holds of each."""
        predictions = record.provenance.predictions
        return {self.predictions_path(record): predictions} if predictions else {}

    def models_of(self, run: Run) -> dict[str, Path]:
        """Where the models that were kept with the run's record are, by the rules that chose their epochs."""
        files = [path for path in self._model_files(run.id) if path.suffix == WEIGHTS]
        beginning = self._model_path(run.id, self.digest(run), "").name if files else ""
        return {path.name[len(beginning) : -len(WEIGHTS)]: path for path in files if path.name.startswith(beginning)}

    def lacks_models(self, record: Record, rules: Iterable[Rule]) -> bool:
        """Whether a model of one of the rules could have been kept with the record, and is not there."""
        wanted = {rule.name for rule in rules if not record.why_not(rule)}
        return bool(wanted) and not wanted <= self.models_of(record.run).keys()

    def digest(self, run: Run) -> str:
        """The SHA-256 of the file of the run's record; empty where there is none."""
        return sha256(self.record_path(run)) or ""

    def files(self, record: Record) -> list[Path]:
        """All that is stored of a finished run: its record, its predictions, and its kept models with theirs."""
        models = [each for path in self.models_of(record.run).values() for each in (path, path.with_suffix(ANSWERS))]
        paths = (self.record_path(record.run), *self.belonging(record), *models)
        return [path for path in paths if path.is_file()]

    def models_beginning(self, record: Record) -> str:
        """How the names of the models begin that were kept with a record, as seen from the folder."""
        digest = hashlib.sha256(encoding.encode(record).encode()).hexdigest()
        return self._model_path(record.run.id, digest, "").relative_to(self.folder).as_posix()

    def _model_path(self, run_id: str, digest: str, end: str) -> Path:
        return self._models / f"{run_id}.{digest[:12]}.{end}"

    def _model_files(self, run_id: str) -> list[Path]:
        """Those of any record of the run, but for what was set aside and what is half written."""
        folder, _, stem = f"{self._models}/{run_id}".rpartition("/")
        names = _by_stem(Path(folder)).get(stem, [])
        return [Path(folder, name) for name in sorted(names) if name.endswith((WEIGHTS, ANSWERS))]

    def _predictions_files(self, path: Path) -> list[Path]:
        """Those beside the record at ``path``, whichever it names."""
        names = _by_stem(path.parent).get(path.stem, [])
        return [path.with_name(name) for name in sorted(names) if name.endswith(ANSWERS)]

    def failure_path(self, run: Run | str) -> Path:
        return self.record_path(run).with_suffix(".failed.json")

    def check_writable(self) -> None:
        """Raises UserError unless files can be made and replaced in the folder, and there is room for some."""
        probe = self._runs / ".probe"
        try:
            write_atomically(probe, bytes(ROOM))
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"The results folder {self.folder} cannot be written ({error.strerror}): choose another with --results."
            ) from error

    def clean(self) -> None:
        """Remove what killed launchers have left: temporary files, and what served to get a record that is there.

        Nothing that a living launcher still needs: of a run that has its record, and is not renewed, it needs nothing.
        """
        for folder in (*self._runs.glob("*/*"), *self._models.glob("*/*")):
            for stem, names in _by_stem(folder).items():
                if stem:
                    self._clean(folder / f"{stem}.json", names)
                    continue
                for name in names:
                    if name.endswith(".tmp") and is_abandoned(folder / name):
                        remove(folder / name)

    def clean_up(self, run: Run) -> None:
        """Remove what served to get the run's record, if it has one: also what came after it, from a late launcher."""
        path = self.record_path(run)
        self._clean(path, _by_stem(path.parent).get(path.stem, []))

    def _clean(self, path: Path, names: list[str]) -> None:
        """Remove what of the files of those names serves no more where there is a record at ``path``."""
        superseded = [name for name in names if name.endswith(SUPERSEDED)]
        predictions = [name for name in names if name.endswith(".npz")]
        if not (superseded or len(predictions) > 1) or not _is_complete(path) or self.is_renewed(self._id(path)):
            return
        if len(predictions) > 1 and (record := self.read(self._id(path))):
            superseded += [name for name in predictions if name != self.predictions_path(record).name]
        for name in superseded:
            remove(path.with_name(name))

    def has(self, run: Run) -> bool:
        """Whether the run has a record that is to stay, told by its end: 10,000 are looked at within a second.

        One that breaks off is set aside by ``load``, which alone looks at every number.
        """
        path = self.record_path(run)
        return path.exists() and (_is_complete(path) or self.load(run) is not None) and not self.is_renewed(run)

    def lacks(self, run: Run) -> bool:
        """Whether the run is to be trained: it has no record, a damaged one, or one that is to be replaced."""
        self.load(run)  # by which a damaged one is set aside
        return not self.has(run)

    def renew(self, run: Run) -> None:
        """Have the run trained anew. Its record stands until ``save`` stores the next one, which takes its place."""
        if not self.is_renewed(run):
            self.clean_up(run)  # nothing of an earlier training is to be continued
            write_atomically(self._renewal_path(run), f"{self.digest(run)}\n")

    def is_renewed(self, run: Run | str) -> bool:
        """Whether the run is trained anew, and the record that it has is still the old one."""
        try:
            noted = self._renewal_path(run).read_text(errors="replace")
        except OSError:
            return False
        return noted.strip() == sha256(self.record_path(run))

    def keep_record(self, run: Run) -> None:
        """Undo ``renew``, as where nothing came of it."""
        self._renewal_path(run).unlink(missing_ok=True)

    def _renewal_path(self, run: Run | str) -> Path:
        return self.record_path(run).with_suffix(".again")

    def load(self, run: Run) -> Record | None:
        """The run's record, or None. A damaged one is set aside under another name, so that the run is done again."""
        return self.read(run.id)

    def everything(self, task: str = "") -> Iterator[Record]:
        """Every record of the folder, or of a task, whatever table it belongs to, in order of their ids."""
        return (record for record, _ in self.contents(task))

    def contents(self, task: str = "") -> Iterator[tuple[Record, str]]:
        """Every record of the folder, or of a task, in order of their ids, with the SHA-256 of its file."""
        ids = (each for each in self._ids() if not task or each.startswith(f"{task}/"))
        return (found for each in ids if (found := self._read(each)))

    def digests(self) -> dict[str, str | None]:
        """The SHA-256 of the file of every record by its id, without a look at what it says; None: cannot be read."""
        return {each: sha256(self._runs / f"{each}.json") for each in self._ids()}

    def ids(self, part: str) -> list[str]:
        """The stored runs that are called so, or begin so, or at least have it in their names, in order.

        Raises UserError where none is.
        """
        ids = self._ids()
        if not ids:
            raise UserError(
                f"{self._runs} holds no record: train with python -m benchmark.run, or name another --results."
            )
        return _called(part, ids)

    def begun(self, part: str) -> list[str]:
        """As ``ids``, of all runs that anything is known of: a record, a checkpoint, a lease or why one failed."""
        names = (RUN_FILE.match(path.relative_to(self._runs).as_posix()) for path in self._runs.glob("*/*/*"))
        ids = sorted({match[1] for match in names if match})
        if not ids:
            raise UserError(f"{self._runs} knows of no run that was begun: name another --results.")
        return _called(part, ids)

    def read(self, run_id: str) -> Record | None:
        """The record of a run of that id, or None, as ``load``. One that cannot even be read stays where it is."""
        found = self._read(run_id)
        return found[0] if found else None

    def _read(self, run_id: str) -> tuple[Record, str] | None:
        path = self._runs / f"{run_id}.json"
        try:
            content = path.read_bytes()
            record = encoding.decode(content)
            if record.run.id == run_id:
                return record, hashlib.sha256(content).hexdigest()
            problem = f"it is of {record.run.id}"
        except FileNotFoundError:
            return None
        except OSError as error:
            say(f"Record {path} cannot be read ({error.strerror}); the run counts as missing.")
            return None
        except (ValueError, RecursionError) as error:
            problem = str(error)
            if (schema := encoding.schema(content)) > SCHEMA:
                say(f"Record {path} is left alone: it is of a newer version of the benchmark (schema {schema}).")
                return None
        try:
            kept = f"kept as {self.set_aside(run_id, end_aside('corrupt')).name}"
        except FileNotFoundError:  # another process has just done so
            return None
        except OSError as error:
            kept = f"it cannot be set aside, either: {error.strerror}"
        say(f"Record {path} is damaged ({problem[:200]}); {kept}, the run counts as missing.")
        return None

    @property
    def _runs(self) -> Path:
        return self.folder / "runs"

    @property
    def _models(self) -> Path:
        return self.folder / "models"

    def _id(self, path: Path) -> str:
        """The id of the run whose record, or note of a failure, is at ``path``."""
        return path.relative_to(self._runs).as_posix().removesuffix(".json")

    def _ids(self) -> list[str]:
        paths = self._runs.glob("*/*/*.json")
        return sorted(each for path in paths if (each := run_id(path.relative_to(self.folder).as_posix())))

    def set_aside(self, run_id: str, end: str) -> Path:
        """Give the run's record, its predictions and its models other names, which end so, see ``end_aside``.

        The run is then done again, and nothing is lost. Returns where the record is.
        """
        path = self._runs / f"{run_id}.json"
        aside = path.with_name(path.name + end)
        os.replace(path, aside)
        for each in (*self._predictions_files(path), *self._model_files(run_id)):
            os.replace(each, each.with_name(each.name + end))
        return aside

    def save(self, record: Record, predictions: Predictions | None = None, models: Models | None = None) -> bool:
        """Store a finished run with what ``Training.predictions`` gives, which is kept out of the text of the record,
        and its kept models.

        Where the run is renewed, its record and all that belongs to it are kept under other names, see ``end_aside``.
        False, and nothing is changed, where it has another record already: it was finished elsewhere. Raises ValueError
        for a record that contradicts itself, UserError where something that is no record has its name.
        """
        files: dict[Path, bytes] = {}
        if predictions is not None:
            content = _packed(*predictions)
            provenance = msgspec.structs.replace(record.provenance, predictions=hashlib.sha256(content).hexdigest())
            record = msgspec.structs.replace(record, provenance=provenance)
            files[self.predictions_path(record)] = content
        if models:
            digest = hashlib.sha256(encoding.encode(record).encode()).hexdigest()
            files |= {self._model_path(record.run.id, digest, end): each for end, each in models(digest).items()}
        return self.add(record, files)

    def add(self, record: Record, files: Mapping[Path, bytes]) -> bool:
        """Store a record with files that belong to it, as ``save`` does; those come first."""
        text, path = encoding.encode(record), self.record_path(record.run)
        for place, content in files.items():
            write_atomically(place, content)
        try:
            create_atomically(path, text)
        except FileExistsError:
            stored = self.load(record.run)
            if stored is None:
                if path.exists():
                    raise UserError(f"{path} is in the way of a record and no record: remove it.") from None
                return self.add(record, files)  # a damaged one, which was set aside
            if not self.is_renewed(record.run):
                for place in files.keys() - {*self.files(stored)}:
                    remove(place)
                self._remove_models_but(record.run.id, self.digest(record.run))
                return encoding.encode(stored) == text  # stored by an attempt that failed only afterwards
            end = end_aside("replaced")
            for place in self.files(stored):
                keep_as(place, place.with_name(place.name + end))
            write_atomically(path, text)
            self.keep_record(record.run)
        self._remove_models_but(record.run.id, hashlib.sha256(text.encode()).hexdigest())
        self.clean_up(record.run)
        return True

    def _remove_models_but(self, run_id: str, digest: str) -> None:
        """Remove models of other records than the run's: of attempts that stored none, or came too late."""
        belonging = self._model_path(run_id, digest, "").name
        for path in self._model_files(run_id):
            if digest and not path.name.startswith(belonging):
                remove(path)

    def predictions(self, record: Record) -> Predictions | None:
        """The predictions that belong to the record; None where there are none, or they are not what was stored."""
        try:
            content = self.predictions_path(record).read_bytes()
            if hashlib.sha256(content).hexdigest() != record.provenance.predictions:
                return None
            with np.load(io.BytesIO(content)) as stored:
                return stored["predicted"].astype(np.int64), stored["score"].astype(np.float64)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def save_failure(self, run: Run, reason: str, trace: str, **where: str | None) -> None:
        """Note why a run failed, and ``where``: its job and log file, if it has them."""
        note = {"task": run.task, "method": run.method, "seed": run.seed, "reason": reason, "trace": trace, **where}
        write_atomically(self.failure_path(run), json.dumps(note, indent=1, ensure_ascii=False) + "\n")

    def failure(self, run: Run | str) -> dict[str, Any]:
        """The note of the run's last failure; empty when there was none, or it cannot be read."""
        return _note(self.failure_path(run))

    def failures(self) -> dict[str, str]:
        """Why runs failed, by run id."""
        notes = {path: _note(path) for path in sorted(self._runs.glob("*/*/*.failed.json"))}
        return {self._id(path).removesuffix(".failed"): note["reason"] for path, note in notes.items() if note}


def _called(part: str, ids: list[str]) -> list[str]:
    if part in ids:
        return [part]
    found = [each for each in ids if each.startswith(part)] or [each for each in ids if part in each]
    if not found:
        raise unknown("run", part, {each.rpartition("/")[0] for each in ids})
    return found


def end_aside(why: str) -> str:
    """How the names of files end that are set aside now."""
    return f".{why}-{time.strftime('%Y%m%d-%H%M%S')}"


def run_id(name: str) -> str | None:
    """The id of the run whose record is called so, as seen from the results folder; None where none would be."""
    match = RECORD.fullmatch(name)
    return match and match[1]


def _packed(predicted: np.ndarray, score: np.ndarray) -> bytes:
    """Predictions as they are stored; the same ones are the same bytes."""
    largest = int(predicted.max(initial=0))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, predicted=predicted.astype(np.min_scalar_type(largest)), score=score.astype(np.float32))
    return buffer.getvalue()


def _is_complete(path: Path) -> bool:
    """Whether a record was written to its end; one that cannot be read was not."""
    try:
        with path.open("rb") as file:
            file.seek(-min(2, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return file.read() == b"}\n"
    except OSError:
        return False


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """The names of a folder's files by what comes before the first dot; none where it cannot be read."""
    found: dict[str, list[str]] = defaultdict(list)
    try:
        for name in os.listdir(folder):
            found[name.split(".", 1)[0]].append(name)
    except OSError:
        pass
    return found


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_bytes())
        if isinstance(note, dict) and isinstance(note.get("reason"), str):
            return note
        problem = "it gives no reason"
    except FileNotFoundError:
        return {}
    except OSError as error:
        problem = str(error.strerror)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    say(f"Note {path} of a failure is damaged ({problem[:200]}) and left out.")
    return {}
