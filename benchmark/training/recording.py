"""The record of a finished training."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby

import numpy as np
import torch

import networks
from benchmark import metrics
from benchmark.cores import processor
from benchmark.plan import code
from benchmark.plan.run import Run
from benchmark.plan.uses import MARKS
from benchmark.store.provenance import REPOSITORY, commit
from benchmark.store.record import (
    NETWORKS,
    SCHEMA,
    Answers,
    Commit,
    Curves,
    Groups,
    PhaseCurves,
    Provenance,
    Record,
    curve_of,
)
from benchmark.training.progress import EpochEntry
from benchmark.training.training import Training
from datasets import BiasedDataset
from datasets.base import Fingerprint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def make_record(
    run: Run,
    training: Training,
    data: Fingerprint,
    seeds_at_once: int = 1,
    submitted: Commit | None = None,
) -> Record:
    """Everything that is known of a finished run; ``data`` is the fingerprint of its dataset.

    Of the time that ``seeds_at_once`` took together, each gets its share. ``submitted`` is the commit at which a job
    was submitted.
    """
    dataset, progress, checkout = training.dataset, training.progress, commit()
    validation = dataset.validation_sizes
    return Record(
        schema=SCHEMA,
        task=run.task,
        method=run.method,
        seed=run.seed,
        preset=run.preset,
        settings=run.settings,
        groups=Groups(
            classes=list(dataset.class_names),
            biases=list(dataset.bias_names),
            aligned_bias=np.asarray(dataset.aligned_bias).tolist(),
            train=dataset.group_sizes(dataset.train).tolist(),
            test=dataset.group_sizes(dataset.test).tolist(),
            validation=None if validation is None else validation.tolist(),
            scored=None if dataset.scored is None else dataset.scored.tolist(),
            told_by=dataset.told_by,
        ),
        answers=answers_of(progress.history),
        train={network: progress.train_counts[network] for network in NETWORKS if network in progress.train_counts},
        phases=phases_of(progress.history),
        summary=training.method.summary(),
        warnings=[*progress.warnings, *_of_inversion(progress.history, dataset)],
        **{each: getattr(training.method, each) for each in MARKS},
        provenance=Provenance(
            commit=checkout.commit,
            modified=checkout.modified,
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            python=platform.python_version(),
            torch=str(torch.__version__),
            benchmark=release(),
            device=device_name(training.device),
            threads=torch.get_num_threads(),
            precision=training.precision_name,
            seconds=round(progress.seconds / seeds_at_once, 2),
            images_per_second=round(progress.samples_trained / max(progress.seconds_training, 1e-9)),
            data=data.data,
            validation_data=data.validation,
            method_version=code.of_method(run.method),
            loop_version=code.LOOP,
            network_version=code.of_network(run.settings["network"]),
            network_package=package_of(run.settings["network"]),
            weights=training.weights or None,
            data_notes=list(dataset.notes),
            seeds_at_once=seeds_at_once,
            peak_device_memory=peak_memory(training.device),
            submitted=submitted,
        ),
    )


def release() -> str:
    """The version of the suite, as its checkout states it: in a container it is not installed."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def _of_inversion(history: Sequence[EpochEntry], dataset: BiasedDataset) -> list[str]:
    """A warning where the target has turned the bias round at its end."""
    total = dataset.group_sizes(dataset.test)
    right = answers_of(history).test[-1].reshape(total.shape)
    points = metrics.inversion(right, total, dataset.aligned_bias) if dataset.told_by else None
    if points is None or points <= metrics.INVERTED:
        return []
    return [
        f"The bias is turned round: conflicting test groups are answered {points:.0f} points better than aligned ones."
    ]


def package_of(network: str) -> str:
    """The package that a network comes from, with its version; empty for one of this suite."""
    package = networks.package(network)
    return f"{package} {version(package)}" if package else ""


def phases_of(history: Sequence[EpochEntry]) -> list[PhaseCurves]:
    """The entries of all epochs as curves of each phase."""
    phases = []
    for name, group in groupby(history, lambda entry: entry["phase"]):
        entries = list(group)
        networks = {network: _curves(entries, network) for network in NETWORKS if network in entries[-1]}
        phases.append(PhaseCurves(name=name, loss=curve_of(entry["loss"] for entry in entries), **networks))
    return phases


def answers_of(history: Sequence[EpochEntry]) -> Answers:
    """The target's answers after each epoch of the last phase that trains it: before, the method is not at its end."""
    phases = [list(group) for _, group in groupby(history, lambda entry: entry["phase"])]
    tested = [[entry for entry in phase if "test" in entry] for phase in phases]
    entries = [phase for phase in tested if phase][-1]
    return Answers(
        epochs=[entry["epoch"] for entry in entries],
        test=np.array([entry["test"] for entry in entries]),
        validation=np.array([entry["validation"] for entry in entries]) if "validation" in entries[0] else None,
    )


def _curves(entries: Sequence[EpochEntry], network: str) -> Curves:
    measured: list[dict[str, float | None]] = [dict(entry.get(network, {})) for entry in entries]  # type: ignore[call-overload]
    return Curves(**{metric: curve_of(each.get(metric) for each in measured) for metric in measured[-1]})


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that tensors took on a GPU since the run's start; None on a CPU, which does not tell."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def device_name(device: torch.device) -> str:
    """The GPU's name, or that of the processor with the instructions that PyTorch takes, such as AVX512.

    Another device rounds otherwise, so that equal seeds part after a few epochs.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({processor()}, {torch.backends.cpu.get_cpu_capability()})"
