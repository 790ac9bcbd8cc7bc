"""Kill runs with SIGKILL at random moments, resume them, and compare their records with uninterrupted ones.

``python tests/tools/kill_and_resume.py`` tries every method with ten kills; the test suite does a few of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.plan.table import Override
from benchmark.rules import LAST, RULES
from benchmark.store.store import Store
from benchmark.workers.worker import Worker
from methods import METHODS

KEPT = (LAST, RULES["validation_worst"])


def execute(run: Run, folder: Path) -> None:
    worker = Worker(Store(folder), Path("unused"), torch.device("cpu"), checkpoint_seconds=0, keep=KEPT)
    with (folder / "log.txt").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        worker.execute([run])


def numbers(folder: Path, run: Run) -> dict[str, Any]:
    """The record without its provenance, which alone may tell an interrupted run from an uninterrupted one."""
    record = json.loads(Store(folder).record_path(run).read_text())
    return {key: value for key, value in record.items() if key != "provenance"}


def predictions(folder: Path, run: Run) -> tuple[np.ndarray, np.ndarray]:
    store = Store(folder)
    record = store.load(run)
    assert record
    found = store.predictions(record)
    assert found, f"{run} has no predictions beside its record"
    return found


def models(folder: Path, run: Run) -> dict[str, tuple[dict[str, np.ndarray], bytes]]:
    """The kept models, by rule: their weights, and the file of their predictions."""
    paths = Store(folder).models_of(run)
    assert set(paths) == {rule.name for rule in KEPT}, f"{run} lacks a kept model"
    return {rule: (load_file(path), path.with_suffix(".npz").read_bytes()) for rule, path in paths.items()}


def start(run: Run, folder: Path) -> Any:
    # Forked, so that a kill costs no new import of PyTorch; the child's death is as sudden all the same.
    process = multiprocessing.get_context("fork").Process(target=execute, args=(run, folder))
    process.start()
    return process


def position(folder: Path, run: Run) -> str:
    """Where the last checkpoint stands, as phase:epoch."""
    checkpoint = Store(folder).checkpoint_path(run)
    if not checkpoint.exists():
        return "start"
    progress = torch.load(checkpoint, weights_only=True)["progress"]
    return f"{progress['phase_index']}:{progress['epoch']}"


def torture(method: str, kills: int, folder: Path, seed: int = 0, epochs: int = 20) -> list[str]:
    """Kill a run so many times and let it finish; returns where it stood at each kill.

    Raises AssertionError when the record differs from that of an uninterrupted run in any number.
    """
    rng = random.Random(f"{method}-{seed}")
    overrides = [Override("", "epochs", epochs)]
    if method == "be":
        overrides.append(Override("be", "auxiliary_updates", 50))
    run = Run(load().resolve("colored_digits", method, overrides), seed)
    whole, broken = folder / "whole", folder / "broken"
    for each in (whole, broken):
        each.mkdir(parents=True)
    # In this process and once before the clock runs: the first optimiser imports half of PyTorch.
    execute(replace(run, seed=seed + 1), whole)
    started = time.monotonic()
    execute(run, whole)
    duration = time.monotonic() - started
    killed_at = []
    while len(killed_at) < kills:
        process = start(run, broken)
        process.join(rng.uniform(0.1, 1) * duration / 2)
        if process.is_alive():
            process.kill()
            process.join()
            killed_at.append(position(broken, run))
        elif Store(broken).load(run):
            # Finished before the next kill: begin again, so that every method gets its full number.
            Store(broken).record_path(run).unlink()
    start(run, broken).join()
    assert numbers(broken, run) == numbers(whole, run), f"{method}: the resumed run has other numbers"
    for one, other in zip(predictions(broken, run), predictions(whole, run), strict=True):
        assert np.array_equal(one, other), f"{method}: the resumed run has other predictions"
    resumed = models(broken, run)
    for rule, (weights, answers) in models(whole, run).items():
        assert answers == resumed[rule][1], f"{method}: the model of {rule} predicts otherwise"
        same = {name: np.array_equal(each, resumed[rule][0][name]) for name, each in weights.items()}
        assert all(same.values()), f"{method}: the model of {rule} has other weights"
    return killed_at


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=sorted(METHODS))
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for method in options.methods:
        with tempfile.TemporaryDirectory() as folder:
            killed_at = torture(method, options.kills, Path(folder))
        print(f"{method}: identical after kills at {' '.join(killed_at)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
