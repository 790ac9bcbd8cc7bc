"""A folder of one's own: images and a labels.csv with the columns file, target, bias and split."""

from __future__ import annotations

import csv
import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import UserError, unknown
from datasets.base import ToldBy, associated_bias, group_sizes, is_evident, tells_association
from datasets.images import register_images
from datasets.labels import read_table, require_columns, require_file, require_unique, require_values
from datasets.listing import SPLITS, Listing, typical_side
from datasets.prepared import stretch

if TYPE_CHECKING:
    import pandas as pd

LABELS = "labels.csv"
COLUMNS = ("file", "target", "split")
BIAS = "bias"  # the column that is the bias where no other is chosen
UNTOLD = (
    "Which bias goes with which target cannot be told from the labels, so that what is said of aligned and conflicting "
    "images means nothing: fill in the bias of some training or validation images of each target."
)
TOLD_BY = (
    "Which bias goes with which target is told by the labels of the {} images, since those of the training images do "
    "not say it of every target."
)

SEVERAL = (
    "Of several attributes the one combination that most goes with a target counts as aligned, and all others as "
    "conflicting, also those of which a part goes with it."
)
UNTESTED = (
    "There is no test image of {} of its {} groups: average, worst group and bias are those of the others. No bias is "
    "given where a target has fewer than two, or its aligned group is not tested."
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


def bias_of(path: Path, bias: Sequence[str] = (BIAS,)) -> tuple[np.ndarray, np.ndarray]:
    """The bias of the folder's training and of its validation images, int64 [n], −1 where it is unknown.

    Raises UserError where its labels.csv is wrong.
    """
    path = path.resolve()
    found = folder(path.parent, folder=path.name, labels=labels_digest(path), bias=bias)
    train, validation, _ = found.splits
    return found.bias[train], found.bias[validation]


@register_images("folder")
def folder(data_root: Path, *, folder: str, labels: str, bias: Sequence[str] = (BIAS,)) -> Listing:
    """The images that ``data_root/folder/labels.csv`` lists.

    ``target`` and the columns that are the ``bias`` hold any names; classes and bias values are those that occur,
    sorted (numbers as numbers). Of several columns, each combination that occurs is a bias value. ``split`` is train,
    validation (or val) or test. A bias may be empty, except for test images. Every target needs a training and a test
    image; a (target, bias) group without test images is noted. Aligned pairs are those that occur together above chance
    in training or, where its labels do not tell that of every class, evidently so in validation or testing.
    ``labels`` is the file's digest, which makes runs on changed labels different runs.
    """
    root = data_root / folder
    path = root / LABELS
    if labels_digest(root) != labels:
        raise UserError(f"{path} has changed since this run was planned: start the command again.")
    table = _read(path)
    _require_bias(table, path, bias)
    table["file"] = [_relative(file, path) for file in table.file]
    require_unique(table.file, path)
    table["split"] = table["split"].replace("val", "validation")
    require_values(table["split"], table.file, path, SPLITS)
    if (table.target == "").any():
        raise UserError(f"{path}: '{table.file[table.target == ''].iloc[0]}' has no target: add it.")
    values = _bias_values(table, bias)
    unlabelled = (values == "") & (table["split"] == "test")
    if unlabelled.any():
        raise UserError(
            f"{path}: test image '{table.file[unlabelled].iloc[0]}' has no bias, which testing needs: add it."
        )

    table = table.assign(values=values).sort_values("split", key=lambda each: each.map(SPLITS.index), kind="stable")
    classes, biases = _sorted(set(table.target)), _sorted(set(values) - {""})
    for kind, found in (("target", classes), ("bias", biases)):
        if len(found) < 2:
            raise UserError(f"{path} has {len(found)} kinds of {kind} ({', '.join(found)}): it needs at least two.")
    targets = table.target.map(classes.index).to_numpy(np.int64)
    numbers = table["values"].map(lambda value: biases.index(value) if value else -1).to_numpy(np.int64)
    ends = np.cumsum([(table["split"] == split).sum() for split in SPLITS]).tolist()
    train, validation, test = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])

    def sizes(part: slice) -> np.ndarray:
        return group_sizes(targets[part], numbers[part], len(classes), len(biases))

    for y in np.flatnonzero(np.bincount(targets[train], minlength=len(classes)) == 0):
        raise UserError(f"{path} has no training image of target '{classes[y]}': every target needs at least one.")
    alike = tuple(_alike(table, path, ("target", *bias)))
    for y in np.flatnonzero(sizes(test).sum(1) == 0):
        hint = "".join(f" ({note[0].lower()}{note[1:]})" for note in alike)
        raise UserError(f"{path} has no test image of target '{classes[y]}': every target needs at least one.{hint}")
    told_by = _told_by(*map(sizes, (train, validation, test)))
    notes = {"": [UNTOLD], "train": []}.get(told_by, [TOLD_BY.format(told_by)])
    if len(bias) > 1:
        notes.append(SEVERAL)
    if len(empty := np.argwhere(sizes(test) == 0)):
        y, b = empty[0]
        others = f", nor of {len(empty) - 1} more" if len(empty) > 1 else ""
        notes.append(UNTESTED.format(f"'{classes[y]}' with '{biases[b]}'{others}", sizes(test).size))
    if lacking := int((numbers[train] < 0).sum()):
        notes.append(
            f"{lacking:,} of {ends[0]:,} training images lack their bias, and are left out of the numbers of training "
            "images by group."
        )
    return Listing(
        name=folder,
        root=root,
        files=table.file.tolist(),
        targets=targets,
        bias=numbers,
        splits=(train, validation, test),
        class_names=tuple(classes),
        bias_names=tuple(biases),
        aligned_bias=associated_bias(sizes({"train": train, "validation": validation}.get(told_by, test))),
        fit=stretch,
        told_by=told_by,
        released=False,
        notes=(*notes, *alike),
    )


def _told_by(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> ToldBy:
    """The split whose group sizes [C, B] say which bias goes with each class, "" for none.

    Training images say what goes with what in training. Others are a sample, which may say so by chance.
    """
    if tells_association(train):
        return "train"
    if is_evident(validation):
        return "validation"
    return "test" if is_evident(test) else ""


def describe(listing: Listing, size: int) -> str:
    """One line on how much there is: images, groups, pixels on disk and as trained with, and what these take."""
    train, validation, test = (f"{part.stop - part.start:,}" for part in listing.splits)
    parts = [
        f"{listing.name}: {train} training, {validation} validation and {test} test images of "
        f"{len(listing.class_names)} classes × {len(listing.bias_names)} bias values"
    ]
    groups, unlabelled = listing.group_sizes(listing.splits[0]), listing.bias[listing.splits[0]] < 0
    if groups.any():
        y, b = np.unravel_index(groups.argmin(), groups.shape)
        group = f"{listing.class_names[y]} with {listing.bias_names[b]}"
        parts.append(f"the smallest training group, {group}, has {groups.min():,}")
    if unlabelled.any():
        lack = "image lacks its" if unlabelled.sum() == 1 else "images lack their"
        parts.append(f"{unlabelled.sum():,} training {lack} bias")
    side = typical_side(listing)
    on_disk = f"about {side:.0f} px on disk, " if side else ""
    enlarged = " (enlarged)" if side and side < size else ""
    total = len(listing.files) * 3 * size**2
    parts.append(f"{on_disk}{size} px in training{enlarged}, for which all take {total / 1e6:,.1f} MB")
    return "; ".join(parts)


def _read(path: Path) -> pd.DataFrame:
    """The rows of a labels.csv that are not empty, without blanks around values.

    Between values stand commas or, as some Excel writes them, semicolons. Raises UserError for what is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = next((line for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError):  # which reading it as a table says better
        head = ""
    separator = ";" if head.count(";") > head.count(",") else ","
    try:
        names = [each.strip() for each in next(csv.reader([head], delimiter=separator, skipinitialspace=True), [])]
    except csv.Error as error:
        raise UserError(f"{path} has a first line that names no columns ({error}): write their names there.") from error
    if repeated := [each for each in dict.fromkeys(names) if names.count(each) > 1]:
        raise UserError(f"{path} has {names.count(repeated[0])} columns '{repeated[0]}': keep one.")
    table = read_table(path, sep=separator).rename(columns=str.strip)
    require_columns(table, path, COLUMNS)
    table = table.apply(lambda column: column.str.strip())
    return table[(table != "").any(axis=1)].reset_index(drop=True)


def _require_bias(table: pd.DataFrame, path: Path, bias: Sequence[str]) -> None:
    """Raises UserError, listing what may be chosen, for a bias that is no column."""
    others = [each for each in table.columns if each not in COLUMNS]
    for column in bias:
        if column in others:
            continue
        if set(column.split(",")) <= {*others}:
            raise UserError(f"--bias takes columns with spaces between them: --bias {column.replace(',', ' ')}.")
        if not others:
            raise UserError(f"{path} has no column '{column}', which testing needs: add it.")
        if tuple(bias) == (BIAS,):
            raise UserError(f"{path} has no column '{BIAS}': choose with --bias among {', '.join(others)}.")
        raise unknown(f"column of {path}, named with --bias,", column, others)


def _relative(file: str, path: Path) -> str:
    """The file as seen from the folder, with / between folders, as a table made on Windows may not have it."""
    if not file:
        raise UserError(f"{path} has a row without a file: name its image, or remove it.")
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", file):
        raise UserError(f"{path} names '{file}', an absolute path: write paths as seen from {path.parent}.")
    return posixpath.normpath(file.replace("\\", "/"))


def _bias_values(table: pd.DataFrame, bias: Sequence[str]) -> pd.Series:
    """The bias of each row: its value, or those of several columns with their names; "" where one is unknown."""
    if len(bias) == 1:
        return table[bias[0]]
    known = (table[list(bias)] != "").all(axis=1)
    named = (f"{column}=" + table[column] for column in bias)
    return reduce(lambda left, right: left + " × " + right, named).where(known, "")


def _alike(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> Iterator[str]:
    """A sentence for each column of which values may be one that was written in two ways."""
    for column in columns:
        first: dict[str, str] = {}
        pairs = [(first.setdefault(_folded(value), value), value) for value in _sorted({*table[column]})]
        if pairs := [(one, other) for one, other in pairs if one != other]:
            one, other = pairs[0]
            # What Unicode can write in two ways looks the same, but for the numbers of its characters.
            shown = ascii if _composed(one) == _composed(other) else repr
            several = f" ({len(pairs)} pairs in all)" if len(pairs) > 1 else ""
            yield (
                f"{shown(one)} and {shown(other)} are two values of {column}, but differ only in capitals, leading "
                f"zeros or how Unicode writes them{several}: give them one spelling in {path.name} if they are one."
            )


def _folded(value: str) -> str:
    """The value without capitals, leading zeros of a whole number, and forms of Unicode that look alike."""
    return re.sub(r"^(-?)0+(?=\d+$)", r"\1", _composed(value.casefold()))


def _composed(value: str) -> str:
    return unicodedata.normalize("NFKC", value)


def _sorted(values: set[str]) -> list[str]:
    """By number where all are whole numbers, of however many digits, else by name."""
    numbers = all(re.fullmatch(r"-?\d+", value) for value in values)
    return sorted(values, key=lambda value: (Decimal(value if numbers else 0), value))
