"""The command line ``python -m benchmark.inspect``: which training images a stored run found bias-conflicting.

A sample counts as found when the run's biased model takes it for another class than its own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import datasets
from benchmark import quoting
from benchmark.arguments import TILES, Parser, folder, whole
from benchmark.errors import UserError, exit_code, readable
from benchmark.identity import same_data
from benchmark.inspect import sheets
from benchmark.inspect.identified import Identified, percent
from benchmark.options import DATA_ROOT
from benchmark.plan.recipes import Recipes, load
from benchmark.plan.run import PAPER, digest
from benchmark.store.atomic import write_atomically
from benchmark.store.named import RUN, choose
from benchmark.store.record import Record
from benchmark.store.store import Store
from datasets import BiasedDataset
from datasets.folder import LABELS, labels_digest

EPILOG = """examples:
  python -m benchmark.inspect colored_digits/poisoner       the only run of Poisoner on that task under results/
  python -m benchmark.inspect cmnist_99/lff/114fb33f4f5d-s1 --limit 200
  python -m benchmark.inspect my_birds/jtt --dataset my_birds
                                                            a run on a folder of one's own

Runs of another machine cannot be inspected unless their predictions, the .npz beside the record, came with them.
It writes conflicting.csv, the images found with the most conflicting first, and a contact sheet of every class.
The sheets show images of the data set: mind its licence before you pass them on.
"""


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.inspect",
        description="Show which training images the biased model of a stored run found bias-conflicting.",
        epilog=EPILOG,
    )
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument(
        "--results", type=folder, default="results", metavar="FOLDER", help="folder of records (default results/)"
    )
    parser.add_argument(
        "--data-root", type=folder, default=str(DATA_ROOT), metavar="FOLDER",
        help="folder of the datasets (default: $BENCHMARK_DATA_ROOT or data/)",
    )  # fmt: skip
    parser.add_argument("--dataset", type=folder, metavar="FOLDER", help="the folder of images, for a run on one's own")
    parser.add_argument(
        "--output", type=folder, metavar="FOLDER", help="where to write (default: inspect/<run> in the results folder)"
    )
    parser.add_argument(
        "--limit", type=whole(1, TILES), default=60, metavar="N", help="at most N found images on a sheet (default 60)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    return exit_code(lambda: _main(parser().parse_args(arguments)))


def _main(options: argparse.Namespace) -> int:
    store, record = choose(options.run, options.results)
    recipes, run = load().with_folder_of(record.settings), record.run
    predictions = store.predictions(record)
    if predictions is None:
        raise UserError(
            f"{run.id} has no predictions beside its record: it was trained by an earlier version or on another "
            f"machine. {_advice(record, recipes, store, options)}"
        )
    identified = Identified(load_dataset(record, recipes, store, options), *predictions)
    folder = options.output or store.folder / "inspect" / run.id.replace("/", "-")
    network = network_of(record, recipes)
    print(f"{recipes.task_title(run.task)}, seed {run.seed}: what {network} takes for another class\n")
    print(identified.report())
    if record.stale:
        print(f"The run is stale: it was measured by {readable(record.stale)}.")
    try:
        for path in write(identified, record, recipes, folder, options.limit):
            print(f"wrote {path}")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): name another folder with --output.") from error
    return 0


def network_of(record: Record, recipes: Recipes) -> str:
    """Whose mistakes are shown, such as "Poisoner's biased model"."""
    network = "biased model" if record.has_biased else "tested network"
    return f"{recipes.method_title(record.method)}'s {network}"


def load_dataset(record: Record, recipes: Recipes, store: Store, options: argparse.Namespace) -> BiasedDataset:
    """The very data that the run was trained on. Raises UserError where they cannot be had, or differ."""
    run = record.run
    data, data_root = run.settings["data"], options.data_root
    if run.settings["dataset"] == "folder":
        if not options.dataset:
            raise UserError(
                f"{run.id} was trained on a folder of images: say with --dataset where '{data['folder']}' is."
            )
        if labels_digest(options.dataset) != data["labels"]:
            raise UserError(
                f"{options.dataset / LABELS} is not the one that {run.id} was trained on: restore it, or train again "
                "with python -m benchmark.run --dataset."
            )
        data_root, data = options.dataset.resolve().parent, data | {"folder": options.dataset.resolve().name}
    elif options.dataset:
        raise UserError(f"{run.id} was not trained on a folder of one's own: leave out --dataset.")
    dataset = datasets.load(run.settings["dataset"], data_root, run.settings["balance"], **data)
    if not same_data(record, now := dataset.fingerprint()):
        then = record.provenance.data
        raise UserError(
            f"{run.id} was trained on other data (fingerprint {then}) than those found now ({now.data}): restore them "
            f"or name their folder. {_advice(record, recipes, store, options)}"
        )
    return dataset


def _advice(record: Record, recipes: Recipes, store: Store, options: argparse.Namespace) -> str:
    """The command that trains the run anew, in another folder since this one has its record."""
    run, changes = record.run, recipes.changes(record.settings)
    if digest(recipes.resolve(run.task, run.method, changes, run.preset)) != run.digest:
        return "Its recipe has changed since, so that it cannot be trained again: look at a newer run."
    results = f"{store.folder}-again"
    command = ["python", "-m", "benchmark.run"]
    if run.settings["dataset"] == "folder":
        data = run.settings["data"]
        command += ["--dataset", str(options.dataset or data["folder"])]
        command += ["--bias", *data["bias"]] if "bias" in data else []
    else:
        command += ["--tasks", run.task]
        command += ["--data-root", str(options.data_root)] if options.data_root != DATA_ROOT else []
    command += ["--methods", run.method]
    command += ["--preset", run.preset] if run.preset != PAPER else []
    command += ["--seeds", str(run.seed + 1)] if run.seed else []
    command += ["--set", *(f"{each.name}={json.dumps(each.value)}" for each in changes)] if changes else []
    command += ["--results", results]
    return f"Train it anew with `{shlex.join(command)}`, then give --results {shlex.quote(results)} here."


def write(identified: Identified, record: Record, recipes: Recipes, folder: Path, limit: int) -> list[Path]:
    """Write conflicting.csv and a contact sheet of every class into ``folder``."""
    content = {"conflicting.csv": quoting.csv(identified.table(), "%.4g").encode()}
    for c, name in enumerate(identified.dataset.class_names):
        slug = "".join(each if each.isalnum() else "_" for each in name)
        content[f"{quoting.file_name(f'class-{c}-{slug}')}.png"] = sheets.png(
            sheet(identified, c, record, recipes, limit)
        )
    for name, data in content.items():
        write_atomically(folder / name, data)
    return [folder / name for name in content]


def sheet(identified: Identified, c: int, record: Record, recipes: Recipes, limit: int) -> sheets.Sheet:
    """What the contact sheet of class ``c`` shows."""
    name, members = identified.dataset.class_names[c], identified.members(c)
    found = identified.ranked(members & identified.found)
    aligned = identified.ranked(members & ~identified.found, best_first=True)
    shown = found[:limit]
    which = f"the {len(shown)} lowest scores of {len(found):,}" if len(shown) < len(found) else "lowest score first"
    notes = [f"Score: the probability that the model gives to the image's own label, {name}."]
    if identified.known[members].any():
        precision, recall = (percent(each) for each in identified.precision_recall(c))
        quality = f"precision {precision}, recall {recall}"
        notes.append("Frames: green where the bias label agrees, orange where it does not.")
    else:
        quality = "bias labels unknown"
    return sheets.Sheet(
        title=f"Class “{name}”: what {network_of(record, recipes)} takes for another class",
        subtitle=f"{recipes.task_title(record.task)}, seed {record.seed}. "
        f"{len(found):,} of {int(members.sum()):,} training images found bias-conflicting; {quality}.",
        found=sheets.Panel("Found conflicting", which, _tiles(identified, shown)),
        aligned=sheets.Panel(
            "For contrast: found aligned",
            "highest score first",
            _tiles(identified, aligned[: sheets.beside(len(shown))]),
        ),
        notes=notes,
    )


def _tiles(identified: Identified, positions: np.ndarray) -> list[sheets.Tile]:
    dataset, tiles = identified.dataset, []
    for i in positions.tolist():
        found, score = bool(identified.found[i]), identified.score[i]
        lines = [f"taken for {dataset.class_names[identified.predicted[i]]}"] if found else []
        lines.append("score < 0.01" if score < 0.01 else f"score {score:.2f}")
        agrees = None
        if identified.known[i]:
            lines.append(f"bias: {dataset.bias_names[dataset.train.bias[i]]}")
            agrees = found == bool(identified.conflicting[i])
        tiles.append(sheets.Tile(np.asarray(dataset.train.images[i]), lines, agrees))
    return tiles


if __name__ == "__main__":
    sys.exit(main())
