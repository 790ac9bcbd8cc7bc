"""What the paper's whole grid costs, from the records at hand: ``python -m slurm.cost [results]``.

Nothing is extrapolated: a task whose methods do not all have a record of a GPU is "not measured".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmark.collect import collect
from benchmark.plan.paper import TABLES
from benchmark.plan.recipes import load
from benchmark.plan.run import PAPER
from benchmark.plan.table import Row
from benchmark.store.results import Results
from benchmark.store.store import Store

SEEDS = 3
GPUS = (1, 8, 64)


def grid() -> dict[str, list[Row]]:
    """The rows to train for each task of Tables 1 to 4; what two tables share is trained once."""
    found: dict[str, dict[tuple[str, tuple[object, ...]], Row]] = {}
    for table in TABLES.values():
        for task in table.tasks:
            for row in table.rows:
                found.setdefault(task, {}).setdefault((row.method, row.overrides), row)
    return {task: list(rows.values()) for task, rows in found.items()}


def seconds(task: str, row: Row, results: Results, gpu: bool) -> float | None:
    """Mean seconds of a run over its records of GPUs, or of CPUs; None without any."""
    found = [record.provenance for record in results.find(task, row.method, row.overrides, PAPER).records]
    taken = [each.seconds for each in found if each.device.startswith("CPU") != gpu]
    return sum(taken) / len(taken) if taken else None


def hours(runs: Sequence[float], devices: int) -> float:
    """Hours until so many devices have done the runs, each taking the longest that is left."""
    ends = [0.0] * devices
    for run in sorted(runs, reverse=True):
        ends[ends.index(min(ends))] += run
    return max(ends) / 3600


def report(results: Results) -> str:
    """A table of all tasks, runs and hours, and how long 1, 8 and 64 GPUs are busy with all of them."""
    lines, on_gpus, count = [], [], 0
    for task, rows in grid().items():
        runs = len(rows) * SEEDS
        cells = []
        for gpu in (True, False):
            measured = [each for row in rows if (each := seconds(task, row, results, gpu)) is not None]
            whole = len(measured) == len(rows)
            some = f" ({len(measured)} of {len(rows)} methods)" if measured else ""
            cells.append(f"{sum(measured) * SEEDS / 3600:.2f}" if whole else f"not measured{some}")
            on_gpus += measured * SEEDS if gpu else []
        lines.append([task, runs, *cells])
        count += runs
    heading = ["task", f"runs ({SEEDS} seeds)", "GPU-hours", "CPU-hours"]
    busy = "; ".join(f"{devices} GPUs: {hours(on_gpus, devices):.1f} h" for devices in GPUS)
    total = busy if len(on_gpus) == count else f"not measured; {len(on_gpus)} of them have times from a GPU"
    return f"{tabulate(lines, heading, 'github', disable_numparse=True)}\n\nAll {count} runs: {total}."


if __name__ == "__main__":
    print(report(collect(Store(Path(sys.argv[1] if len(sys.argv) > 1 else "results")), load())))
