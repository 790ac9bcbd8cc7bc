"""Measure how fast every method trains, against other loops and its floor: ``python -m benchmark.speed``.

Everything is timed in turn in one process, so that a drifting machine touches all alike; multiples are medians of
paired ratios. Beside the methods' phases there are

* the bare loop: slices of a resident uint8 array, forward, backward and fused Adam, and nothing else;
* image files: the loop of ``benchmark.speed.file_loop``;
* a large matrix product and a large copy: the rates at which this machine computes and moves. Counted operations and
  bytes (``benchmark.speed.roofline``) at these rates are the floor.

docs/speed.md says what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch.nn import functional as F

from benchmark.arguments import JOBS, PIXELS, SEEDS, Parser, folder, whole
from benchmark.arguments import device as known_device
from benchmark.cores import cores, processor
from benchmark.errors import UserError, exit_code
from benchmark.plan.paper import COMPARED
from benchmark.plan.recipes import load
from benchmark.plan.run import Settings
from benchmark.speed import report, roofline
from benchmark.speed.file_loop import file_epoch, write_images
from benchmark.store.atomic import write_atomically
from benchmark.store.provenance import commit
from benchmark.training.networks import memory_format, of_run, place, precision
from benchmark.training.process import configure, keep_freed_memory
from benchmark.training.recording import device_name
from benchmark.training.training import Training
from benchmark.training.updates import Updates
from benchmark.workers.worker import pick_device
from datasets import BiasedDataset, Split
from methods import METHODS
from methods.base import Network, Phase

# The task and preset whose settings a network is measured with at an image size.
TASKS = {
    ("mlp", 28): ("cmnist_99", "paper"),
    ("resnet18", 64): ("dogs_cats", "reduced"),
    ("resnet18", 224): ("dogs_cats", "paper"),
}
CLASSES = {"mlp": 10, "resnet18": 2}
FILES = 5120  # at most so many images as files
IMAGES = 10_000_000  # more, or more repetitions, take days


@dataclass(frozen=True)
class Subject:
    """Something to time: ``run`` trains on so many images, with so many operations and bytes at least.

    ``captured`` where it is a CUDA graph from its first run on.
    """

    run: Callable[[], object]
    images: int = 0
    flops: int = 0
    bytes: int = 0
    captured: bool = False


def noise(n: int, size: int, num_classes: int) -> BiasedDataset:
    """Noise with every class equally often: speed does not depend on what the pixels show."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        targets = np.arange(n) % num_classes
        bias = np.where(rng.random(n) < 0.95, targets, rng.integers(0, num_classes, n))
        return Split(rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8), targets, bias)

    names = tuple(str(number) for number in range(num_classes))
    return BiasedDataset("noise", names, names, np.arange(num_classes), split(n), split(n // 10), split(num_classes))


def new_network(dataset: BiasedDataset, settings: Settings, device: torch.device) -> Network:
    network = of_run(settings, dataset.image_shape, len(dataset.class_names))
    place(network, device)
    return network


def bare_epoch(dataset: BiasedDataset, settings: Settings, batch_size: int, device: torch.device) -> Callable[[], None]:
    """One epoch of the least that training needs: slice, normalise, forward, backward, step."""
    images = torch.from_numpy(dataset.train.images).to(device)
    targets = torch.from_numpy(dataset.train.targets).to(device)
    network = new_network(dataset, settings, device)
    layout = memory_format(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings["learning_rate"], fused=True)

    def epoch() -> None:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].contiguous(memory_format=layout)
            batch = batch.float().sub_(127.5).mul_(1 / 127.5)
            loss = F.cross_entropy(network(batch), targets[start : start + batch_size])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def phases(
    dataset: BiasedDataset, settings: Settings, device: torch.device, seeds: int = 1, captured: bool = True
) -> dict[str, Subject]:
    """One epoch of each kind of phase of a method; BE's like auxiliary phases count as one.

    With several ``seeds``, of all of them at once. On a GPU the small network's updates are a CUDA graph, unless
    ``captured`` is false.
    """
    first = Training(dataset, settings, seed=0, device=device)
    title = load().method_title(settings["method"])
    suffix = (f", {seeds} seeds" if seeds > 1 else "") + ("" if captured else ", no graph")

    def subject(index: int) -> Subject:
        trainings = [Training(dataset, settings, seed, device, splits=first.splits) for seed in range(seeds)]
        for training in trainings:
            training.go_to(index)
        phase = Updates(trainings, captured)
        updates = seeds * first.batches.updates_per_epoch(phase.phase)
        flops, moved = roofline.of_update(first, index)
        images = updates * first.batches.size(phase.phase)
        return Subject(phase.epoch, images, updates * flops, updates * moved, phase.capturable)

    kinds: dict[str, int] = {}
    for index, phase in enumerate(first.phases):
        kinds.setdefault(kind_of(phase), index)
    return {
        (title if len(kinds) == 1 else f"{title}: {kind}") + suffix: subject(index) for kind, index in kinds.items()
    }


def kind_of(phase: Phase) -> str:
    """The name of a phase without its number among those that are like it."""
    return phase.name.split()[0]


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, Subject]:
    """A product of square matrices in the given precision, and a copy, both too large for the caches."""
    side, times, size = (8192, 20, 1 << 30) if device.type == "cuda" else (1024, 2, 1 << 26)
    one, other, product = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(3))
    source, copy = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return {
        report.PRODUCT: Subject(
            lambda: [torch.mm(one, other, out=product) for _ in range(times)], flops=times * 2 * side**3
        ),
        report.COPY: Subject(lambda: [copy.copy_(source) for _ in range(times)], bytes=times * 2 * size),
    }


def measure(
    network: str,
    size: int,
    methods: Sequence[str],
    images: int,
    repetitions: int,
    workers: int,
    device: torch.device,
    seeds_at_once: Sequence[int] = (),
) -> dict[str, Any]:
    """Time everything ``repetitions`` times in turn, after one warm-up; returns the measurement as plain JSON."""
    before = os.getloadavg()
    task, preset = TASKS[network, size]
    dataset = noise(images, size, CLASSES[network])
    settings = {method: load().resolve(task, method, (), preset) for method in methods}
    plain = settings["vanilla"]
    subjects: dict[str, Subject] = {}
    for method in methods:
        subjects |= phases(dataset, settings[method], device)
        for seeds in seeds_at_once:
            subjects |= phases(dataset, settings[method], device, seeds)
        if network == "mlp" and device.type == "cuda":
            subjects |= phases(dataset, settings[method], device, captured=False)
    vanilla = subjects[load().method_title("vanilla")]
    batch_size = min(plain["batch_size"], images)
    bare = bare_epoch(dataset, plain, batch_size, device)
    file_network = new_network(dataset, plain, device)
    dtype = precision(file_network, device)
    files = min(images, FILES)
    with tempfile.TemporaryDirectory() as folder:
        paths, targets = write_images(Path(folder), files, size), dataset.train.targets[:files].tolist()
        from_files = file_epoch(file_network, paths, targets, size, plain, batch_size, workers, device)
        updates = math.ceil(images / batch_size)
        of_files = vanilla.flops * files // images, vanilla.bytes * files // images
        subjects = {
            **machine(device, dtype),
            report.BARE: Subject(bare, images, vanilla.flops, vanilla.bytes),
            report.FILES: Subject(from_files, files, *of_files),
            **subjects,
        }
        times, memory = interleaved(subjects, repetitions, device)
        del from_files  # its workers read the files
    return {
        "network": network,
        "size": size,
        "device": device_name(device),
        "cpu": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "workers": workers,
        "load": [round(before[0], 2), round(os.getloadavg()[0], 2)],
        "batch_size": batch_size,
        "updates": updates,
        "repetitions": repetitions,
        "precision": str(dtype).removeprefix("torch."),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "torchvision", "pillow", "numpy")},
        },
        **msgspec.to_builtins(commit()),
        "subjects": {
            name: {
                "images": subject.images,
                "flops": subject.flops,
                "bytes": subject.bytes,
                "seconds": [round(each, 6) for each in times[name]],
                **({"peak_device_memory": memory[name]} if name in memory else {}),
            }
            for name, subject in subjects.items()
        },
    }


def interleaved(
    subjects: dict[str, Subject], repetitions: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each subject's repetitions and, on a GPU, the most bytes it takes there beyond what is resident.

    In another order each time, lest a subject always suffer from the same one before it. A graph takes its memory when
    it is captured, which is in the warm-up; the others' warm-up does not count, since cuDNN tries its algorithms then.
    """
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    memory: dict[str, int] = {}
    for repetition in range(repetitions + 1):
        for name, subject in random.Random(repetition).sample(list(subjects.items()), len(subjects)):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                resident = torch.cuda.memory_allocated(device)
                taken = _event_seconds(subject.run, device)
                if repetition or subject.captured:
                    peak = torch.cuda.max_memory_allocated(device) - resident
                    memory[name] = max(peak, memory.get(name, 0))
            else:
                started = time.perf_counter()
                subject.run()
                taken = time.perf_counter() - started
            if repetition:  # the first is the warm-up
                seconds[name].append(taken)
    return seconds, memory


def _event_seconds(run: Callable[[], object], device: torch.device) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = torch.cuda.current_stream(device)  # the current one of another device would not wait for this one
    torch.cuda.synchronize(device)
    start.record(stream)
    run()
    end.record(stream)
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1000


def stem(measurement: dict[str, Any]) -> str:
    """The file name of a measurement, ``<device>-<network>-<size>``."""
    device = "cpu" if measurement["device"].startswith("CPU") else measurement["device"]
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return f"{slug}-{measurement['network']}-{measurement['size']}"


def parser() -> argparse.ArgumentParser:
    known = [row.method for row in COMPARED]
    known += sorted(METHODS.keys() - known)
    parser = Parser(prog="python -m benchmark.speed", description="Measure how fast every method trains.")
    parser.add_argument("--network", choices=tuple(CLASSES), default="mlp")
    parser.add_argument(
        "--size", type=whole(1, PIXELS), metavar="PIXELS", help="28 for the MLP; 64 (default) or 224 for ResNet-18"
    )
    parser.add_argument("--methods", nargs="+", default=known, metavar="METHOD")
    parser.add_argument(
        "--images", type=whole(1, IMAGES),
        help="images in a repetition (default: 12,800 for the MLP; for ResNet-18 2,560 on a GPU, 64 on a CPU)",
    )  # fmt: skip
    parser.add_argument("--repetitions", type=whole(1, IMAGES), default=5, help="counted repetitions (default 5)")
    parser.add_argument(
        "--workers",
        type=whole(0, JOBS),
        default=cores(),
        help="processes that read the files (default: one a core)",
    )
    parser.add_argument(
        "--threads", type=whole(1, JOBS), help="threads (default: 1 for the MLP, as in training, else all cores)"
    )
    parser.add_argument(
        "--seeds-at-once", nargs="+", type=whole(2, SEEDS), metavar="N",
        help="time N seeds of the MLP as one network, too (default: 8 and 16 on a GPU)",
    )  # fmt: skip
    parser.add_argument("--device", type=known_device, default="auto")
    parser.add_argument("--results", type=folder, default="results", help="folder of records and tables")
    parser.add_argument("--render-only", action="store_true", help="write table and plot from stored measurements")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    return exit_code(lambda: _main(parser().parse_args(arguments)))


def _main(options: argparse.Namespace) -> int:
    if not options.render_only:
        measurement = _measure(options)
        path = options.results / "speed" / f"{stem(measurement)}.json"
        write_atomically(path, json.dumps(measurement, indent=1) + "\n")
        print(f"{report.section(measurement)}\nwrote {path}")
    for path in report.write(options.results):
        print(f"wrote {path}")
    return 0


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for. Raises UserError for what cannot be."""
    network = options.network
    size = options.size or (28 if network == "mlp" else 64)
    if (network, size) not in TASKS:
        sizes = [str(each) for name, each in TASKS if name == network]
        raise UserError(f"--size is {size}, but {network} is measured at {' or '.join(sizes)} pixels: choose one.")
    device = pick_device(options.device)
    images = options.images or (12_800 if network == "mlp" else 2560 if device.type == "cuda" else 64)
    if images < CLASSES[network]:
        raise UserError(f"--images is {images}: it must be at least {CLASSES[network]}, one of each class.")
    if network == "mlp" or options.threads:
        torch.set_num_threads(options.threads or 1)
    configure()
    keep_freed_memory()
    methods = dict.fromkeys(["vanilla", *(load().check_method(each) for each in options.methods)])
    seeds = options.seeds_at_once or ((8, 16) if network == "mlp" and device.type == "cuda" else ())
    if seeds and network != "mlp":
        raise UserError("--seeds-at-once is for the MLP: larger networks fill a device.")
    return measure(network, size, list(methods), images, options.repetitions, options.workers, device, seeds)


if __name__ == "__main__":
    sys.exit(main())
