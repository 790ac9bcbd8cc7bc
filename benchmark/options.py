"""The command line of ``benchmark.run``: its options, and what they choose."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.arguments import JOBS, POINTS, SEEDS, Parser, device, folder, has_controls, is_text, seconds, whole
from benchmark.errors import UserError, unknown
from benchmark.plan import catalogue, limits, ours
from benchmark.plan.paper import COMPARED, FIGURES, TABLES
from benchmark.plan.recipes import Recipes, folder_task, load
from benchmark.plan.run import PAPER, Run, Settings
from benchmark.plan.table import COMPARISONS, Figure, Override, Row, Table, with_methods
from benchmark.plan.uses import Labels
from benchmark.rules import LAST, REPORTED, RULES, Rule
from benchmark.store import logs

EPILOG = """examples:
  python -m benchmark.run --quick                              nine methods on embedded digits, about a minute
  python -m benchmark.run --table 2 --tasks cmnist_99          the paper's Colored MNIST column
  python -m benchmark.run --tasks cmnist_99 --methods poisoner --set poisoner.gamma=0.5 --seeds 5
  python -m benchmark.run --dataset my_birds --methods vanilla poisoner
                                                               two methods on a folder with a labels.csv
  python -m benchmark.run --figure 4 --task cmnist_99          a figure of the paper, on another task
  python -m benchmark.run --all --render-only                  every table and figure from stored records
  python -m benchmark.run --table 2 --status                   what is done, failed and missing
  python -m benchmark.run --show cmnist_99 poisoner            every setting of a run, and where it comes from
"""
LONGEST_NAME = 255  # bytes: a folder of records is called like its task
DATA_ROOT = Path(os.environ.get("BENCHMARK_DATA_ROOT", "data"))


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.run",
        description="Train what a table or figure still lacks, then write it with measured numbers beside the paper's.",
        epilog=EPILOG,
    )
    what = parser.add_argument_group("what to run")
    what.add_argument(
        "--table", nargs="+", metavar="N", help=f"the paper's tables, 1 to 4, or ours: {', '.join(ours.OURS)}"
    )
    what.add_argument("--figure", nargs="+", metavar="N", help="the paper's figures: 2, 4, 5, 6, 7")
    what.add_argument("--task", metavar="TASK", help="draw the figures on this task in place of the paper's")
    what.add_argument("--all", action="store_true", help="all tables and figures")
    what.add_argument("--quick", action="store_true", help="all methods on the embedded digits")
    what.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="only these tasks")
    what.add_argument(
        "--dataset", type=folder, metavar="FOLDER", help="a task of your own: a folder of images with a labels.csv"
    )
    what.add_argument(
        "--bias", nargs="+", default=[], metavar="COLUMN",
        help="the bias of the --dataset: columns of its labels.csv, of several each combination (default: bias)",
    )  # fmt: skip
    what.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="only these methods")
    what.add_argument("--preset", default=PAPER, help="settings: paper (default), or reduced for small machines")
    what.add_argument(
        "--seeds", type=whole(1, SEEDS), default=1, metavar="N", help="number of seeds, 0 to N-1 (default 1)"
    )
    what.add_argument(
        "--search", type=whole(2, POINTS), metavar="N",
        help="tune every method with N points, the recipe among them, chosen by --select; docs/selection.md",
    )  # fmt: skip
    what.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides",
        help="change a setting: epochs=5, data.ratio=0.95, poisoner.gamma=0.5",
    )  # fmt: skip
    what.add_argument(
        "--again", action="store_true",
        help="train anew what was measured by older code or on other data, and with --keep what has no kept model",
    )  # fmt: skip
    where = parser.add_argument_group("where")
    where.add_argument(
        "--data-root", type=folder, default=str(DATA_ROOT),
        help="folder of the datasets (default: $BENCHMARK_DATA_ROOT or data/)",
    )  # fmt: skip
    where.add_argument(
        "--select", choices=RULES, metavar="RULE",
        help=f"which epoch of each run is shown: {', '.join(RULES)} (default {REPORTED.name}; with --dataset, "
        f"{LAST.name}); docs/selection.md",
    )  # fmt: skip
    where.add_argument(
        "--keep", action="store_true",
        help="keep the model of each run that is trained: of its last epoch, and of the one that --select chooses; "
        "docs/models.md",
    )  # fmt: skip
    where.add_argument(
        "--log", nargs="+", choices=logs.FORMATS, default=[], metavar="FORMAT",
        help=f"write what is measured after each epoch to logs/ in the results folder: {' or '.join(logs.FORMATS)}",
    )  # fmt: skip
    where.add_argument("--results", type=folder, default="results", help="folder of records and tables")
    where.add_argument(
        "--compare", choices=COMPARISONS, default=COMPARISONS[0],
        help="the paper's numbers beside the measured ones (default), or in a table of their own",
    )  # fmt: skip
    where.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    where.add_argument(
        "--checkpoint-seconds", type=seconds, default=30, metavar="S", help="at least so long between checkpoints"
    )
    where.add_argument(
        "--seeds-at-once", type=whole(1, SEEDS), metavar="N",
        help="train up to N seeds of a small network as one (default: 16 on a GPU, 1 on a CPU)",
    )  # fmt: skip
    where.add_argument(
        "--workers", type=whole(1, JOBS), metavar="N",
        help="train in N processes at once (default: one a core, or one a GPU)",
    )  # fmt: skip
    cluster = parser.add_argument_group("jobs", "docs/cluster.md explains them")
    cluster.add_argument(
        "--launcher", choices=("inline", "local", "slurm"), default="inline",
        help="train here while this command runs (default), in processes that outlive it, or in SLURM jobs",
    )  # fmt: skip
    cluster.add_argument("--max-parallel", type=whole(1, JOBS), metavar="N", help="at most N jobs at a time")
    cluster.add_argument("--runs-per-job", type=whole(1, JOBS), metavar="N", help="pack N runs into a SLURM job")
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
    instead.add_argument(
        "--show", nargs=2, metavar=("TASK", "METHOD"), help="show every setting of a run and where it comes from"
    )
    instead.add_argument(
        "--status", nargs="?", const="", metavar="RUN",
        help="show which runs are done, running, waiting, failed; or how far the RUN is whose id has this in it",
    )  # fmt: skip
    instead.add_argument("--dry-run", action="store_true", help="show which runs would be trained")
    instead.add_argument(
        "--render-only", "--collect", action="store_true", help="write tables and figures from stored records"
    )
    return parser


@dataclass(frozen=True)
class Execution:
    """How runs are executed, wherever that is.

    ``keep`` are the rules of whose epochs models are kept, ``logs`` the formats in which epochs are logged.
    """

    data_root: Path
    device: str
    checkpoint_seconds: float
    seeds_at_once: int | None
    workers: int | None = None
    keep: tuple[Rule, ...] = ()
    logs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Jobs:
    """How runs become jobs; ``slurm`` are changes of the profile."""

    launcher: str
    max_parallel: int | None
    runs_per_job: int | None
    profile: str
    slurm: tuple[str, ...]
    wait: bool
    retry_failed: bool


@dataclass(frozen=True)
class Selection:
    """The tables and figures asked for, narrowed to some tasks and methods where any are named, and the seeds.

    ``notes`` are sentences on what was left out.
    """

    recipes: Recipes
    tables: tuple[Table, ...]
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    notes: tuple[str, ...] = ()

    def runs(self, *tables: Table) -> list[Run]:
        """The runs of these tables, or of all, each once."""
        chosen = tables or self.tables
        return catalogue.runs(self.recipes, chosen, range(self.seeds), self.tasks, self.methods)


def rule(options: argparse.Namespace) -> Rule:
    """The rule that chooses epochs. Nothing is known of the validation images in a folder of one's own."""
    return rule_of_folders(options) if options.dataset else RULES[options.select or REPORTED.name]


def rule_of_folders(options: argparse.Namespace) -> Rule:
    """The rule for folders of one's own, with --dataset or among all that is stored."""
    return RULES[options.select or LAST.name]


def execution(options: argparse.Namespace) -> Execution:
    """How to execute. Raises UserError for a log that needs what is not installed."""
    logs.check(options.log)
    # A folder of one's own lies where it lies.
    data_root = options.dataset.resolve().parent if options.dataset else options.data_root
    keep = tuple(dict.fromkeys((LAST, rule(options)))) if options.keep else ()
    return Execution(
        data_root,
        options.device,
        options.checkpoint_seconds,
        options.seeds_at_once,
        options.workers,
        keep,
        tuple(dict.fromkeys(options.log)),
    )


def jobs(options: argparse.Namespace) -> Jobs:
    return Jobs(
        options.launcher,
        options.max_parallel,
        options.runs_per_job,
        options.profile,
        tuple(options.slurm),
        options.wait,
        options.retry_failed,
    )


def select(options: argparse.Namespace) -> Selection:
    """What the options choose. Raises UserError for names that do not exist and choices that leave nothing."""
    recipes, own = with_dataset(load(), options.dataset, options.bias)
    if own and (options.table or options.quick or options.tasks or options.task or options.all):
        raise UserError("--dataset is a task of its own: leave out --table, --all, --quick, --task and --tasks.")
    task = own if own and options.figure else options.task
    tasks = tuple(recipes.check_task(each) for each in ([own] if own and not options.figure else options.tasks))
    methods = tuple(recipes.check_method(each) for each in options.methods)
    if options.preset not in recipes.all_presets:
        raise unknown("preset", options.preset, recipes.all_presets)
    tables = tuple(replace(each, preset=options.preset) for each in _chosen(options, recipes, task, tasks, methods))
    remaining, notes = _with_any_run(tables, tasks, methods, recipes)
    if options.all:  # it renders every table, whatever it trains
        notes = ()
    else:
        tables = remaining
    if own:
        tables, more = _without_lacking(tables, methods, options.dataset, own, recipes)
        notes += more
    overrides = _effective(options.overrides, Selection(recipes, tables, tasks, methods, 1))
    tables = tuple(replace(each, overrides=overrides) for each in tables)
    Selection(recipes, tables, tasks, methods, 1).runs()  # refuses settings that do not go together
    return Selection(recipes, tables, tasks, methods, options.seeds, notes)


def with_dataset(recipes: Recipes, folder: Path | None, bias: Sequence[str] = ()) -> tuple[Recipes, str]:
    """The recipes with the task of a folder of one's own, and its name.

    ``bias`` are the columns that --bias names; their order is none of the choice. Raises UserError without a
    labels.csv there, and for columns without a folder.
    """
    if folder is None:
        if bias:
            raise UserError("--bias chooses columns of the labels.csv of a folder: name the folder, too.")
        return recipes, ""
    from datasets.folder import BIAS, labels_digest  # the registry of data sets, which only such a folder needs here

    data: Settings = {"folder": folder.resolve().name}
    if (columns := sorted(set(bias))) not in ([], [BIAS]):
        data["bias"] = columns
    name = folder_task(data)
    if not data["folder"] or not is_text(name) or has_controls(name) or len(name.encode()) > LONGEST_NAME:
        columns_too = " or the columns" if "bias" in data else ""
        raise UserError(
            f"The folder '{folder}' has the name '{name}', by which no task can be called: rename it{columns_too}."
        )
    return recipes.with_folder({**data, "labels": labels_digest(folder)}), name


def _chosen(
    options: argparse.Namespace, recipes: Recipes, task: str | None, tasks: Sequence[str], methods: tuple[str, ...]
) -> list[Table]:
    """The tables and figures, with rows of the user's extra methods."""
    chosen = [catalogue.table(number) for number in (TABLES if options.all else options.table or ())]
    if options.quick or (options.all and options.render_only):
        chosen.append(ours.QUICK)
    chosen = [with_methods(table, methods) for table in chosen]
    figures: list[Figure] = [catalogue.figure(number) for number in (FIGURES if options.all else options.figure or ())]
    if task and not figures:
        raise UserError("--task is for figures: add --figure, or choose columns of tables with --tasks.")
    if task:
        figures = [figure.on(recipes.check_task(task)) for figure in figures]
    if chosen or figures:
        return [*chosen, *figures]
    if not tasks:
        raise UserError(
            "Nothing to do: name a --table, --figure, --tasks, --dataset, --quick or --all; --list shows what there is."
        )
    return [ours.selection(tasks, methods or [row.method for row in COMPARED])]


def _with_any_run(
    tables: Sequence[Table], tasks: Sequence[str], methods: Sequence[str], recipes: Recipes
) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The tables, of one preset, that show any of the tasks and methods in it, and notes on what is left out.

    Raises UserError for a task that no table has, and where no table remains.
    """
    for task in tasks:
        if not any(task in table.tasks for table in tables):
            names = ", ".join(table.name for table in tables)
            known = ", ".join(dict.fromkeys(each for table in tables for each in table.tasks))
            raise UserError(f"No column {task} in {names}; tasks there: {known}.")
    remaining, reasons, lacking = list[Table](), list[str](), list[str]()
    without = dict[str, None]()
    for table in tables:
        asked = [each for each in tasks or table.tasks if each in table.tasks]
        available = recipes.available(table)
        rows = list(dict.fromkeys(row.method for row in table.rows))
        if not asked:
            reasons.append(f"{table.name} has no column {' or '.join(tasks)}")
        elif methods and not set(rows) & set(methods):
            reasons.append(f"{table.name} shows no run of {' or '.join(methods)}; its methods: {', '.join(rows)}")
        elif not set(asked) & set(available):
            lacking.append(f"No preset '{table.preset}' exists for {', '.join(asked)}: leave out --preset")
        else:
            remaining.append(table)
        without |= dict.fromkeys(each for each in asked if each not in available)
    if not remaining:
        # A task that exists somewhere, but not in that preset, says more than another table's lack of it.
        raise UserError((*lacking, *reasons)[0] + ".")
    notes = [f"Left out: {each}." for each in reasons]
    if without:
        notes.append(f"Left out, since there is no preset '{tables[0].preset}' for it: {', '.join(without)}.")
    return tuple(remaining), tuple(notes)


def _without_lacking(
    tables: Sequence[Table], methods: Sequence[str], folder: Path, own: str, recipes: Recipes
) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The tables without what needs labels or validation images that the folder lacks, and notes that say so.

    Raises UserError where a method that needs them was asked for by name.
    """
    from datasets.folder import BIAS, bias_of

    labels = Labels(own, *bias_of(folder, recipes.task_settings(own)["data"].get("bias", (BIAS,))))
    for method in methods:
        labels.check(method, recipes.uses(method))
    left_out: dict[str, dict[str, None]] = {}

    def can_do(row: Row) -> bool:
        balanced = [str(each) for each in row.overrides if each.key == "balance" and not each.owner and each.value]
        why = labels.lacking(("uses_bias_labels",) if balanced else recipes.uses(row.method))
        if why:
            left_out.setdefault(why, {}).update(dict.fromkeys(balanced or [recipes.method_title(row.method)]))
        return not why

    tables = tuple(each.only(can_do) for each in tables)
    return tables, tuple(f"Left out, since {why}: {', '.join(names)}." for why, names in left_out.items())


def _effective(texts: Sequence[str], selection: Selection) -> tuple[Override, ...]:
    """The overrides that change a run asked for. Raises UserError for one that should and does not, or may not.

    A setting of a method that is not asked for does no harm, and is no modification. What names a row is its own.
    """
    recipes = selection.recipes
    overrides = checked_overrides(texts, recipes)
    asked: dict[tuple[str, str, str], list[Row]] = {}
    for table in selection.tables if overrides else ():
        for row, task in catalogue.cells(recipes, table, selection.tasks, selection.methods):
            asked.setdefault((task, row.method, table.preset), []).append(row)
    effective = list[Override]()
    for override in overrides:
        concerned = [row for run, rows in asked.items() if recipes.applies(override, *run) for row in rows]
        if not all(row.sets(override) for row in concerned):
            effective.append(override)
        elif concerned or override.owner in ("", "data"):
            why = f", since each row that it is for sets {override.key} itself" if concerned else ""
            raise UserError(f"--set {override} changes none of the runs asked for{why}: leave it out.")
    return tuple(effective)


def checked_overrides(texts: Sequence[str], recipes: Recipes) -> list[Override]:
    """The parsed --set, each once. Raises UserError for what does not exist, is beyond its limits, or has two values.

    Limits of a method's options stand beside the method.
    """
    overrides = list(dict.fromkeys(recipes.parse_override(text) for text in texts))
    given: dict[str, Override] = {}
    for override in overrides:
        if (first := given.setdefault(override.name, override)) is not override:
            raise UserError(f"--set {first} and --set {override} contradict each other: leave one of them out.")
    owned = [each for each in overrides if each.owner in recipes.methods and each.key in recipes.options(each.owner)]
    if owned:
        import methods  # the methods themselves, hence PyTorch, which only this asks for before something is trained

        for override in owned:
            limits.check(override.name, override.value, methods.options(override.owner)[override.key])
    return overrides
