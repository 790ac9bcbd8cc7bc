"""What an image set consists of, and the checks it must pass before any image is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.errors import UserError
from datasets.base import ToldBy, group_sizes

SPLITS = ("train", "validation", "test")
SMALLEST = 32  # pixels that images may be trained with
HELD_OUT = 5  # of a part of a release without validation images, every so many-th training image is one

UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)
"""What Pillow's readers raise for files that they cannot read."""

Fit = Callable[[Image.Image, int], Image.Image]
"""Brings an RGB image of any size to [size, size]."""
Finish = Callable[[np.ndarray, int, str], np.ndarray]
"""Changes a fitted image, uint8 [H, W, 3], by its bias value and its file name. Its ``repr`` must tell what it does,
since that is part of an array's name."""


@dataclass(frozen=True)
class Listing:
    """What an image set consists of, before any image is read.

    ``files`` are relative to ``root``; every split is a slice of them. ``targets`` and ``bias``, int64 [n], are
    their labels, bias −1 where unknown. ``published`` holds, by split, the release's group sizes [C, B] or, where
    only that is known, its number of images. ``released`` is false for a folder of one's own.
    """

    name: str
    root: Path
    files: Sequence[str]
    targets: np.ndarray
    bias: np.ndarray
    splits: tuple[slice, slice, slice]
    class_names: tuple[str, ...]
    bias_names: tuple[str, ...]
    aligned_bias: np.ndarray
    fit: Fit
    told_by: ToldBy = "train"
    finish: Finish | None = None
    published: Mapping[str, Any] | None = None
    released: bool = True
    scored: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def group_sizes(self, split: slice) -> np.ndarray:
        """Images of each group of a split, int64 [C, B]; those of unknown bias are left out."""
        return group_sizes(self.targets[split], self.bias[split], len(self.class_names), len(self.bias_names))

    def missing(self) -> np.ndarray:
        """bool [n], true where there is no such file; a folder or a pipe of that name is none."""
        folders: dict[str, set[str]] = {}
        for folder in {os.path.dirname(file) for file in self.files}:
            try:
                with os.scandir(self.root / folder) as entries:
                    folders[folder] = {entry.name for entry in entries if entry.is_file()}
            except (FileNotFoundError, NotADirectoryError, ValueError):  # no name of a folder has a NUL
                folders[folder] = set()
        present = (os.path.basename(file) in folders[os.path.dirname(file)] for file in self.files)
        return ~np.fromiter(present, bool, len(self.files))

    def only(self, kept: np.ndarray) -> Listing:
        """The listing of the files that ``kept``, bool [n], marks."""
        before = np.concatenate(([0], np.cumsum(kept)))
        train, validation, test = (slice(int(before[part.start]), int(before[part.stop])) for part in self.splits)
        files = [file for file, keep in zip(self.files, kept, strict=True) if keep]
        return replace(
            self, files=files, targets=self.targets[kept], bias=self.bias[kept], splits=(train, validation, test)
        )

    def holding_out(self) -> Listing:
        """The listing with every ``HELD_OUT``-th training image as a validation image, in place of what there is."""
        train, _, test = (np.arange(part.start, part.stop) for part in self.splits)
        held = np.arange(len(train)) % HELD_OUT == HELD_OUT - 1
        order = np.concatenate((train[~held], train[held], test))
        ends = np.cumsum([(~held).sum(), held.sum(), len(test)]).tolist()
        return replace(
            self,
            files=[self.files[row] for row in order],
            targets=self.targets[order],
            bias=self.bias[order],
            splits=(slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])),
        )

    def deviations(self) -> list[str]:
        """Where the counts differ from the published ones, one phrase for each split."""
        found = []
        for split, part in zip(SPLITS, self.splits, strict=True):
            if not self.published:
                continue
            expected, sizes = np.asarray(self.published[split]), self.group_sizes(part)
            if part.stop - part.start != expected.sum():
                found.append(f"{split}: {expected.sum():,} images expected, {part.stop - part.start:,} found")
            elif expected.ndim:
                found += [
                    f"{split}, {self.class_names[y]} with {self.bias_names[b]}: {expected[y, b]:,} images expected, "
                    f"{sizes[y, b]:,} found"
                    for y, b in np.argwhere(sizes != expected)
                ]
        return found


def complete(listing: Listing, subset: bool) -> Listing:
    """The listing as it may be used: checked against files and published counts.

    Raises UserError where images are missing or counts differ; with ``subset`` the part that is there is taken,
    and a note says so.
    """
    for file in listing.files:
        if file.startswith("/") or ".." in file.split("/"):
            raise UserError(
                f"{listing.name}: its labels name '{file}', which lies outside of {listing.root}: correct it."
            )
    remedy = "complete the files, or accept a part with --set data.subset=true (prepare: --allow-subset)"
    missing = listing.missing()
    notes = list(listing.notes)
    if missing.any():
        first = listing.root / listing.files[int(missing.argmax())]
        counts = f"{missing.sum():,} of {len(missing):,} listed images are missing"
        if not subset or missing.all():
            why = " (which is no file)" if first.exists() else _alike(first)
            raise UserError(f"{listing.name}: {counts}, the first is {first}{why}: {remedy}.")
        listing = listing.only(~missing)
        notes.append(f"Part of {listing.name}: {counts}.")
    if deviations := listing.deviations():
        if not subset:
            raise UserError(f"{listing.name} in {listing.root} is not the release ({'; '.join(deviations)}): {remedy}.")
        notes.append(f"Part of {listing.name} ({'; '.join(deviations)}).")
        if _lacks_validation(listing):
            listing = listing.holding_out()
            notes.append(
                f"None of the {listing.name} validation images is there: every {HELD_OUT}th training image is held out "
                "in their place."
            )
    return replace(listing, notes=tuple(notes))


def _lacks_validation(listing: Listing) -> bool:
    """Whether the release has validation images and this part of it none."""
    published = (listing.published or {}).get("validation", 0)
    return bool(np.sum(published)) and listing.splits[1].start == listing.splits[1].stop


def _alike(path: Path) -> str:
    """What lies there under a name that differs in capitals or suffix only, or nothing."""
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return ""
    return next((f" (there is {name})" for name in names if Path(name).stem.lower() == path.stem.lower()), "")


def large_enough(listing: Listing, size: int, subset: bool) -> Listing:
    """The listing, unless its images would have to be enlarged more than twofold: thumbnails are not the release.

    Raises UserError then; with ``subset`` a note says so instead.
    """
    side = typical_side(listing)
    if side is None or 2 * side >= size:
        return listing
    if listing.released:
        found = f"images of {side:.0f} pixels in {listing.root} are enlarged to {size}"
        remedy = "put the original ones there, choose a smaller --preset or data.size (prepare: --size)"
        note = f"Part of {listing.name}: {found}."
    else:
        found = f"images of {side:.0f} pixels would be enlarged to {size}"
        fitting = max(SMALLEST, int(side))
        remedy = f"train them as they are with --set data.size={fitting} (prepare: --size {fitting})"
        note = f"The images of {listing.name}, of {side:.0f} pixels, are enlarged to {size}."
    if not subset:
        raise UserError(
            f"{listing.name}: {found}: {remedy}, or accept these with --set data.subset=true (prepare: --allow-subset)."
        )
    return replace(listing, notes=(*listing.notes, note))


def typical_side(listing: Listing) -> float | None:
    """The median of the shorter sides of a few images, in pixels; None where none is one.

    What is no image is left to be named when it is decoded.
    """
    few = listing.files[:: max(1, len(listing.files) // 8)]
    sides = [side for file in few if (side := shorter_side(listing.root / file))]
    return float(np.median(sides)) if sides else None


def shorter_side(path: Path) -> int | None:
    """In pixels; None for what is no image."""
    try:
        with Image.open(path) as image:
            return min(image.size)
    except UNREADABLE:
        return None
