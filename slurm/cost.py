"""What the paper's whole grid costs, from the records at hand: ``python -m slurm.cost``.

Nothing is extrapolated there: a task whose methods do not all have a record of a GPU is "not measured". What
``--calibrate`` predicts for a device stands below, apart from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tabulate import tabulate

from benchmark.arguments import Parser, device, folder, whole
from benchmark.collect import collect
from benchmark.errors import exit_code
from benchmark.plan import catalogue
from benchmark.plan.paper import TABLES
from benchmark.plan.recipes import Recipes, load
from benchmark.plan.run import PAPER, Run
from benchmark.plan.table import Row
from benchmark.store.results import Results
from benchmark.store.store import Store
from slurm import prediction
from slurm.prediction import GPUS, SEEDS, hours

LONGEST = 60  # minutes of a calibration
SHARE = 0.8  # of these minutes that timing is planned for; counting, and a last method that takes longer, have the rest


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


def grid_runs(recipes: Recipes) -> dict[str, dict[str, Run]]:
    """The first seed of each run of the grid, by its task and its row's title."""
    return {
        task: {
            row.title or recipes.method_title(row.method): Run(
                recipes.resolve(task, row.method, row.overrides, PAPER), 0
            )
            for row in rows
        }
        for task, rows in grid().items()
    }


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m slurm.cost",
        description="What the runs of the paper's tables cost: measured by stored records, or predicted for a device.",
        epilog="docs/cluster.md says what is counted.",
    )
    parser.add_argument("--results", type=folder, default="results", help="folder of records")
    parser.add_argument(
        "--calibrate", action="store_true", help="time this device, and predict the hours of all runs on it"
    )
    parser.add_argument(
        "--minutes",
        type=whole(1, LONGEST),
        default=5,
        metavar="M",
        help="when the calibration begins nothing more (default 5)",
    )
    parser.add_argument("--device", type=device, default="auto", help="the device to calibrate: auto, cpu, cuda, ...")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    return exit_code(lambda: _main(parser().parse_args(arguments)))


def _main(options: argparse.Namespace) -> int:
    recipes, store = load(), Store(options.results)
    runs = grid_runs(recipes)
    if options.calibrate:
        from benchmark.speed.calibrate import calibrate  # PyTorch is loaded only where something is timed
        from benchmark.workers.worker import pick_device

        store.check_writable()
        every = list({run.series: run for rows in runs.values() for run in rows.values()}.values())
        seconds = 60 * options.minutes * SHARE
        found = calibrate(every, prediction.IMAGES, pick_device(options.device), seconds)
        print(f"wrote {prediction.write(found, store.folder)}")
    print(report(collect(store, recipes)))
    tables = {name: catalogue.runs(recipes, [table], [0]) for name, table in TABLES.items()}
    for calibration in prediction.load(store.folder):
        print(f"\n{prediction.report(calibration, runs, tables)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
