"""The command line ``python -m benchmark.predict``: labels images with a kept model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark import quoting
from benchmark.arguments import TILES, Parser, device, folder, has_controls, whole
from benchmark.errors import UserError, exit_code
from benchmark.quoting import counted
from benchmark.rules import LAST, REPORTED, RULES
from benchmark.store.atomic import write_atomically
from benchmark.store.named import RUN

if TYPE_CHECKING:
    from benchmark.models.model import Model

EPILOG = """examples:
  python -m benchmark.predict my_birds/poisoner new_images/ > labels.csv
  python -m benchmark.predict my_birds/poisoner a.jpg b.png --select validation_worst --sheet labels.png

The model is one that python -m benchmark.run --keep has kept; docs/models.md.
"""
CHUNK = 512  # images read and predicted together


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.predict",
        description="Label images with the debiased model of a run: CSV of file, predicted class and probabilities.",
        epilog=EPILOG,
    )
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="image files, or folders of them")
    parser.add_argument(
        "--select", choices=RULES, metavar="RULE",
        help=f"the rule that chose the model's epoch: {', '.join(RULES)} (default {REPORTED.name}, or {LAST.name} "
        "where there is no such model)",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=folder, default="results", metavar="FOLDER", help="folder of records (default results/)"
    )
    parser.add_argument(
        "--output", type=_file, metavar="FILE", help="where to write the CSV (default: standard output)"
    )
    parser.add_argument("--sheet", type=_file, metavar="FILE", help="draw a contact sheet of the images, a PNG")
    parser.add_argument(
        "--limit", type=whole(1, TILES), default=60, metavar="N", help="at most N images on the sheet (default 60)"
    )
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser


def _file(text: str) -> Path:
    """The kind of a file's path that can be written."""
    if not text or has_controls(text) or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is no path of a file: name another")
    path = Path(text)
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"'{text}' is a device or a pipe: redirect the output, as in > {text}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"nothing can be written to the folder of '{text}': name another")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0; 1 where an image could not be read; 2 for bad input."""
    return exit_code(lambda: _main(parser().parse_args(arguments)))


def _main(options: argparse.Namespace) -> int:
    paths, left_out = _found(options.images)
    from benchmark.models.loading import load  # PyTorch, once it is clear that there is something to label
    from benchmark.workers.worker import pick_device

    model = load(options.run, options.select, results=options.results, device=str(pick_device(options.device)))
    height, width = model.image_shape[1:]
    _tell(f"Labelled by {model.title}.", *model.notes)
    _tell(
        f"Images are brought to {width} × {height} pixels ({model.fit.replace('_', ' ')}) and else taken as they are."
    )
    labelled = Labelled(model, options.limit if options.sheet else 0)
    for start in range(0, len(paths), CHUNK):
        labelled.add(paths[start : start + CHUNK])
    if labelled.enlarged:
        _tell(f"{labelled.enlarged} of them were enlarged more than twofold, as few training images are.")
    if options.output:
        write_atomically(options.output, labelled.csv())
        _tell(f"wrote {options.output}")
    else:
        sys.stdout.write(labelled.csv())
    if options.sheet and labelled.files:
        write_atomically(options.sheet, labelled.sheet())
        _tell(f"wrote {options.sheet}")
    if labelled.unreadable:
        _tell(f"{labelled.unreadable} of {len(paths)} images could not be read, as said above.")
    if left_out:
        _tell(f"Left out, by their names no images: {counted(len(left_out), 'file')}, such as {left_out[0]}.")
    return 1 if labelled.unreadable else 0


def _tell(*sentences: str) -> None:
    """On standard error: what is written to standard output is the table."""
    for each in sentences:
        print(each.encode(errors="backslashreplace").decode(), file=sys.stderr, flush=True)


def _found(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files, and of folders all images in them, by name; and what else these hold.

    A link that leads nowhere is an image if it is called one, to be named where it is read. Raises UserError for what
    is neither file nor folder, and a folder without images.
    """
    from PIL import Image

    suffixes = Image.registered_extensions()
    found, others = list[Path](), list[Path]()
    for path in dict.fromkeys(paths):
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if not each.is_dir())
            images = [each for each in inside if each.suffix.lower() in suffixes]
            if not images:
                raise UserError(f"The folder {path} holds no image: name another.")
            found += images
            others += [each for each in inside if each.suffix.lower() not in suffixes]
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"There is no image or folder {path}: correct its path.")
    return found, others


class Labelled:
    """What a model says of images, of which the first ``shown`` are kept to be drawn."""

    def __init__(self, model: Model, shown: int) -> None:
        self.model = model
        self.shown = shown
        self.files: list[str] = []
        self.pixels: list[np.ndarray] = []
        self.probabilities = np.empty((0, len(model.classes)), np.float32)
        self.enlarged = self.unreadable = 0

    def add(self, paths: Sequence[Path]) -> None:
        """Read and label images; says which cannot be read and leaves them out."""
        from datasets.listing import shorter_side

        pixels = []
        for path in paths:
            try:
                pixels.append(self.model.read(path))
            except UserError as error:
                _tell(f"error: {error}")
                self.unreadable += 1
                continue
            self.enlarged += 2 * (shorter_side(path) or 0) < self.model.image_shape[-1]
            self.files.append(str(path).encode(errors="backslashreplace").decode())
        if pixels:
            found = self.model.probabilities(np.stack(pixels))
            self.probabilities = np.concatenate((self.probabilities, found))
            self.pixels += pixels[: self.shown - len(self.pixels)]

    @property
    def predicted(self) -> list[str]:
        return [self.model.classes[c] for c in self.probabilities.argmax(1)]

    def csv(self) -> str:
        """One line an image: file, predicted class, and the probability of each class under its name after "p_"."""
        import pandas as pd

        columns = {f"p_{name}": self.probabilities[:, c] for c, name in enumerate(self.model.classes)}
        return quoting.csv(pd.DataFrame({"file": self.files, "predicted": self.predicted, **columns}), "%.6g")

    def sheet(self) -> bytes:
        """The first images with their labels and probabilities, as a PNG."""
        from benchmark.inspect import sheets
        from benchmark.plan.recipes import load

        record = self.model.record
        recipes = load().with_folder_of(record.settings)
        model = f"{recipes.method_title(record.method)} on {recipes.task_title(record.task)}"
        tiles = [
            sheets.Tile(image, (f"{name} {chances.max():.2f}", Path(file).name), None)
            for image, name, chances, file in zip(
                self.pixels, self.predicted, self.probabilities, self.files, strict=False
            )
        ]
        which = f"the first {len(tiles)} of {len(self.files):,}" if len(tiles) < len(self.files) else "all"
        return sheets.png(
            sheets.Sheet(
                title=f"{model}: {len(self.files):,} images labelled",
                subtitle=self.model.title,
                found=sheets.Panel("Predicted class and its probability", f"{which}, in their order", tiles),
                aligned=None,
                notes=["Shown as the network sees them.", *self.model.notes],
            )
        )


if __name__ == "__main__":
    sys.exit(main())
