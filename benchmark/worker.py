"""Executes one run: builds its dataset, trains, and makes the record."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import datasets
from benchmark import recipes
from benchmark.errors import UserError
from benchmark.networks import imagenet_weights
from benchmark.plan import Run
from benchmark.records import SCHEMA, Record, Store
from benchmark.training import Entry, Training
from datasets import BiasedDataset

REPOSITORY = Path(__file__).resolve().parent.parent


def pick_device(name: str) -> torch.device:
    """The device of that name, "auto" meaning a GPU where there is one. Raises UserError where it is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"Device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error


class Worker:
    """Executes runs one after the other on one device, keeping the dataset between runs that share it."""

    def __init__(self, store: Store, data_root: Path, device: torch.device, checkpoint_seconds: float = 30) -> None:
        self.store = store
        self.data_root = data_root
        self.device = device
        self.checkpoint_seconds = checkpoint_seconds
        self.threads = torch.get_num_threads()
        self._load = lru_cache(maxsize=1)(self._load_dataset)
        torch.backends.cudnn.benchmark = True  # all batches of a run have one shape

    def _load_dataset(self, builder: str, data: str) -> tuple[BiasedDataset, str]:
        dataset = datasets.load(builder, self.data_root, **json.loads(data))
        return dataset, dataset.fingerprint()

    def dataset(self, run: Run) -> tuple[BiasedDataset, str]:
        """The run's dataset and its fingerprint. Raises UserError when its files are missing or damaged."""
        return self._load(run.settings["dataset"], json.dumps(run.settings["data"]))

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

    def execute(self, run: Run) -> bool:
        """Train the run and store its record, or store why it failed. True when there is a record."""
        try:
            self.store.save(run, self._train(run))
        except Exception as error:
            # Whatever goes wrong in one run must not take the others with it.
            reason = f"{type(error).__name__}: {error}".strip()
            self.store.save_failure(run, reason, traceback.format_exc())
            print(f"{run} failed: {reason}", flush=True)
            return False
        return True

    def _train(self, run: Run) -> Record:
        dataset, fingerprint = self.dataset(run)
        # One thread for the small network: more hardly help it, crawl where another program wants the cores, and
        # would make its sums, hence its numbers, depend on the machine.
        torch.set_num_threads(1 if run.settings["network"] == "mlp" else self.threads)
        checkpoint = self.store.checkpoint_path(run)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        training = Training(dataset, run.settings, run.seed, self.device, checkpoint, self.checkpoint_seconds)
        with tqdm(total=training.total_epochs, desc=str(run), unit="epoch", disable=not sys.stderr.isatty()) as bar:
            training.report = self._reporter(run, training, bar)
            training.run()
        return make_record(run, dataset, training, fingerprint)

    def _reporter(self, run: Run, training: Training, bar: tqdm) -> Callable[[Entry], None]:
        def report(entry: Entry) -> None:
            done = len(training.history)
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
            "data": fingerprint,
            **({"data_notes": list(dataset.notes)} if dataset.notes else {}),
        },
    }


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
