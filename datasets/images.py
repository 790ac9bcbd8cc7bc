"""Image sets on disk: what a set consists of, and its images decoded once into one memory-mapped array.

A dataset of image files is a function that reads its label files and returns a ``Listing``. What is common to all
of them stands here: finding the folder, checking counts against the published ones, and preparation. Prepared
arrays lie in ``$BENCHMARK_PREPARED`` (default ``data/prepared``), named by a fingerprint of their sources, so
that tasks of the same images share one and a changed source gets a new one.
"""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmark.errors import UserError
from datasets.base import BiasedDataset, Split, group_sizes, register
from datasets.download import Archive

SPLITS = ("train", "validation", "test")
# Images decoded, written and hashed together: a few megabytes, whatever the size of the set.
CHUNK = 64
# Below this many images, starting processes takes longer than decoding.
FEW = 512
DIGEST_BYTES = hashlib.sha256().digest_size
# Raised when decoding changes, so that arrays of older versions are not used.
VERSION = 1

Fit = Callable[[Image.Image, int], Image.Image]
"""Brings an RGB image of any size to [size, size]."""
Finish = Callable[[np.ndarray, int, str], np.ndarray]
"""Changes a fitted image, uint8 [H, W, 3], by its bias value and its file name. Its ``repr`` must tell what it does,
since that is part of an array's name."""


def stretch(image: Image.Image, size: int) -> Image.Image:
    """The whole image, whatever its aspect."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def centre_square(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))


def centre_of_stretched(image: Image.Image, size: int) -> Image.Image:
    """Stretched to 256/224 of the size, then the centre: the evaluation transform of GroupDRO's code."""
    large = round(size * 256 / 224)
    edge = (large - size) // 2
    return stretch(image, large).crop((edge, edge, edge + size, edge + size))


@dataclass(frozen=True)
class Listing:
    """What an image set consists of, before any image is read.

    ``files`` are relative to ``root``; every split is a slice of them. ``targets`` and ``bias``, int64 [n], are
    their labels, bias −1 where unknown. ``published`` holds, by split, the release's group sizes [C, B] or, where
    only that is known, its number of images.
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
    finish: Finish | None = None
    published: Mapping[str, Any] | None = None
    scored: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def group_sizes(self, split: slice) -> np.ndarray:
        """Images of each group of a split, int64 [C, B]; those of unknown bias are left out."""
        return group_sizes(self.targets[split], self.bias[split], len(self.class_names), len(self.bias_names))

    def missing(self) -> np.ndarray:
        """bool [n], true where there is no such file."""
        folders: dict[str, set[str]] = {}
        for folder in {os.path.dirname(file) for file in self.files}:
            try:
                folders[folder] = set(os.listdir(self.root / folder))
            except (FileNotFoundError, NotADirectoryError):
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
    remedy = "complete the files, or accept a part with --set data.subset=true (prepare: --allow-subset)"
    missing = listing.missing()
    notes = list(listing.notes)
    if missing.any():
        first = listing.root / listing.files[int(missing.argmax())]
        counts = f"{missing.sum():,} of {len(missing):,} listed images are missing"
        if not subset or missing.all():
            raise UserError(f"{listing.name}: {counts}, the first is {first}: {remedy}.")
        listing = listing.only(~missing)
        notes.append(f"Part of {listing.name}: {counts}.")
    if deviations := listing.deviations():
        if not subset:
            raise UserError(f"{listing.name} in {listing.root} is not the release ({'; '.join(deviations)}): {remedy}.")
        notes.append(f"Part of {listing.name} ({'; '.join(deviations)}).")
    return replace(listing, notes=tuple(notes))


def large_enough(listing: Listing, size: int, subset: bool) -> Listing:
    """The listing, unless its images would have to be enlarged more than twofold: thumbnails are not the release.

    Raises UserError then; with ``subset`` a note says so instead. A few images tell; what is no image is left to
    be named when it is decoded.
    """
    few = listing.files[:: max(1, len(listing.files) // 8)]
    sides = [side for file in few if (side := _shorter_side(listing.root / file))]
    if not sides or 2 * np.median(sides) >= size:
        return listing
    found = f"images of {np.median(sides):.0f} pixels in {listing.root} are enlarged to {size}"
    if not subset:
        raise UserError(
            f"{listing.name}: {found}: put the original ones there, choose a smaller --preset or data.size (prepare: "
            "--size), or accept these with --set data.subset=true (prepare: --allow-subset)."
        )
    return replace(listing, notes=(*listing.notes, f"Part of {listing.name}: {found}."))


def _shorter_side(path: Path) -> int | None:
    """In pixels; None for what is no image."""
    try:
        with Image.open(path) as image:
            return min(image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


class NotFound(UserError):
    """An image set is not under the data root; ``archive`` is what would help."""

    def __init__(self, message: str, archive: Archive | None) -> None:
        super().__init__(message)
        self.archive = archive


@dataclass(frozen=True)
class Source:
    """Where an image set lies and comes from.

    ``folders`` are its usual names under the data root, ``needs`` what must be inside; ``advice`` completes the
    sentence "… was not found: ".
    """

    name: str
    folders: tuple[str, ...]
    needs: tuple[str, ...]
    advice: str
    archive: Archive | None = None

    def find(self, data_root: Path, also: Sequence[str] = ()) -> Path:
        """The first of the folders that has all it ``needs`` and ``also``. Raises NotFound, saying what to do."""
        needs = (*self.needs, *also)
        candidates = [data_root / folder for folder in self.folders if (data_root / folder).is_dir()]
        lacking = {folder: [each for each in needs if not (folder / each).exists()] for folder in candidates}
        for folder, absent in lacking.items():
            if not absent:
                return folder
        why = "; ".join(f"{folder} lacks {', '.join(absent)}" for folder, absent in lacking.items())
        message = f"{self.name} was not found under {data_root}{f' ({why})' if why else ''}: {self.advice}"
        raise NotFound(message, self.archive)


Lister = Callable[..., Listing]
"""``list(data_root, **data)`` with the keys of the task's ``data`` table except ``size`` and ``subset``."""


@dataclass(frozen=True)
class ImageSet:
    lister: Lister

    def listing(self, data_root: Path, *, size: int, subset: bool = False, **data: Any) -> Listing:
        """The complete listing of a task's ``data`` settings. Raises UserError."""
        return large_enough(complete(self.lister(data_root, **data), subset), size, subset)


IMAGE_SETS: dict[str, ImageSet] = {}


def register_images(name: str) -> Callable[[Lister], Lister]:
    """Decorator that makes a dataset of image files known by its listing."""

    def add(lister: Lister) -> Lister:
        image_set = IMAGE_SETS[name] = ImageSet(lister)

        def build(data_root: Path, *, size: int, **data: Any) -> BiasedDataset:
            return dataset(image_set.listing(data_root, size=size, **data), size)

        register(name)(build)
        return lister

    return add


def dataset(listing: Listing, size: int) -> BiasedDataset:
    """The dataset of a listing, its images mapped from the prepared array, which is made where it lacks."""
    images, digest = prepare(listing, size)
    train, validation, test = (
        Split(images[part], listing.targets[part], listing.bias[part], listing.files[part]) for part in listing.splits
    )
    return BiasedDataset(
        name=listing.name,
        class_names=listing.class_names,
        bias_names=listing.bias_names,
        aligned_bias=listing.aligned_bias,
        train=train,
        validation=validation,
        test=test,
        scored=listing.scored,
        notes=listing.notes,
        pixels=digest,
    )


def prepared_path(listing: Listing, size: int) -> Path:
    """Where the prepared array of the listing's files lies, or will lie. Raises UserError for a size below 32."""
    if size < 32:
        raise UserError(f"data.size is {size}: images must be at least 32 pixels wide.")
    sources = hashlib.sha256(f"{VERSION} {size} {listing.fit.__name__} {listing.finish}\n".encode())
    for file, bias in zip(listing.files, listing.bias.tolist(), strict=True):
        status = os.stat(listing.root / file)
        sources.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0{bias if listing.finish else 0}\n".encode())
    slug = "".join(each if each.isalnum() else "_" for each in listing.name.lower())
    folder = Path(os.environ.get("BENCHMARK_PREPARED", "data/prepared"))
    return folder / f"{slug}-{size}-{sources.hexdigest()[:16]}.npy"


def prepare(listing: Listing, size: int) -> tuple[np.ndarray, str]:
    """The listing's images, uint8 [n, 3, size, size], read-only from the map, and a digest of their pixels.

    The array is a .npy file followed by the digest; a file of that name is whole, because it only gets the name
    once it is. Raises UserError for an image that cannot be read and for a disk that is full.
    """
    path = prepared_path(listing, size)
    if not path.exists():
        _make(path, listing, size)
    images = np.load(path, mmap_mode="r")
    if images.shape != (len(listing.files), 3, size, size) or _tail(images) != path.stat().st_size - DIGEST_BYTES:
        raise UserError(f"{path} is not what was prepared: delete it and run again.")
    with path.open("rb") as file:
        file.seek(-DIGEST_BYTES, os.SEEK_END)
        return images, file.read().hex()


def _tail(images: np.memmap) -> int:
    """Position in the file at which the array ends."""
    return images.offset + images.nbytes


@dataclass(frozen=True)
class _Job:
    """All that a decoding process has to know."""

    path: Path
    offset: int
    listing: Listing
    size: int

    def decode(self, chunk: range) -> bytes:
        """Decode a run of images and write them to their place; returns the digest of their pixels."""
        pixels = np.empty((len(chunk), 3, self.size, self.size), np.uint8)
        for place, number in zip(pixels, chunk, strict=True):
            place[:] = self._image(number)
        with self.path.open("r+b") as file:
            file.seek(self.offset + chunk.start * pixels[0].nbytes)
            file.write(pixels.data)
        return hashlib.sha256(pixels.data).digest()

    def _image(self, number: int) -> np.ndarray:
        """uint8 [3, size, size]. Raises UserError naming an image that cannot be read."""
        file = self.listing.files[number]
        try:
            with Image.open(self.listing.root / file) as image:
                if image.mode.startswith(("I", "F")):
                    raise UserError(
                        f"Image {self.listing.root / file} has more than 8 bits a channel, of which it is not said "
                        "what is black and what is white: convert it to 8 bits."
                    )
                rgb = image if image.mode == "RGB" else image.convert("RGB")
                pixels = np.asarray(self.listing.fit(rgb, self.size))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"Image {self.listing.root / file} cannot be read ({error}): restore it.") from error
        if self.listing.finish:
            pixels = self.listing.finish(pixels, int(self.listing.bias[number]), file)
        return pixels.transpose(2, 0, 1)


def _make(path: Path, listing: Listing, size: int) -> None:
    """Decode everything into ``path``, in as many processes as there are cores."""
    count = len(listing.files)
    needed = count * 3 * size * size
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    full = f"it needs {needed / 1e9:.2f} GB: free some, or name another folder with BENCHMARK_PREPARED"
    print(f"Preparing {listing.name}: {count:,} images of {size} px into {path.parent} …", flush=True)
    started = time.perf_counter()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, 3, size, size))
        job = _Job(partial, array.offset, listing, size)
        del array
        digest = hashlib.sha256()
        with tqdm(total=count, unit="image", disable=not sys.stderr.isatty()) as bar:
            for chunk, part in _run(job, count):
                digest.update(part)
                bar.update(len(chunk))
        with partial.open("ab") as file:
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"The disk of {path.parent} has no room for {listing.name}: {full}.") from error
        raise UserError(
            f"The folder {path.parent} cannot be written ({error}): name another with BENCHMARK_PREPARED."
        ) from error
    except BrokenProcessPool as error:
        raise UserError("A decoding process was killed, probably for want of memory: free some and repeat.") from error
    finally:
        partial.unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    print(f"Prepared {count:,} images in {seconds:.1f} s ({count / seconds:,.0f} images/s).", flush=True)


def _run(job: _Job, count: int) -> Iterator[tuple[range, bytes]]:
    """The chunks in order, each with its digest."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    processes = min(cores(), len(chunks))
    if count < FEW or processes == 1:
        yield from zip(chunks, map(job.decode, chunks), strict=True)
        return
    # Spawned, not forked: the parent may hold threads and a GPU.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start_process, (job,)) as pool:
        try:
            yield from zip(chunks, pool.map(_decode, chunks), strict=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_job: _Job
"""The job of this decoding process; set once, so that it is not sent along with every chunk."""


def _start_process(job: _Job) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _decode(chunk: range) -> bytes:
    return _job.decode(chunk)


def cores() -> int:
    """The number of cores this process may use, which on a cluster is not that of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _remove_leftovers(path: Path) -> None:
    """Delete what killed preparations left of this array; one that was touched within the hour may be running."""
    for leftover in path.parent.glob(f"{path.name}.*.partial"):
        if time.time() - leftover.stat().st_mtime > 3600:
            leftover.unlink(missing_ok=True)
