"""A short trial of how fast this machine trains a network: one process with all cores, or one process a core."""

from __future__ import annotations

import multiprocessing as mp
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

import torch
import torch.nn.functional as F

from benchmark.cores import cores, threads_each
from benchmark.plan.run import Settings
from benchmark.training.loader import free_memory
from benchmark.training.networks import of_run, place
from benchmark.training.process import configure, keep_freed_memory

BATCH = 16  # images, fewer than any recipe's: a step stays short even where images are large
SECONDS = 2.0
NETWORKS = 2  # that a method trains at a time, as most do
SHARE = 0.8  # of the free memory that all processes together may take

_barrier: Barrier


class Trial(NamedTuple):
    """Images that all processes together trained in a second, and the bytes that a batch of the run's takes in each."""

    rate: float
    memory: float


def best_number(settings: Settings, image_shape: tuple[int, ...], num_classes: int, most: int) -> int:
    """How many processes, each with its share of the cores, train such networks fastest: one, or as many as fit.

    At most ``most``, and no more than memory is there for. Takes about ten seconds.
    """
    alone = try_out(settings, image_shape, num_classes, 1, threads_each())
    fitting = int(SHARE * free_memory(torch.device("cpu")) / max(alone.memory, 1))
    number = min(most, cores(), fitting)
    if number < 2:
        return 1
    several = try_out(settings, image_shape, num_classes, number, threads_each(number))
    return number if several.rate > alone.rate else 1


def try_out(settings: Settings, image_shape: tuple[int, ...], num_classes: int, number: int, threads: int) -> Trial:
    """Train fresh networks on noise in so many processes at once, each of so many threads."""
    context = mp.get_context("spawn")
    barrier = context.Barrier(number)
    with ProcessPoolExecutor(number, context, _share_barrier, (barrier,)) as pool:
        found = list(pool.map(_train, *zip(*[(settings, image_shape, num_classes, threads)] * number, strict=True)))
    return Trial(sum(rate for rate, _ in found), max(memory for _, memory in found))


def _share_barrier(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _train(settings: Settings, image_shape: tuple[int, ...], num_classes: int, threads: int) -> tuple[float, float]:
    """(images a second, bytes) of this process, which begins to count with all others."""
    torch.set_num_threads(threads)
    configure()
    keep_freed_memory()
    network = of_run({**settings, "pretrained": False}, image_shape, num_classes).train()
    place(network, torch.device("cpu"), settings["precision"])
    optimizer = torch.optim.Adam(network.parameters())
    images, targets = torch.randn(BATCH, *image_shape), torch.arange(BATCH) % num_classes
    before = _peak()
    step(network, optimizer, images, targets)
    memory = before + NETWORKS * (_peak() - before) * settings["batch_size"] / BATCH
    _barrier.wait()
    started, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - started < SECONDS:
        step(network, optimizer, images, targets)
        steps += 1
    return steps * BATCH / (time.perf_counter() - started), memory


def step(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, targets: torch.Tensor
) -> None:
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(network(images), targets).backward()
    optimizer.step()


def _peak() -> float:
    """The most bytes of memory that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
