"""Images a second of ResNet-18 at 64 pixels, a process a core, in float32 and in bf16; docs/speed.md has what came out.

    python tests/tools/precisions.py --repeat 5

The variants take turns, each precision as the suite trains, with oneDNN's convolutions throughout
(benchmark/training/convolutions.py), and with freed memory given back to the system (benchmark/training/process.py);
bf16 where the processor has it.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier

import torch

import networks
from benchmark.cores import cores
from benchmark.training import convolutions
from benchmark.training.networks import computes_in_bf16, memory_format, place
from benchmark.training.process import keep_freed_memory
from benchmark.training.recording import device_name
from benchmark.training.trial import step

CORES = cores()
BATCH, SECONDS = 128, 6.0
# By name: the precision, up to how many rows convolutions are matrix products, and whether freed memory is kept.
VARIANTS = {
    f"{precision}{name}": (precision, most, kept)
    for precision in ("float32", "bf16")[: 1 + computes_in_bf16(torch.device("cpu"))]
    for name, most, kept in (
        (", oneDNN's convolutions", 0, True),
        (", memory given back", convolutions.MOST, False),
        ("", convolutions.MOST, True),
    )
}
_barrier: Barrier


def share(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def rate(precision: str, most: int, kept: bool) -> float:
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    convolutions.MOST = most
    network = networks.build("resnet18", (3, 64, 64), 2).train()
    place(network, torch.device("cpu"), precision)
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.randn(BATCH, 3, 64, 64).contiguous(memory_format=memory_format(network))
    targets = torch.arange(BATCH) % 2
    step(network, optimizer, images, targets)
    _barrier.wait()
    started, updates = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        step(network, optimizer, images, targets)
        updates += 1
    return updates * BATCH / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    context = mp.get_context("spawn")
    for _ in range(repeat):
        for name, variant in VARIANTS.items():
            with ProcessPoolExecutor(CORES, context, share, (context.Barrier(CORES),)) as pool:
                rates[name].append(sum(pool.map(rate, *zip(*[variant] * CORES, strict=True))))
    print(f"{device_name(torch.device('cpu'))}, {CORES} processes, torch {torch.__version__}, n = {repeat}")
    for name, found in rates.items():
        print(f"{statistics.median(found):6.0f} images/s  {name}  ({', '.join(f'{each:.0f}' for each in found)})")


if __name__ == "__main__":
    main()
