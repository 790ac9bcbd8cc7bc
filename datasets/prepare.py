"""Preparing image sets: ``python -m datasets.prepare TASK`` and ``python -m datasets.prepare --check``.

Finds, downloads and unpacks what is public, checks counts against the release, and decodes all images once.
Training does the last step itself where it has not been done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

import datasets
from benchmark.arguments import PIXELS, Parser, folder, whole
from benchmark.errors import UserError, exit_code, unknown
from benchmark.metrics import aligned_mask
from benchmark.options import DATA_ROOT
from benchmark.plan.recipes import Recipes, load
from benchmark.plan.run import PAPER, Settings
from benchmark.selection import with_dataset
from datasets import colored_mnist
from datasets.folder import LABELS
from datasets.images import IMAGE_SETS
from datasets.listing import SPLITS, Listing
from datasets.prepared import prepare, prepared_path, repeated
from datasets.source import NotFound


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m datasets.prepare",
        description="Find or download a task's images, check them, and decode them once.",
    )
    parser.add_argument("task", nargs="?", metavar="TASK", help="a task, or a folder of your own with a labels.csv")
    parser.add_argument("--check", action="store_true", help="say what is there for TASK, or each, and what to fetch")
    parser.add_argument("--preset", default=PAPER, help="settings: paper (default), or reduced for small machines")
    parser.add_argument(
        "--size", type=whole(32, PIXELS), metavar="PIXELS", help="width and height (default: the preset's)"
    )
    parser.add_argument("--bias", nargs="+", default=[], metavar="COLUMN", help="columns that are a folder's bias")
    parser.add_argument("--allow-subset", action="store_true", help="accept a part of the data")
    parser.add_argument(
        "--accept-terms", action="store_true",
        help="accept the terms of a set that has some, and download it (CelebA: non-commercial research only)",
    )  # fmt: skip
    parser.add_argument(
        "--data-root", type=folder, default=str(DATA_ROOT),
        help="folder of the datasets (default: $BENCHMARK_DATA_ROOT or data/)",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    interrupted = "Interrupted; the same command goes on with a download, and nothing else unfinished is left behind."
    return exit_code(lambda: _main(parser().parse_args(arguments)), interrupted)


def _main(options: argparse.Namespace) -> int:
    recipes, task, data_root = load(), options.task, options.data_root
    own = Path(task) if task and (Path(task) / LABELS).exists() else None
    recipes, name = with_dataset(recipes, own, options.bias)
    if own:
        data_root, task = own.resolve().parent, name
    if options.preset not in recipes.all_presets:
        raise unknown("preset", options.preset, recipes.all_presets)
    if options.check and (options.size is not None or options.allow_subset or options.preset != PAPER):
        raise UserError("--check looks at every preset as it is: leave out --size, --preset and --allow-subset.")
    if options.check:
        print(check(data_root, [task] if task else recipes.tasks, recipes))
    elif task:
        prepare_task(task, data_root, recipes, options)
    else:
        raise UserError("Nothing to do: name a task or --check.")
    return 0


def prepare_task(task: str, data_root: Path, recipes: Recipes, options: argparse.Namespace) -> None:
    """Obtain and prepare one task, and print its groups. Raises UserError."""
    of_task = recipes.task_settings(task, options.preset)
    builder, settings = of_task["dataset"], of_task["data"]
    if builder not in IMAGE_SETS:
        datasets.load(builder, data_root, **settings)
        print(f"{recipes.task_title(task)} is there; it is made from its files at every start.")
        return
    if options.size is not None:
        settings["size"] = options.size
    settings["subset"] = options.allow_subset or settings.get("subset", False)
    try:
        listing = IMAGE_SETS[builder].listing(data_root, **settings)
    except NotFound as error:
        if not error.source.obtain(data_root, options.accept_terms):
            raise
        listing = IMAGE_SETS[builder].listing(data_root, **settings)
    path = prepared_path(listing, settings["size"])
    prepare(listing, settings["size"])
    print(groups(listing))
    for note in (*listing.notes, *repeated(listing, path)):
        print(note)
    print(f"Prepared: {path} ({path.stat().st_size / 1e6:,.0f} MB)")


def groups(listing: Listing) -> str:
    """A table of the number of images of each group and split; aligned and conflicting pooled where groups are many."""
    sizes = [listing.group_sizes(part) for part in listing.splits]
    aligned = aligned_mask(sizes[0].shape, listing.aligned_bias)
    if not listing.told_by:
        aligned[:] = True  # nothing is said of conflicting ones
    if aligned.size > 8 and listing.told_by:
        kinds = {"aligned": aligned, "conflicting": ~aligned}
        rows = [(kind, *(each[mask].sum() for each in sizes)) for kind, mask in kinds.items()]
    else:
        rows = [
            (f"{name}, {bias}{'' if aligned[y, b] else ' (conflicting)'}", *(each[y, b] for each in sizes))
            for y, name in enumerate(listing.class_names)
            for b, bias in enumerate(listing.bias_names)
        ]
    totals = [part.stop - part.start for part in listing.splits]
    unknown = [total - each.sum() for total, each in zip(totals, sizes, strict=True)]
    if any(unknown):
        rows.append(("bias unknown", *unknown))
    rows.append(("all", *totals))
    return tabulate(rows, ("group", *SPLITS), tablefmt="github", intfmt=",")


def check(data_root: Path, tasks: Iterable[str], recipes: Recipes) -> str:
    """What is there for each of the tasks and its presets, and what to fetch where something is missing.

    Raises UserError for a task that does not exist.
    """
    lines = []
    for task in map(recipes.check_task, tasks):
        lines.append(f"{task}  {recipes.task_title(task)}")
        shown = ""
        for preset in recipes.presets(task):
            state, table = _state(recipes.task_settings(task, preset), data_root)
            lines.append(f"  {preset}: {state}")
            if table != shown:
                lines += [f"    {line}" for line in table.splitlines()]
                shown = table
    return "\n".join(lines)


def _state(settings: Settings, data_root: Path) -> tuple[str, str]:
    """A sentence on a task's data, and its table of groups where there are any."""
    builder, data = settings["dataset"], settings["data"]
    if builder == "colored_mnist":
        absent = colored_mnist.missing(data_root)
        return (
            f"missing {', '.join(absent)}; downloaded at the first run, or put into {data_root}" if absent else "ready"
        ), ""
    if builder not in IMAGE_SETS:
        return "ready", ""
    try:
        listing = IMAGE_SETS[builder].listing(data_root, **data)
        prepared = prepared_path(listing, data["size"]).exists()
    except UserError as error:
        return f"not ready. {error}", ""
    notes = "".join(f" {note}" for note in listing.notes)
    return f"ready in {listing.root}, {'prepared' if prepared else 'not yet prepared'}.{notes}", groups(listing)


if __name__ == "__main__":
    sys.exit(main())
