"""The command line of ``benchmark.run``: its options, and what they choose."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from benchmark.arguments import JOBS, POINTS, SEEDS, Parser, device, folder, seconds, whole
from benchmark.errors import UserError
from benchmark.plan import ours
from benchmark.plan.run import PAPER
from benchmark.plan.table import COMPARISONS
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
PROFILE = "default"
DATA_ROOT = Path(os.environ.get("BENCHMARK_DATA_ROOT", "data"))
# By launcher, the options of others that it has a use for.
USED = {
    "inline": ("--workers",),
    "local": ("--max-parallel", "--wait"),
    "slurm": ("--max-parallel", "--runs-per-job", "--profile", "--slurm", "--wait"),
}


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
    cluster.add_argument("--profile", default=PROFILE, metavar="NAME", help="slurm/profiles/NAME.toml, or a path")
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


def check_launcher(options: argparse.Namespace) -> None:
    """Raises UserError for what the launcher has no use for, where anything is trained."""
    given = {
        "--max-parallel": options.max_parallel,
        "--runs-per-job": options.runs_per_job,
        "--profile": options.profile != PROFILE,
        "--slurm": options.slurm,
        "--wait": options.wait,
        "--workers": options.workers,
    }
    unused = [flag for flag, value in given.items() if value and flag not in USED[options.launcher]]
    if unused and options.status is None and not options.dry_run and not options.render_only:
        raise UserError(
            f"--launcher {options.launcher} has no use for {unused[0]}: leave it out, or choose another launcher."
        )
