"""The command line: ``python -m benchmark.run``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark import fidelity, figures, findings, plan, readings, recipes, report, status, tables
from benchmark.errors import UserError, exit_code, unknown
from benchmark.plan import Figure, Run, Table
from benchmark.records import Store
from slurm import jobs

EPILOG = """examples:
  python -m benchmark.run --quick                              nine methods on embedded digits, about a minute
  python -m benchmark.run --table 2 --tasks cmnist_99          the paper's Colored MNIST column
  python -m benchmark.run --tasks cmnist_99 --methods poisoner --set poisoner.gamma=0.5 --seeds 5
  python -m benchmark.run --dataset my_birds --methods vanilla poisoner
                                                               two methods on a folder with a labels.csv
  python -m benchmark.run --figure 4 --task cmnist_99          a figure of the paper, on another task
  python -m benchmark.run --all --render-only                  every table and figure from stored records
  python -m benchmark.run --table 2 --status                   what is done, failed and missing
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.run",
        description="Train what a table or figure still lacks, then write it with measured numbers beside the paper's.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--table", nargs="+", metavar="N", help="the paper's tables, 1 to 4, or ours: ablations, beyond")
    what.add_argument("--figure", nargs="+", metavar="N", help="the paper's figures: 2, 4, 5, 6, 7")
    what.add_argument("--task", metavar="TASK", help="draw the figures on this task in place of the paper's")
    what.add_argument("--all", action="store_true", help="all tables and figures")
    what.add_argument("--quick", action="store_true", help="all methods on the embedded digits")
    what.add_argument("--tasks", nargs="+", metavar="TASK", help="only these tasks")
    what.add_argument(
        "--dataset", type=Path, metavar="FOLDER", help="a task of your own: a folder of images with a labels.csv"
    )
    what.add_argument("--methods", nargs="+", metavar="METHOD", help="only these methods")
    what.add_argument(
        "--preset", default=recipes.PAPER, help="settings: paper (default), or reduced or cpu for small machines"
    )
    what.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds, 0 to N-1 (default 1)")
    what.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides",
        help="change a setting: epochs=5, data.ratio=0.95, poisoner.gamma=0.5",
    )  # fmt: skip
    where = parser.add_argument_group("where")
    where.add_argument(
        "--data-root", type=Path, default=Path(os.environ.get("BENCHMARK_DATA_ROOT", "data")),
        help="folder of the datasets (default: $BENCHMARK_DATA_ROOT or data/)",
    )  # fmt: skip
    where.add_argument("--results", type=Path, default=Path("results"), help="folder of records and tables")
    where.add_argument(
        "--compare", choices=tables.COMPARISONS, default=tables.COMPARISONS[0],
        help="the paper's numbers beside the measured ones (default), or in a table of their own",
    )  # fmt: skip
    where.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    where.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=30,
        metavar="S",
        help="at least so long between checkpoints",
    )
    where.add_argument(
        "--seeds-at-once", type=int, metavar="N",
        help="train up to N seeds of a small network as one (default: 16 on a GPU, 1 on a CPU)",
    )  # fmt: skip
    cluster = parser.add_argument_group("jobs", "docs/cluster.md explains them")
    cluster.add_argument(
        "--launcher", choices=("inline", "local", "slurm"), default="inline",
        help="train in this process (default), in processes of this machine, or in SLURM jobs",
    )  # fmt: skip
    cluster.add_argument("--max-parallel", type=int, metavar="N", help="at most N jobs at a time")
    cluster.add_argument("--runs-per-job", type=int, metavar="N", help="pack N runs into a SLURM job")
    cluster.add_argument("--profile", default="default", metavar="NAME", help="slurm/profiles/NAME.toml, or a path")
    cluster.add_argument(
        "--slurm", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change the profile: partition=gpu, minutes=240",
    )  # fmt: skip
    cluster.add_argument("--wait", action="store_true", help="wait for the jobs, then write the tables")
    cluster.add_argument(
        "--retry-failed", action="store_true", help="submit runs that failed, too (inline always does)"
    )
    instead = parser.add_argument_group("instead of training").add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="show tasks, methods, tables and settings")
    instead.add_argument("--status", action="store_true", help="show which runs are done, running, waiting, failed")
    instead.add_argument("--dry-run", action="store_true", help="show which runs would be trained")
    instead.add_argument(
        "--render-only", "--collect", action="store_true", help="write tables and figures from stored records"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0; 1 when a run failed; 2 for bad input."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: _main(options), "Interrupted; the same command continues from the last checkpoint.")


def _main(options: argparse.Namespace) -> int:
    if options.list:
        print(catalogue())
        return 0
    chosen = choose_tables(options)
    store = Store(options.results)
    runs = planned_runs(chosen, options)
    if options.status:
        found = status.survey(runs, store, jobs.last_jobs(store.folder))
        print(status.report([(table, planned_runs([table], options)) for table in chosen], found))
        return 0
    store.check_writable()
    if options.launcher != "inline" and not (options.dry_run or options.render_only):
        from slurm import launch  # submitit is loaded only where something is submitted

        failed = launch.launch(runs, store, options)
        if failed is None:
            return 0
        render(chosen, store, options)
        return 1 if failed else 0
    missing = [run for run in runs if store.load(run) is None]
    if options.dry_run:
        print("\n".join(run.id for run in missing) or "Nothing to train.")
        return 0
    failed = 0
    if not options.render_only and missing:
        failed = train(missing, store, options)
    render(chosen, store, options)
    return 1 if failed else 0


def take_folder(options: argparse.Namespace) -> None:
    """Make the folder of --dataset the only task. Raises UserError when others are asked for too."""
    if options.table or options.quick or options.tasks or options.task or options.all:
        raise UserError("--dataset is a task of its own: leave out --table, --all, --quick, --task and --tasks.")
    name = recipes.add_folder(options.dataset)
    if options.figure:
        options.task = name
    else:
        options.tasks = [name]
    options.data_root = options.dataset.resolve().parent


def choose_tables(options: argparse.Namespace) -> list[Table]:
    """The tables and figures asked for, with the user's tasks, extra methods and overrides. Raises UserError."""
    if options.seeds < 1:
        raise UserError(f"--seeds is {options.seeds}: it is the number of seeds and must be at least 1.")
    if options.seeds_at_once is not None and options.seeds_at_once < 1:
        raise UserError(f"--seeds-at-once is {options.seeds_at_once}: it must be at least 1.")
    if options.dataset:
        take_folder(options)
    tasks = [recipes.check_task(task) for task in options.tasks or ()]
    methods = [recipes.check_method(method) for method in options.methods or ()]
    overrides = tuple(recipes.parse_override(text) for text in options.overrides)
    numbers = plan.TABLES if options.all else options.table or ()
    chosen = [plan.with_methods(plan.check_table(number), methods) for number in numbers]
    if options.quick or (options.all and options.render_only):
        chosen.append(plan.with_methods(plan.QUICK, methods))
    drawn = [plan.check_figure(number) for number in (plan.FIGURES if options.all else options.figure or ())]
    if options.task:
        if not drawn:
            raise UserError("--task is for figures: add --figure, or choose columns of tables with --tasks.")
        recipes.check_task(options.task)
        drawn = [figure.on(options.task) for figure in drawn]
    chosen += drawn
    if not chosen:
        if not tasks:
            raise UserError(
                "Nothing to do: name a --table, --figure, --tasks, --dataset, --quick or --all; --list shows what "
                "there is."
            )
        chosen = [plan.selection(tasks, methods or [row.method for row in plan.COMPARED])]
    if options.preset not in recipes.all_presets():
        raise unknown("preset", options.preset, recipes.all_presets())
    chosen = [replace(table, preset=options.preset) for table in chosen]
    asked = {
        (task, row.method, table.preset)
        for table in chosen
        for task in table.available_tasks
        for row in table.rows
        if (not tasks or task in tasks) and (not methods or row.method in methods)
    }
    idle = [each for each in overrides if not any(recipes.applies(each, *run) for run in asked)]
    for override in idle:
        if override.owner in ("", "data"):
            raise UserError(f"--set {override} changes none of the runs asked for: leave it out.")
    # A setting of a method that is not asked for does no harm, and is no modification.
    overrides = tuple(each for each in overrides if each not in idle)
    chosen = [replace(table, overrides=overrides) for table in chosen]
    if options.all:
        return chosen
    for table in chosen:
        for task in tasks:
            if task not in table.tasks:
                raise UserError(f"{table.name} has no column {task}; its tasks: {', '.join(table.tasks)}.")
        lacking = [task for task in tasks or table.tasks if task not in table.available_tasks]
        if len(lacking) == len(tasks or table.tasks):
            raise UserError(f"No preset '{table.preset}' exists for {', '.join(lacking)}: leave out --preset.")
    return chosen


def planned_runs(chosen: Sequence[Table], options: argparse.Namespace) -> list[Run]:
    """The runs of all tables, each once, narrowed to the tasks and methods asked for."""
    methods = [recipes.check_method(method) for method in options.methods or ()]
    runs = {}
    for table in chosen:
        tasks = options.tasks or table.available_tasks
        for run in table.runs(range(options.seeds), tasks, methods or [row.method for row in table.rows]):
            runs[run.id] = run
    return list(runs.values())


def train(missing: Sequence[Run], store: Store, options: argparse.Namespace) -> int:
    """Train the missing runs in this process; returns how many failed."""
    from benchmark.worker import Worker, pick_device  # PyTorch is loaded only where something is trained

    worker = Worker(
        store,
        options.data_root,
        pick_device(options.device),
        options.checkpoint_seconds,
        seeds_at_once=options.seeds_at_once,
    )
    worker.prepare(missing)
    return worker.work(missing).count("failed")


def render(chosen: Sequence[Table], store: Store, options: argparse.Namespace) -> None:
    """Write and print every chosen table, with its curves, and every figure.

    With --all, also what the stored records give in tables of ours, in other presets, or on tasks that stand in for a
    figure's own, the verdicts on the paper's claims, and the distance to its numbers.
    """
    for table in chosen:
        write(table, tables.collect(table, store), store, options)
    if options.all:
        for table, found in tables.stored_variants(store):
            write(table, found, store, options)
        claims, cells, left_open = findings.evaluate(store), fidelity.cells(store), readings.evaluate(store)
        findings.write(claims, store.folder)
        fidelity.write(cells, claims, store.folder)
        readings.write(left_open, store.folder)
        for name in ("tables/claims.md", "fidelity.md", "readings.md"):
            print(f"wrote {store.folder / name}")
        print(f"wrote {report.write(store, cells, claims, left_open)}")


def write(table: Table, found: tables.Found, store: Store, options: argparse.Namespace) -> None:
    """Write a table with its curves, or a figure, and say so."""
    folder = store.folder / "figures"
    if isinstance(table, Figure):
        paths = figures.write_figure(table, found, folder)
        print(f"{table.heading}. {figures.caption(table, found)}")
    else:
        print(tables.write(table, found, store, options.compare))
        print(f"wrote {store.folder / 'tables' / table.stem}.csv, .md and .tex")
        paths = figures.write_curves(table, found, folder)
    for path in paths:
        print(f"wrote {path}")


def catalogue() -> str:
    """Everything that can be asked for, with the settings of tasks and methods."""
    tasks, methods = recipes.tables()
    lines = ["Tables"]
    known = (plan.TABLES | plan.OURS).items()
    lines += [f"  {name}  {table.title}: {', '.join(table.tasks)}" for name, table in known]
    lines += ["Figures"]
    lines += [f"  {number}  {figure.title}: {', '.join(figure.tasks)}" for number, figure in plan.FIGURES.items()]
    lines += ["Tasks"]
    for task, table in tasks.items():
        settings = {
            **recipes.loop_settings(task),
            **{f"data.{key}": value for key, value in table["data"].items()},
        }
        lines += [f"  {task}  {table['title']}  presets: {', '.join(recipes.presets(task))}"]
        lines += [f"    {_settings(settings)}"]
    lines += ["Methods"]
    for method in methods:
        star = " (uses bias labels)" if recipes.uses_bias_labels(method) else ""
        lines += [f"  {method}  {recipes.method_title(method)}{star}"]
        if settings := recipes.options(method):
            lines += [f"    {_settings({f'{method}.{key}': value for key, value in settings.items()})}"]
    return "\n".join(lines)


def _settings(settings: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


if __name__ == "__main__":
    sys.exit(main())
