"""Measure the common loop against a bare one: ``python -m benchmark.speed``.

The bare loop slices a resident uint8 array, runs forward, backward and fused Adam, and nothing else. Both are
timed in turn in one process, so that a drifting machine touches both alike; medians over repetitions.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tabulate import tabulate
from torch.nn import functional as F

from benchmark import recipes
from benchmark.networks import build
from benchmark.training import Training
from benchmark.worker import device_name, pick_device
from datasets import BiasedDataset, Split
from methods import METHODS


def digits_like(n: int) -> BiasedDataset:
    """Noise of Colored MNIST's shape: speed does not depend on what the pixels show."""
    rng = np.random.default_rng(0)

    def split(size: int) -> Split:
        targets = rng.integers(0, 10, size)
        images = rng.integers(0, 256, (size, 3, 28, 28), dtype=np.uint8)
        return Split(images, targets, np.where(rng.random(size) < 0.99, targets, rng.integers(0, 10, size)))

    digits = tuple("0123456789")
    return BiasedDataset("noise", digits, digits, np.arange(10), split(n), split(10), split(100))


def bare_epoch(dataset: BiasedDataset, batch_size: int, device: torch.device) -> Callable[[], None]:
    """One epoch of the least that training needs: slice, normalise, forward, backward, step."""
    images = torch.from_numpy(dataset.train.images).to(device)
    targets = torch.from_numpy(dataset.train.targets).to(device)
    network = build("mlp", dataset.image_shape, 10).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def epoch() -> None:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].float().sub_(127.5).mul_(1 / 127.5)
            loss = F.cross_entropy(network(batch), targets[start : start + batch_size])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def method_epochs(dataset: BiasedDataset, method: str, device: torch.device) -> dict[str, Callable[[], None]]:
    """One epoch of each kind of phase of a method; BE's like auxiliary phases count as one."""
    training = Training(dataset, recipes.resolve("cmnist_99", method), seed=0, device=device)

    def epoch(index: int) -> Callable[[], None]:
        def run() -> None:
            training.phase_index, training.epoch = index, 0
            training.optimizers = training._new_optimizers()
            training._train_epoch(training.phases[index])

        return run

    kinds: dict[str, int] = {}
    for index, phase in enumerate(training.phases):
        kinds.setdefault(phase.name.split()[0], index)
    return {f"{method}: {name}": epoch(index) for name, index in kinds.items()}


def measure(methods: Sequence[str], images: int, repetitions: int, device: torch.device) -> list[list[str]]:
    """Rows (what, images/s, time as a multiple of the bare loop's, of Vanilla's), from interleaved repetitions."""
    dataset = digits_like(images)
    batch_size = recipes.resolve("cmnist_99", "vanilla")["batch_size"]
    subjects = {"bare loop": bare_epoch(dataset, batch_size, device)}
    for method in methods:
        subjects |= method_epochs(dataset, method, device)
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for repetition in range(repetitions + 1):
        for name, epoch in subjects.items():
            _synchronise(device)
            started = time.perf_counter()
            epoch()
            _synchronise(device)
            if repetition:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - started)

    def multiple(name: str, base: str) -> str:
        pairs = zip(seconds[name], seconds[base], strict=True)
        return f"{statistics.median(one / other for one, other in pairs):.2f}"

    return [
        [
            name,
            f"{images / statistics.median(times):,.0f}",
            multiple(name, "bare loop"),
            multiple(name, "vanilla: train"),
        ]
        for name, times in seconds.items()
    ]


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmark.speed", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=sorted(METHODS), metavar="METHOD")
    parser.add_argument("--images", type=int, default=25_600, help="images in an epoch (default 25,600)")
    parser.add_argument("--repetitions", type=int, default=5, help="counted repetitions (default 5)")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    methods = ["vanilla", *(method for method in options.methods if method != "vanilla")]
    rows = measure(methods, options.images, options.repetitions, device)
    print(tabulate(rows, ["phase", "images/s", "× bare loop", "× Vanilla"], tablefmt="github", disable_numparse=True))
    print(
        f"\nTime of one training epoch; median of n = {options.repetitions} interleaved repetitions; "
        f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
