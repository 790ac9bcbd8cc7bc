"""A few minutes on a device, from which the hours of runs on it are predicted: see ``slurm.prediction``.

For each network and size of image, every method's phases are timed as ``benchmark.speed`` does, on noise, and so is the
measurement of a network between epochs. How many images each run trains on and measures is counted by its method, given
as many targets as the data set has, with networks and images as small as can be.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from benchmark.cores import processor
from benchmark.plan.run import Run, Settings
from benchmark.speed.__main__ import CLASSES, Subject, interleaved, kind_of, noise, phases
from benchmark.store.provenance import commit
from benchmark.training.measure import count
from benchmark.training.process import configure, keep_freed_memory
from benchmark.training.recording import device_name
from benchmark.training.training import Training
from datasets import BiasedDataset
from slurm.prediction import SEEDS, Calibration, Cost, Images

DIGITS = 28  # pixels of the images that are not resized
REPETITIONS = 2  # counted ones, after a warm-up
SMALLEST, MOST = 8, 51_200  # images to time with; so many digits are in no cache, like those of a data set
MOST_BYTES = 1 << 29  # of these images
ENOUGH = 0.1  # seconds of an epoch that tell the speed of longer ones
MULTIPLE = 2.0  # times that a method takes of plain training, all its phases together, about
MEASURING = "measuring"


class Shape(NamedTuple):
    """What decides how fast an image is: the network, the pixels of a side, and how many seeds are trained as one."""

    network: str
    size: int
    seeds: int

    def __str__(self) -> str:
        return f"{self.network}, {self.size} px" + (f", {self.seeds} seeds at once" if self.seeds > 1 else "")


class Work(NamedTuple):
    """The images of a kind of phase: how many are trained on, and how many measured between epochs."""

    trained: int
    measured: int


def calibrate(runs: Sequence[Run], images: Mapping[str, Images], device: torch.device, seconds: float) -> Calibration:
    """Time what the runs do, in about so many seconds, and predict what they cost.

    ``images`` are those of each data set. What there was no time for is left out: the largest networks' last methods.
    """
    before, deadline = os.getloadavg()[0], time.monotonic() + seconds
    configure()
    keep_freed_memory()
    works = {run.series: work(run, images[run.settings["dataset"]]) for run in runs}
    of_shape: dict[Shape, dict[str, Run]] = {}
    for run in runs:
        of_shape.setdefault(shape_of(run, device), {}).setdefault(run.method, run)
    threads, speed = torch.get_num_threads(), dict[Shape, dict[str, float]]()
    for left, shape in zip(range(len(of_shape), 0, -1), sorted(of_shape, key=lambda each: each[::-1]), strict=True):
        torch.set_num_threads(1 if shape.network == "mlp" else threads)
        share = (deadline - time.monotonic()) / left
        kinds = {run.method: (run.settings, list(works[run.series])) for run in of_shape[shape].values()}
        speed[shape] = {}
        for name, value in _speeds(shape, kinds, device, share, deadline):
            speed[shape][name] = value
            print(f"{shape}: {name} {value:,.0f} images/s", flush=True)
    torch.set_num_threads(threads)
    costs = {run.series: _cost(run.method, works[run.series], speed[shape_of(run, device)]) for run in runs}
    return Calibration(
        device=device_name(device) if device.type == "cuda" else f"CPU, {threads} threads, {processor()}",
        measured=time.strftime("%Y-%m-%d"),
        torch=str(torch.__version__),
        commit=commit().commit,
        load=(round(before, 2), round(os.getloadavg()[0], 2)),
        speed={str(shape): {name: round(each, 1) for name, each in found.items()} for shape, found in speed.items()},
        runs={series: cost for series, cost in costs.items() if cost},
    )


def shape_of(run: Run, device: torch.device) -> Shape:
    """The shape of a run, as a worker trains it that has all of its seeds."""
    network = run.settings["network"]
    together = network == "mlp" and device.type == "cuda"
    return Shape(network, run.settings["data"].get("size", DIGITS), SEEDS if together else 1)


def work(run: Run, images: Images) -> dict[str, Work]:
    """What a run does, by kind of phase."""
    train, validation, test = (noise(n, 1, 2).train for n in images)
    settings = {**run.settings, "network": "mlp", "pretrained": False}
    training = Training(replace(noise(2, 1, 2), train=train, validation=validation, test=test), settings, run.seed)
    found: dict[str, Work] = {}
    for index, phase in enumerate(training.phases):
        training.go_to(index)
        epochs, size = training.batches.epochs(phase), training.batches.size(phase)
        updates = phase.updates or epochs * training.batches.updates_per_epoch(phase)
        measured = epochs * sum(len(getattr(training.splits, name)) for _, name in training.wanted())
        before = found.get(kind_of(phase), Work(0, 0))
        found[kind_of(phase)] = Work(before.trained + updates * size, before.measured + measured)
    return found


def _speeds(
    shape: Shape,
    methods: Mapping[str, tuple[Settings, Sequence[str]]],
    device: torch.device,
    seconds: float,
    deadline: float,
) -> Iterator[tuple[str, float]]:
    """Images/s, of all seeds together, of measuring and of each method's kinds of phases, by name.

    A method that would probably not be done by the deadline is left out, and so are those behind it.
    """
    if seconds <= 0:
        return
    classes = CLASSES.get(shape.network, 2)
    most = min(MOST, MOST_BYTES // (3 * shape.size**2))
    plain, _ = next(iter(methods.values()))

    def images_per_second(n: int) -> float:
        """Of one seed, in the slowest phase of the first method."""
        return min(_rates(phases(noise(n, shape.size, classes), plain, device, shape.seeds), device)) / shape.seeds

    n = max(SMALLEST, classes)
    while n / (rate := images_per_second(n)) < ENOUGH and 4 * n <= most:  # a few are slower than a whole batch
        n *= 4
    epochs = MULTIPLE * (REPETITIONS + 1)
    n = max(n, min(int(rate * seconds / (len(methods) * epochs)), most))
    dataset = noise(n, shape.size, classes)
    (measuring,) = _rates({MEASURING: _measuring(dataset, plain, device, shape.seeds)}, device)
    yield MEASURING, measuring
    for method, (settings, kinds) in methods.items():
        if time.monotonic() + epochs * n / rate > deadline:
            return
        of_kinds = _rates(phases(dataset, settings, device, shape.seeds), device)
        yield from ((f"{method} {kind}", each) for kind, each in zip(kinds, of_kinds, strict=True))


def _measuring(dataset: BiasedDataset, settings: Settings, device: torch.device, seeds: int) -> Subject:
    """What is done between epochs: a network of each seed predicts every image, and right answers are counted."""
    first = Training(dataset, settings, 0, device)
    trainings = [first, *(Training(dataset, settings, seed, device, splits=first.splits) for seed in range(1, seeds))]
    wanted = [[(training.method.target, "train")] for training in trainings]
    return Subject(lambda: count([each.measurement for each in trainings], wanted), seeds * len(dataset.train))


def _rates(subjects: dict[str, Subject], device: torch.device) -> list[float]:
    """Images/s of each subject."""
    times, _ = interleaved(subjects, REPETITIONS, device)
    return [each.images / statistics.median(times[name]) for name, each in subjects.items()]


def _cost(method: str, works: Mapping[str, Work], speed: Mapping[str, float]) -> Cost | None:
    """What one run costs, a seed's share where several train as one; None where a part of it was not timed."""
    names = {f"{method} {kind}": each for kind, each in works.items()}
    if not {MEASURING, *names} <= speed.keys():
        return None
    training = sum(each.trained / speed[name] for name, each in names.items())
    return Cost(training, sum(each.measured for each in works.values()) / speed[MEASURING])
