"""Executes one run: builds its dataset, trains, and makes the record."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
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
from benchmark.training import Entry, Training
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

    In a job, ``log`` is the file its output goes to, and ``submitted`` the commit at which it was submitted.
    """

    def __init__(
        self,
        store: Store,
        data_root: Path,
        device: torch.device,
        checkpoint_seconds: float = 30,
        log: Path | None = None,
        submitted: Mapping[str, object] | None = None,
    ) -> None:
        self.store = store
        self.data_root = data_root
        self.device = device
        self.checkpoint_seconds = checkpoint_seconds
        self.log = log
        self.submitted = submitted
        self._claim: Claim | None = None
        self._training: Training | None = None
        self.threads = torch.get_num_threads()
        self._load = lru_cache(maxsize=1)(self._load_dataset)
        torch.backends.cudnn.benchmark = True  # all batches of a run have one shape

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
        outcomes: list[Outcome] = []
        watched: dict[int, tuple[Holder | None, float]] = {}
        for index, run in enumerate(runs):
            print(f"[{index + 1}/{len(runs)}] {run}", flush=True)
            outcomes.append(self.execute(run))
            if outcomes[-1] == "elsewhere":
                watched[index] = claims.newest(self.store.record_path(run)), time.monotonic()
        for index, (holder, since) in watched.items():
            run = runs[index]
            while holder and holder == claims.newest(self.store.record_path(run)):
                if time.monotonic() - since > claims.STALE:
                    break
                time.sleep(1)
            # Should the claim have changed after all, it is not the abandoned one and is respected.
            outcomes[index] = self.execute(run, holder)
            if outcomes[index] == "elsewhere":
                print(f"{run} is being trained by another worker.", flush=True)
        return outcomes

    def execute(self, run: Run, abandoned: Holder | None = None) -> Outcome:
        """Train the run and store its record, or store why it failed, unless another worker has claimed it.

        ``abandoned`` is a claim that may be disregarded, since it was watched long enough.
        """
        path = self.store.record_path(run)
        self._claim = patiently(lambda: claims.acquire(path, self.log, abandoned))
        if self._claim is None:
            return "elsewhere"
        try:
            if self.store.has(run):  # another worker has just finished it
                return "done"
            record, predictions = self._train(run, self._claim)
            self._claim.check()
            # First, so that a record that is there has its predictions.
            patiently(lambda: self.store.save_predictions(run, record, *predictions))
            patiently(lambda: self.store.save(run, record))
            return "done"
        except claims.Lost as error:
            print(f"{run} stopped: {error}", flush=True)
            return "elsewhere"
        except Exception as error:
            # Whatever goes wrong in one run must not take the others with it.
            reason, trace = f"{type(error).__name__}: {error}".strip(), traceback.format_exc()
            print(f"{run} failed: {reason}", flush=True)
            where = {"job": claims.slurm_job(), "log": str(self.log)} if self.log else {}
            patiently(lambda: self.store.save_failure(run, reason, trace, **where))
            return "failed"
        finally:
            self._training = None
            self._claim.release()

    def suspend(self) -> None:
        """Checkpoint the run in progress and let others have it; made to be called from a signal handler."""
        if self._training:
            self._training.save_checkpoint()
        if self._claim:
            self._claim.release()

    def _train(self, run: Run, claim: Claim) -> tuple[Record, tuple[np.ndarray, np.ndarray]]:
        dataset, fingerprint = self.dataset(run)
        # One thread for the small network: more hardly help it, crawl where another program wants the cores, and
        # would make its sums, hence its numbers, depend on the machine.
        torch.set_num_threads(1 if run.settings["network"] == "mlp" else self.threads)
        checkpoint = self.store.checkpoint_path(run)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        training = Training(dataset, run.settings, run.seed, self.device, checkpoint, self.checkpoint_seconds)
        self._training = training
        claim.total = training.total_epochs
        with tqdm(total=training.total_epochs, desc=str(run), unit="epoch", disable=not sys.stderr.isatty()) as bar:
            training.report = self._reporter(run, training, claim, bar)
            training.run()
        record = make_record(run, dataset, training, fingerprint)
        if self.submitted is not None:
            record["provenance"]["submitted"] = self.submitted
        return record, training.predictions()

    def _reporter(self, run: Run, training: Training, claim: Claim, bar: tqdm) -> Callable[[Entry], None]:
        def report(entry: Entry) -> None:
            claim.check()
            claim.done = done = len(training.history)
            shown = entry.get("target") or entry.get("biased") or {}
            shown = {key: shown[key] for key in ("avg_acc", "model_bias", "bias_acc") if shown.get(key) is not None}
            text = " ".join(f"{key} {value:.1f}" for key, value in shown.items())
            bar.update(done - bar.n)
            bar.set_postfix_str(f"{entry['phase']} {text}")
            if bar.disable:
                print(
                    f"{run} {done}/{training.total_epochs} {entry['phase']} loss {entry['loss']:.4f} {text}",
                    flush=True,
                )

        return report


def make_record(run: Run, dataset: BiasedDataset, training: Training, fingerprint: str) -> Record:
    """Everything that is known of a finished run, as plain JSON."""
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
            "seconds": round(training.seconds, 2),
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
