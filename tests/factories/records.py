"""Records of trainings that never were: valid, plainly invented, and of few arguments.

``make_record(make_run("cmnist_99", "lff", seed=1), 0.6)`` is a record of today's recipe; anything that these arguments
do not say is changed with ``msgspec.structs.replace``. ``make_results(folder, *records)`` stores them and reads the
folder as rendering does; ``save_seeds`` stores records of several seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.collect import collect
from benchmark.plan import code
from benchmark.plan.recipes import load
from benchmark.plan.run import PAPER, Run
from benchmark.plan.table import Override
from benchmark.store.record import (
    NETWORKS,
    SCHEMA,
    Answers,
    Counts,
    Curves,
    Groups,
    PhaseCurves,
    Provenance,
    Record,
    curve_of,
)
from benchmark.store.results import Results
from benchmark.store.store import Store

CLASSES = 10
TEST = 100  # images of every test group
TRAIN_ALIGNED, TRAIN_CONFLICTING = 9000, 100  # images of every training group


def make_run(
    task: str = "cmnist_99",
    method: str = "vanilla",
    *changes: str | Override,
    seed: int = 0,
    preset: str = PAPER,
) -> Run:
    """A run of the recipes; ``changes`` are as --set takes them, such as "poisoner.gamma=0.5"."""
    recipes = load()
    overrides = [recipes.parse_override(each) if isinstance(each, str) else each for each in changes]
    return Run(recipes.resolve(task, method, overrides, preset), seed)


def make_record(
    run: Run,
    share: float = 0.5,
    *,
    phases: Sequence[PhaseCurves] | None = None,
    correct: Counts | None = None,
    train: Counts | None = None,
) -> Record:
    """A record, of today's code, on ten classes and bias values, each class aligned with the bias of its number.

    ``share`` of the conflicting test images are right and all aligned ones, but for ten less of each class with the
    last bias; ``correct`` replaces these counts of 100 images a group. ``train`` are the sizes of the training groups.
    Of ``phases``, which ``phase`` makes, the last epoch of each network's curves gives its right answers in training.
    By default there are three epochs of the target network, for Poisoner after one of a biased one.
    """
    if phases is None:
        target = curves(bias_acc=[80.0, 70.0, 60.0], avg_acc=[100 * share] * 3, model_bias=[30.0] * 3)
        phases = [phase(target=target)]
        if run.method == "poisoner":
            phases.insert(0, phase("poison", biased=curves(bias_acc=[95.0])))
    right = [np.ravel(correct or _correct(share)).tolist()] * 3
    sizes = np.array(train or _diagonal(TRAIN_ALIGNED, TRAIN_CONFLICTING))
    last = {name: each for part in phases for name in NETWORKS if (each := getattr(part, name))}
    names = [str(number) for number in range(CLASSES)]
    return Record(
        schema=SCHEMA,
        task=run.task,
        method=run.method,
        seed=run.seed,
        preset=run.preset,
        settings=run.settings,
        groups=Groups(
            classes=names,
            biases=names,
            aligned_bias=list(range(CLASSES)),
            train=sizes.tolist(),
            test=np.full((CLASSES, CLASSES), TEST).tolist(),
            validation=np.full((CLASSES, CLASSES), TEST).tolist(),
        ),
        answers=Answers(epochs=[1, 2, 3], test=np.array(right), validation=np.array(right)),
        train={name: _right(each, sizes) for name, each in last.items()},
        phases=list(phases),
        summary={},
        warnings=[],
        provenance=Provenance(
            commit="0123456789abcdef",
            modified=False,
            finished="2026-01-02T03:04:05Z",
            python="3.11.0",
            torch="2.14.0",
            benchmark="0.1.0",
            device="CPU (invented)",
            threads=1,
            seconds=1.5,
            images_per_second=1000,
            data="0123456789abcdef",
            method_version=code.of_method(run.method),
            loop_version=code.LOOP,
        ),
    )


def phase(name: str = "train", **networks: Curves) -> PhaseCurves:
    """A phase with the curves of the networks "target" and "biased", or of one; its loss falls from 1."""
    epochs = len(next(iter(networks.values())).bias_acc)
    return PhaseCurves(name=name, loss=curve_of(1 / epoch for epoch in range(1, epochs + 1)), **networks)


def curves(**told: Sequence[float]) -> Curves:
    """Curves of which some metrics are told, a number an epoch, and the others of the training set made up.

    ``bias_acc`` and the two errors follow from one another. Metrics of the test set that are not told are not there.
    """
    flat = [0.0] * len(next(iter(told.values())))
    metrics = {"aligned_error": flat, "aligned_loss": [0.1] * len(flat), "conflicting_loss": [0.2] * len(flat)} | told
    if "bias_acc" not in told:
        errors = zip(metrics["aligned_error"], told.get("conflicting_error", flat), strict=True)
        metrics["bias_acc"] = [50 + (conflicting - aligned) / 2 for aligned, conflicting in errors]
    if "conflicting_error" not in told:
        known = zip(metrics["bias_acc"], metrics["aligned_error"], strict=True)
        metrics["conflicting_error"] = [2 * bias_acc - 100 + aligned for bias_acc, aligned in known]
    return Curves(**{name: curve_of(values) for name, values in metrics.items()})


def save_seeds(
    folder: Path,
    method: str,
    shares: Mapping[int, float],
    *,
    task: str = "cmnist_99",
    changes: Sequence[str | Override] = (),
    preset: str = PAPER,
    phases: Sequence[PhaseCurves] | None = None,
) -> None:
    """Store a record for each seed, of which ``shares`` say what ``make_record`` makes of it."""
    for seed, share in shares.items():
        run = make_run(task, method, *changes, seed=seed, preset=preset)
        put(folder, make_record(run, share, phases=phases))


def fixed_store(folder: Path) -> Store:
    """Two tasks, five methods, two seeds; LfF failed on one task and has a single seed on the other."""
    shares = {"vanilla": 0.4, "lff": 0.6, "poisoner": 0.8, "groupdro": 0.9, "gce": 0.2}
    for task in ("cmnist_99", "cmnist_98"):
        for method, share in shares.items():
            if method != "lff":
                save_seeds(folder, method, {0: share, 1: share + 0.02}, task=task)
    save_seeds(folder, "lff", {0: shares["lff"]})
    store = Store(folder)
    store.save_failure(make_run("cmnist_98", "lff"), "TrainingError: The loss became nan.", "trace")
    return store


def make_results(folder: Path, *records: Record) -> Results:
    """Everything in ``folder``, to which the records are added first, read once."""
    for record in records:
        put(folder, record)
    return collect(Store(folder), load())


def put(folder: Path, record: Record) -> None:
    """Store a record in the place of the run's own, if it has one, which the suite itself never does."""
    store = Store(folder)
    store.record_path(record.run).unlink(missing_ok=True)
    assert store.save(record)


def average(share: float) -> float:
    """The average accuracy of ``make_record``'s default counts, in percent."""
    return float(np.mean(_correct(share)))


def _correct(share: float) -> Counts:
    counts = np.array(_diagonal(TEST, round(TEST * share)))
    counts[:, CLASSES - 1] -= 10
    return counts.tolist()


def _right(measured: Curves, sizes: np.ndarray) -> Counts:
    """The right answers of each training group that the last epoch's errors state."""
    errors = _diagonal(measured.aligned_error[-1], measured.conflicting_error[-1])
    return np.round(sizes * (1 - np.array(errors) / 100)).astype(int).tolist()


def _diagonal(aligned: float, conflicting: float) -> list[list[float]]:
    return [[aligned if y == b else conflicting for b in range(CLASSES)] for y in range(CLASSES)]
