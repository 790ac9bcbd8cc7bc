"""Executes one run: builds its dataset, trains, and makes the record."""

from __future__ import annotations

import gc
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

import datasets
from benchmark import claims, recipes
from benchmark.claims import Claim, Holder
from benchmark.errors import UserError
from benchmark.networks import imagenet_weights
from benchmark.plan import Run
from benchmark.records import SCHEMA, Record, Store, patiently
from benchmark.training import Entry, Training, train
from datasets import BiasedDataset

REPOSITORY = Path(__file__).resolve().parent.parent
Outcome = Literal["done", "failed", "elsewhere"]


def pick_device(name: str) -> torch.device:
    """The device of that name, "auto" meaning a GPU where there is one. Raises UserError where it is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"Device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error


class Worker:
    """Executes runs one after the other on one device, keeping the dataset between runs that share it.

    In a job, ``log`` is the file its output goes to, and ``submitted`` the commit at which it was submitted. Of a
    small network up to ``seeds_at_once`` seeds are trained as one: by default 16 on a GPU, which one network leaves
    nearly idle, and one on a CPU, which it does not.
    """

    def __init__(
        self,
        store: Store,
        data_root: Path,
        device: torch.device,
        checkpoint_seconds: float = 30,
        log: Path | None = None,
        submitted: Mapping[str, object] | None = None,
        seeds_at_once: int | None = None,
    ) -> None:
        self.store = store
        self.data_root = data_root
        self.device = device
        self.checkpoint_seconds = checkpoint_seconds
        self.log = log
        self.submitted = submitted
        self.seeds_at_once = seeds_at_once or (16 if device.type == "cuda" else 1)
        self._claims: list[Claim] = []
        self._trainings: list[Training] = []
        self.threads = torch.get_num_threads()
        self._load = lru_cache(maxsize=1)(self._load_dataset)
        torch.backends.cudnn.benchmark = True  # all batches of a run have one shape
        # With weight decay the weights of units that died, and Adam's means of their gradients, shrink to numbers so
        # small that a CPU computes with them several times more slowly. Before anything is computed: threads take this
        # over when they start.
        torch.set_flush_denormal(True)

    def _load_dataset(self, builder: str, data: str, balance: float | None) -> tuple[BiasedDataset, str]:
        dataset = datasets.load(builder, self.data_root, balance, **json.loads(data))
        return dataset, dataset.fingerprint()

    def dataset(self, run: Run) -> tuple[BiasedDataset, str]:
        """The run's dataset and its fingerprint. Raises UserError when its files are missing or damaged."""
        return self._load(run.settings["dataset"], json.dumps(run.settings["data"]), run.settings.get("balance"))

    def check(self, run: Run) -> None:
        """Raises UserError for what would make the run fail and can be known beforehand."""
        dataset, _ = self.dataset(run)
        unknown = int((dataset.train.bias < 0).sum())
        if unknown and recipes.uses_bias_labels(run.method):
            raise UserError(
                f"{recipes.method_title(run.method)} needs the bias of every training image, which {unknown:,} of "
                f"{dataset.name} lack: add them, or choose other methods with --methods."
            )
        if run.settings.get("pretrained"):
            imagenet_weights(run.settings["network"])

    def prepare(self, runs: Sequence[Run]) -> None:
        """Check all runs before the first one starts, so that nothing is found missing after an hour.

        Raises UserError. Sorted, since the worker keeps one dataset at a time.
        """
        for run in sorted(runs, key=lambda run: (run.settings["dataset"], str(run.settings["data"]))):
            self.check(run)

    def work(self, runs: Sequence[Run]) -> list[Outcome]:
        """Execute the runs, first those that nobody else has claimed; returns what became of each.

        Claims of others are then watched until they change or go stale, so that nothing stays behind a dead owner.
        """
        outcomes: dict[str, Outcome] = {}
        watched: list[tuple[Run, Holder | None, float]] = []
        for runs_together in self.together(runs):
            place = f"{len(outcomes) + 1}/{len(runs)}"
            print(f"[{place}] {title(runs_together)}", flush=True)
            outcomes |= self.execute(runs_together)
            for run in runs_together:
                if outcomes[run.id] == "elsewhere":
                    watched.append((run, claims.newest(self.store.record_path(run)), time.monotonic()))
        for run, holder, since in watched:
            while holder and holder == claims.newest(self.store.record_path(run)):
                if time.monotonic() - since > claims.STALE:
                    break
                time.sleep(1)
            # Should the claim have changed after all, it is not the abandoned one and is respected.
            outcomes |= self.execute([run], holder)
            if outcomes[run.id] == "elsewhere":
                print(f"{run} is being trained by another worker.", flush=True)
        return [outcomes[run.id] for run in runs]

    def together(self, runs: Sequence[Run]) -> list[list[Run]]:
        """The runs, those together that are seeds of one and may be trained as one batched network."""
        groups: dict[str, list[Run]] = {}
        for run in runs:
            alone = self.seeds_at_once == 1 or run.settings["network"] != "mlp"
            groups.setdefault(run.id if alone else run.digest, []).append(run)
        size = self.seeds_at_once
        return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]

    def execute(self, runs: Sequence[Run], abandoned: Holder | None = None) -> dict[str, Outcome]:
        """Train seeds of one run and store their records, or store why one failed; returns outcomes by run id.

        A seed that another worker has claimed is left to that worker. ``abandoned`` is a claim that may be
        disregarded, since it was watched long enough. Should anything go wrong with several seeds, each goes on
        alone from its checkpoint.
        """
        outcomes: dict[str, Outcome] = {}
        mine: list[tuple[Run, Claim]] = []
        self._claims = []
        for run in runs:
            claim = patiently(partial(claims.acquire, self.store.record_path(run), self.log, abandoned))
            if claim is None:
                outcomes[run.id] = "elsewhere"
            else:
                mine.append((run, claim))
                self._claims.append(claim)
        try:
            for run, _ in mine:
                if self.store.has(run):  # another worker has just finished it
                    outcomes[run.id] = "done"
            rest = [(run, claim) for run, claim in mine if run.id not in outcomes]
            for (run, claim), (record, predictions) in zip(rest, self._train(rest) if rest else (), strict=True):
                claim.check()
                # First, so that a record that is there has its predictions.
                patiently(partial(self.store.save_predictions, run, record, *predictions))
                patiently(partial(self.store.save, run, record))
                outcomes[run.id] = "done"
            return outcomes
        except Exception as error:
            # Whatever goes wrong in one run must not take the others with it.
            if len(mine) == 1:
                return outcomes | {mine[0][0].id: self._explain(mine[0][0], error)}
            print(f"{title(runs)} go on one by one: {type(error).__name__}: {error}".strip(), flush=True)
        finally:
            self._trainings = []
            gc.collect()  # a training hangs in cycles of references, and its tensors with it
            for claim in self._claims:
                claim.release()
        for run, _ in mine:
            outcomes |= self.execute([run])
        return outcomes

    def _explain(self, run: Run, error: Exception) -> Outcome:
        """Say and store why a run ended without a record."""
        if isinstance(error, claims.Lost):
            print(f"{run} stopped: {error}", flush=True)
            return "elsewhere"
        reason = f"{type(error).__name__}: {error}".strip()
        print(f"{run} failed: {reason}", flush=True)
        where = {"job": claims.slurm_job(), "log": str(self.log)} if self.log else {}
        patiently(lambda: self.store.save_failure(run, reason, traceback.format_exc(), **where))
        return "failed"

    def suspend(self) -> None:
        """Checkpoint the runs in progress and let others have them; made to be called from a signal handler."""
        for training in self._trainings:
            training.save_checkpoint()
        for claim in self._claims:
            claim.release()

    def _train(self, mine: Sequence[tuple[Run, Claim]]) -> list[tuple[Record, tuple[np.ndarray, np.ndarray]]]:
        """Train seeds of one run; returns the record and the predictions of each."""
        first = mine[0][0]
        dataset, fingerprint = self.dataset(first)
        # One thread for the small network: more hardly help it, crawl where another program wants the cores, and
        # would make its sums, hence its numbers, depend on the machine.
        torch.set_num_threads(1 if first.settings["network"] == "mlp" else self.threads)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._trainings = []
        for run, _ in mine:
            path, other = self.store.checkpoint_path(run), self._trainings[0] if self._trainings else None
            self._trainings.append(
                Training(
                    dataset, run.settings, run.seed, self.device, path, self.checkpoint_seconds, same_data_as=other
                )
            )
        epochs = sum(training.total_epochs for training in self._trainings)
        name = title([run for run, _ in mine])
        with tqdm(total=epochs, desc=name, unit="epoch", disable=not sys.stderr.isatty()) as bar:
            for (run, claim), training in zip(mine, self._trainings, strict=True):
                claim.total = training.total_epochs
                training.report = self._reporter(run, training, claim, bar)
            train(self._trainings)
        finished = []
        for (run, _), training in zip(mine, self._trainings, strict=True):
            record = make_record(run, dataset, training, fingerprint, len(mine))
            if self.submitted is not None:
                record["provenance"]["submitted"] = self.submitted
            finished.append((record, training.predictions()))
        return finished

    def _reporter(self, run: Run, training: Training, claim: Claim, bar: tqdm) -> Callable[[Entry], None]:
        def report(entry: Entry) -> None:
            claim.check()
            claim.done = done = len(training.history)
            shown = entry.get("target") or entry.get("biased") or {}
            shown = {key: shown[key] for key in ("avg_acc", "model_bias", "bias_acc") if shown.get(key) is not None}
            text = " ".join(f"{key} {value:.1f}" for key, value in shown.items())
            bar.update(sum(len(each.history) for each in self._trainings) - bar.n)
            bar.set_postfix_str(f"{entry['phase']} {text}")
            if bar.disable:
                print(
                    f"{run} {done}/{training.total_epochs} {entry['phase']} loss {entry['loss']:.4f} {text}",
                    flush=True,
                )

        return report


def title(runs: Sequence[Run]) -> str:
    """A run's name, or that of several seeds of one."""
    if len(runs) == 1:
        return str(runs[0])
    return f"{runs[0].task}/{runs[0].method} seeds {', '.join(str(run.seed) for run in runs)}"


def make_record(
    run: Run, dataset: BiasedDataset, training: Training, fingerprint: str, seeds_at_once: int = 1
) -> Record:
    """Everything that is known of a finished run, as plain JSON.

    Of the time that ``seeds_at_once`` took together, each gets its share.
    """
    validation = {"validation": training.best} if training.best else {}
    train_total = dataset.group_sizes(dataset.train)
    return {
        "schema": SCHEMA,
        "task": run.task,
        "method": run.method,
        "seed": run.seed,
        "preset": run.preset,
        "settings": run.settings,
        "groups": {
            "classes": list(dataset.class_names),
            "biases": list(dataset.bias_names),
            "aligned_bias": np.asarray(dataset.aligned_bias).tolist(),
            "train": train_total.tolist(),
            "test": dataset.group_sizes(dataset.test).tolist(),
            **({} if dataset.scored is None else {"scored": dataset.scored.tolist()}),
        },
        "test": {"last": training.last, **validation},
        "train": training.train_counts,
        "curves": training.history,
        "summary": training.method.summary(),
        "warnings": training.warnings,
        "provenance": {
            **commit(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "benchmark": version("debiasing-benchmark"),
            "device": device_name(training.device),
            "threads": torch.get_num_threads(),
            "seconds": round(training.seconds / seeds_at_once, 2),
            **({"seeds_at_once": seeds_at_once} if seeds_at_once > 1 else {}),
            "images_per_second": round(training.samples_trained / max(training.seconds_training, 1e-9)),
            **peak_memory(training.device),
            "data": fingerprint,
            **({"data_notes": list(dataset.notes)} if dataset.notes else {}),
        },
    }


def peak_memory(device: torch.device) -> dict[str, int]:
    """The most bytes that tensors took on a GPU since the run's start; nothing on a CPU, which does not tell."""
    return {"peak_device_memory": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()})"


@lru_cache(maxsize=1)
def commit() -> dict[str, object]:
    """The checkout's commit and whether its code differs from it; both None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--", "benchmark", "methods", "datasets")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None}
