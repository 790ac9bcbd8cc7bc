"""A folder of one's own: images and a labels.csv with the columns file, target, bias and split."""

from __future__ import annotations

import hashlib
import posixpath
import re
from pathlib import Path

import numpy as np

from benchmark.errors import UserError
from datasets.base import associated_bias, group_sizes, tells_association
from datasets.images import register_images
from datasets.labels import read_table, require_columns, require_file, require_unique, require_values
from datasets.listing import SPLITS, Listing
from datasets.prepared import stretch

LABELS = "labels.csv"
UNTOLD = (
    "Which bias goes with which target cannot be told from the labels, so that what is said of aligned and conflicting "
    "training images means nothing: fill in the bias of some training or validation images of each target."
)


def labels_digest(folder: Path) -> str:
    """Short digest of the folder's labels.csv. Raises UserError where there is none."""
    require_file(folder / LABELS)
    try:
        return hashlib.sha256((folder / LABELS).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(
            f"{folder / LABELS} cannot be read ({error.strerror}): a dataset of your own is a folder with images "
            f"and a {LABELS} of the columns file,target,bias,split."
        ) from error


def bias_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The bias of the folder's training and of its validation images, int64 [n], −1 where it is unknown.

    Raises UserError where its labels.csv is wrong.
    """
    path = path.resolve()
    found = folder(path.parent, folder=path.name, labels=labels_digest(path))
    train, validation, _ = found.splits
    return found.bias[train], found.bias[validation]


@register_images("folder")
def folder(data_root: Path, *, folder: str, labels: str) -> Listing:
    """The images that ``data_root/folder/labels.csv`` lists.

    ``target`` and ``bias`` are any names; classes and bias values are those that occur, sorted (numbers as
    numbers). ``split`` is train, validation (or val) or test. ``bias`` may be empty, or the column missing, except
    for test images. Every target needs a training image, every (target, bias) group a test image. Aligned pairs are
    those that occur together above chance in training or, where its labels do not tell that of every class, in
    validation or testing.
    ``labels`` is the file's digest, which makes runs on changed labels different runs.
    """
    root = data_root / folder
    path = root / LABELS
    if labels_digest(root) != labels:
        raise UserError(f"{path} has changed since this run was planned: start the command again.")
    table = read_table(path)
    require_columns(table, path, ("file", "target", "split"))
    table["file"] = table.file.map(posixpath.normpath)
    require_unique(table.file, path)
    if "bias" not in table.columns:
        table["bias"] = ""
    table["split"] = table["split"].replace("val", "validation")
    require_values(table["split"], table.file, path, SPLITS)
    if (table.target == "").any():
        raise UserError(f"{path}: '{table.file[table.target == ''].iloc[0]}' has no target: add it.")
    unknown = (table.bias == "") & (table["split"] == "test")
    if unknown.any():
        raise UserError(f"{path}: test image '{table.file[unknown].iloc[0]}' has no bias, which testing needs: add it.")

    table = table.sort_values("split", key=lambda column: column.map(SPLITS.index), kind="stable")
    classes, biases = _sorted(set(table.target)), _sorted(set(table.bias) - {""})
    for kind, found in (("target", classes), ("bias", biases)):
        if len(found) < 2:
            raise UserError(f"{path} has {len(found)} kinds of {kind} ({', '.join(found)}): it needs at least two.")
    targets = table.target.map(classes.index).to_numpy(np.int64)
    bias = table.bias.map(lambda value: biases.index(value) if value else -1).to_numpy(np.int64)
    ends = np.cumsum([(table["split"] == split).sum() for split in SPLITS]).tolist()
    train, validation, test = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])

    def sizes(part: slice) -> np.ndarray:
        return group_sizes(targets[part], bias[part], len(classes), len(biases))

    for y in np.flatnonzero(np.bincount(targets[train], minlength=len(classes)) == 0):
        raise UserError(f"{path} has no training image of target '{classes[y]}': every target needs at least one.")
    for y, b in np.argwhere(sizes(test) == 0):
        raise UserError(
            f"{path} has no test image of target '{classes[y]}' and bias '{biases[b]}': every group needs at least one."
        )
    seen = next((each for each in map(sizes, (train, validation, test)) if tells_association(each)), None)
    return Listing(
        name=folder,
        root=root,
        files=table.file.tolist(),
        targets=targets,
        bias=bias,
        splits=(train, validation, test),
        class_names=tuple(classes),
        bias_names=tuple(biases),
        aligned_bias=associated_bias(sizes(test) if seen is None else seen),
        fit=stretch,
        notes=() if seen is not None else (UNTOLD,),
    )


def _sorted(values: set[str]) -> list[str]:
    """By number where all are whole numbers, else by name."""
    numbers = all(re.fullmatch(r"-?\d+", value) for value in values)
    return sorted(values, key=lambda value: (int(value) if numbers else 0, value))
