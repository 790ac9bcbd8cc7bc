"""The command line ``python -m benchmark.inspect``: which training images a stored run found bias-conflicting.

A sample counts as found when the run's biased model takes it for another class than its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

import datasets
from benchmark import metrics, recipes, sheets
from benchmark.errors import UserError, exit_code
from benchmark.plan import Run
from benchmark.records import Record, Store, run_of, write_atomically
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
DATA_ROOT = Path(os.environ.get("BENCHMARK_DATA_ROOT", "data"))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.inspect",
        description="Show which training images the biased model of a stored run found bias-conflicting.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="task/method/hash-sSEED, an unambiguous beginning, or a record")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="FOLDER", help="folder of records (default results/)"
    )
    parser.add_argument(
        "--data-root", type=Path, default=DATA_ROOT, metavar="FOLDER",
        help="folder of the datasets (default: $BENCHMARK_DATA_ROOT or data/)",
    )  # fmt: skip
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="the folder of images, for a run on one's own")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to write (default: inspect/<run> in the results folder)"
    )
    parser.add_argument(
        "--limit", type=int, default=60, metavar="N", help="at most N found images on a sheet (default 60)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    if options.limit < 1:
        raise UserError(f"--limit is {options.limit}: a sheet shows at least 1 image.")
    store, record = choose(options.run, options.results)
    recipes.add_folder_of(record["settings"])
    run = run_of(record)
    predictions = store.predictions(run, record)
    if predictions is None:
        raise UserError(
            f"{run.id} has no predictions beside its record: it was trained by an earlier version or on another "
            f"machine. {_advice(run, store, options)}"
        )
    findings = Findings(load_dataset(record, store, options), *predictions)
    folder = options.output or store.folder / "inspect" / run.id.replace("/", "-")
    print(f"{recipes.task_title(run.task)}, seed {run.seed}: what {network_of(record)} takes for another class\n")
    print(findings.report())
    try:
        for path in write(findings, record, folder, options.limit):
            print(f"wrote {path}")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): name another folder with --output.") from error
    return 0


def choose(name: str, results: Path) -> tuple[Store, Record]:
    """The results folder and the record of one run. Raises UserError where ``name`` fits none, or several."""
    if name.endswith(".json"):
        path = Path(name).resolve()
        if not path.is_file() or path.parts[-4:-3] != ("runs",):
            raise UserError(f"{name} is no record: they are called <results>/runs/<task>/<method>/<hash>-s<seed>.json.")
        results, name = path.parents[3], path.relative_to(path.parents[2]).as_posix().removesuffix(".json")
    store = Store(results)
    found = store.find(name)
    if len(found) > 1:
        listed = ", ".join(_described(record) for record in found)
        raise UserError(f"{len(found)} runs begin with '{name}': {listed}: give more of the one you mean.")
    return store, found[0]


def _described(record: Record) -> str:
    """The run's id and, in brackets, what sets it apart from its recipe."""
    recipes.add_folder_of(record["settings"])
    changes = ", ".join(str(change) for change in recipes.changes(record["settings"]))
    return run_of(record).id + (f" ({changes})" if changes else "")


def network_of(record: Record) -> str:
    """Whose mistakes are shown, such as "Poisoner's biased model"."""
    method = recipes.method_title(record["method"])
    network = "biased model" if "biased" in record["train"] else "tested network"
    return f"{method}'s {network}"


def load_dataset(record: Record, store: Store, options: argparse.Namespace) -> BiasedDataset:
    """The very data that the run was trained on. Raises UserError where they cannot be had, or differ."""
    run = run_of(record)
    data, data_root = run.settings["data"], options.data_root
    if run.settings["dataset"] == "folder":
        if not options.dataset:
            raise UserError(f"{run.id} was trained on a folder of images: say with --dataset where '{run.task}' is.")
        if labels_digest(options.dataset) != data["labels"]:
            raise UserError(
                f"{options.dataset / LABELS} is not the one that {run.id} was trained on: restore it, or train again "
                "with python -m benchmark.run --dataset."
            )
        data_root, data = options.dataset.resolve().parent, data | {"folder": options.dataset.resolve().name}
    elif options.dataset:
        raise UserError(f"{run.id} was not trained on a folder of one's own: leave out --dataset.")
    dataset = datasets.load(run.settings["dataset"], data_root, run.settings.get("balance"), **data)
    if (now := dataset.fingerprint()) != (then := record["provenance"].get("data")):
        raise UserError(
            f"{run.id} was trained on other data (fingerprint {then}) than those found now ({now}): restore them or "
            f"name their folder. {_advice(run, store, options)}"
        )
    return dataset


def _advice(run: Run, store: Store, options: argparse.Namespace) -> str:
    """The command that trains the run anew, in another folder since this one has its record."""
    changes = recipes.changes(run.settings)
    if recipes.resolve(run.task, run.method, changes, run.preset) != run.settings:
        return "Its recipe has changed since, so that it cannot be trained again: look at a newer run."
    results = f"{store.folder}-again"
    command = ["python", "-m", "benchmark.run"]
    if run.settings["dataset"] == "folder":
        command += ["--dataset", str(options.dataset or run.task)]
    else:
        command += ["--tasks", run.task]
        command += ["--data-root", str(options.data_root)] if options.data_root != DATA_ROOT else []
    command += ["--methods", run.method]
    command += ["--preset", run.preset] if run.preset != recipes.PAPER else []
    command += ["--seeds", str(run.seed + 1)] if run.seed else []
    command += ["--set", *(f"{each.name}={json.dumps(each.value)}" for each in changes)] if changes else []
    command += ["--results", results]
    return f"Train it anew with `{shlex.join(command)}`, then give --results {shlex.quote(results)} here."


@dataclass(frozen=True)
class Findings:
    """What a biased model says of the training set: its predictions, int64 [n], and scores, float [n].

    The score is the probability of the image's own label: the lower, the more conflicting.
    """

    dataset: BiasedDataset
    predicted: np.ndarray
    score: np.ndarray

    @cached_property
    def found(self) -> np.ndarray:
        """bool [n], true for what is found conflicting."""
        return self.predicted != self.dataset.train.targets

    @cached_property
    def known(self) -> np.ndarray:
        """bool [n], true where the bias label is known."""
        return self.dataset.train.bias >= 0

    @cached_property
    def conflicting(self) -> np.ndarray:
        """bool [n], true for what is conflicting, as far as that is known."""
        train = self.dataset.train
        return self.known & (train.bias != np.asarray(self.dataset.aligned_bias)[train.targets])

    @cached_property
    def files(self) -> np.ndarray:
        """The images' names, [n]: their files, or their places where they come from no files of their own."""
        train = self.dataset.train
        return np.array(train.files or [f"train/{number:05}" for number in range(len(train))])

    def members(self, c: int | None) -> np.ndarray:
        """bool [n], true for the images of class ``c``, or of all."""
        return np.ones(len(self.found), bool) if c is None else self.dataset.train.targets == c

    def precision_recall(self, c: int | None = None) -> tuple[float | None, float | None]:
        """In percent, over the images of class ``c`` whose bias is known."""
        judged = self.members(c) & self.known
        return metrics.precision_recall(self.found[judged], self.conflicting[judged])

    def ranked(self, chosen: np.ndarray, *, best_first: bool = False) -> np.ndarray:
        """Positions of the chosen images by score, the lowest first; equal ones in the order of the data."""
        positions = np.flatnonzero(chosen)
        score = self.score[positions]
        return positions[np.argsort(-score if best_first else score, kind="stable")]

    def table(self) -> pd.DataFrame:
        """The images found, the most conflicting first: file, target, predicted, score and, where known, bias."""
        order = self.ranked(self.found)
        train, classes = self.dataset.train, np.array(self.dataset.class_names)
        columns = {
            "file": self.files[order],
            "target": classes[train.targets[order]],
            "predicted": classes[self.predicted[order]],
            "score": self.score[order],
        }
        if self.known.any():
            # An unknown bias, −1, is the empty name put last.
            columns["bias"] = np.array([*self.dataset.bias_names, ""])[train.bias[order]]
        return pd.DataFrame(columns)

    def report(self) -> str:
        """Counts, precision and recall of all classes, for the terminal."""
        rows = [self._row(c, name) for c, name in enumerate(self.dataset.class_names)]
        head = ["Class", "Images", "Found", "Conflicting", "Precision", "Recall"]
        body = [*rows, self._row(None, "all")]
        if not self.known.any():
            head, body = head[:3], [row[:3] for row in body]
        table = tabulate(
            body, head, tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1))
        )
        return f"{table}\n\n{self._verdict()}"

    def _row(self, c: int | None, name: str) -> list[str]:
        members = self.members(c)
        counts = (int((members & each).sum()) for each in (members, self.found, self.conflicting))
        return [name, *(f"{count:,}" for count in counts), *(percent(each) for each in self.precision_recall(c))]

    def _verdict(self) -> str:
        if not self.known.any():
            return "Bias labels unknown: how many of the found images are truly conflicting cannot be said."
        if not self.found.any():
            return "Nothing was found: the network fits the label of every training image."
        hits = int((self.found & self.conflicting).sum())
        judged = int((self.found & self.known).sum())
        precision, recall = (percent(each) for each in self.precision_recall())
        unknown = int((~self.known).sum())
        left_out = f" {unknown:,} images of unknown bias are left out of both." if unknown else ""
        return (
            f"Precision {precision}: {hits:,} of {judged:,} found images are conflicting. "
            f"Recall {recall}: {hits:,} of {int(self.conflicting.sum()):,} conflicting images are found.{left_out}"
        )


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def write(findings: Findings, record: Record, folder: Path, limit: int) -> list[Path]:
    """Write conflicting.csv and a contact sheet of every class into ``folder``."""
    content = {"conflicting.csv": findings.table().to_csv(index=False, float_format="%.4g").encode()}
    for c, name in enumerate(findings.dataset.class_names):
        slug = "".join(each if each.isalnum() else "_" for each in name)
        content[f"class-{c}-{slug}.png"] = sheets.png(sheet(findings, c, record, limit))
    for name, data in content.items():
        write_atomically(folder / name, data)
    return [folder / name for name in content]


def sheet(findings: Findings, c: int, record: Record, limit: int) -> sheets.Sheet:
    """What the contact sheet of class ``c`` shows."""
    name, members = findings.dataset.class_names[c], findings.members(c)
    found = findings.ranked(members & findings.found)
    aligned = findings.ranked(members & ~findings.found, best_first=True)
    shown = found[:limit]
    which = f"the {len(shown)} lowest scores of {len(found):,}" if len(shown) < len(found) else "lowest score first"
    notes = [f"Score: the probability that the model gives to the image's own label, {name}."]
    if findings.known[members].any():
        precision, recall = (percent(each) for each in findings.precision_recall(c))
        quality = f"precision {precision}, recall {recall}"
        notes.append("Frames: green where the bias label agrees, orange where it does not.")
    else:
        quality = "bias labels unknown"
    return sheets.Sheet(
        title=f"Class “{name}”: what {network_of(record)} takes for another class",
        subtitle=f"{recipes.task_title(record['task'])}, seed {record['seed']}. "
        f"{len(found):,} of {int(members.sum()):,} training images found bias-conflicting; {quality}.",
        found=sheets.Panel("Found conflicting", which, _tiles(findings, shown)),
        aligned=sheets.Panel(
            "For contrast: found aligned", "highest score first", _tiles(findings, aligned[: sheets.beside(len(shown))])
        ),
        notes=notes,
    )


def _tiles(findings: Findings, positions: np.ndarray) -> list[sheets.Tile]:
    dataset, tiles = findings.dataset, []
    for i in positions.tolist():
        found, score = bool(findings.found[i]), findings.score[i]
        lines = [f"taken for {dataset.class_names[findings.predicted[i]]}"] if found else []
        lines.append("score < 0.01" if score < 0.01 else f"score {score:.2f}")
        agrees = None
        if findings.known[i]:
            lines.append(f"bias: {dataset.bias_names[dataset.train.bias[i]]}")
            agrees = found == bool(findings.conflicting[i])
        tiles.append(sheets.Tile(np.asarray(dataset.train.images[i]), lines, agrees))
    return tiles


if __name__ == "__main__":
    sys.exit(main())
