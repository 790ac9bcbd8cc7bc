"""Prepared arrays: all images of a set decoded once into one memory-mapped file.

They lie in ``$BENCHMARK_PREPARED`` (default ``data/prepared``), named by a fingerprint of their sources (place, names,
sizes and times of the files), so that tasks of the same images share one and a changed source gets a new one.
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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from benchmark.cores import cores
from benchmark.errors import UserError
from datasets.listing import SMALLEST, UNREADABLE, Fit, Listing

# Images decoded, written and hashed together: a few megabytes, whatever the size of the set.
CHUNK = 64
# Below this many images, starting processes takes longer than decoding.
FEW = 512
DIGEST_BYTES = hashlib.sha256().digest_size
IMAGE_DIGEST_BYTES = 8  # enough to tell a million images apart
# Raised when decoding changes, so that arrays of older versions are not used.
VERSION = 3
ORIENTATION = 0x0112  # of Exif: how a camera was held; 1 is upright


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


FITS: dict[str, Fit] = {fit.__name__: fit for fit in (stretch, centre_square, centre_of_stretched)}
"""The ways to bring an image to its size, by their names."""


def read(path: Path, fit: Fit, size: int) -> np.ndarray:
    """``fitted`` of an image file. Raises UserError naming one that cannot be read."""
    try:
        with Image.open(path) as image:
            return fitted(image, fit, size)
    except UNREADABLE as error:
        raise UserError(f"Image {path} cannot be read ({error}): restore it.") from error


def fitted(image: Image.Image, fit: Fit, size: int) -> np.ndarray:
    """An image as a data set has it: uint8 [size, size, 3]. Raises UserError for one of more than 8 bits a channel."""
    if image.mode.startswith(("I", "F")) or _more_than_8_bits(image):
        raise UserError(
            f"Image {getattr(image, 'filename', '')} has more than 8 bits a channel, of which it is not said what is "
            "black and what is white: convert it to 8 bits."
        )
    image = _upright(image)
    return np.asarray(fit(image if image.mode == "RGB" else image.convert("RGB"), size))


def _upright(image: Image.Image) -> Image.Image:
    """As it is meant to be seen: a phone stores what it took sideways with a note that says so."""
    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
    except Exception:  # what a damaged note makes Pillow raise is not to be foreseen, and the pixels are there
        return image
    return ImageOps.exif_transpose(image) if turned else image


def prepared_path(listing: Listing, size: int) -> Path:
    """Where the prepared array of the listing's files lies, or will lie. Raises UserError for a size below 32."""
    if size < SMALLEST:
        raise UserError(f"data.size is {size}: images must be at least {SMALLEST} pixels wide.")
    sources = hashlib.sha256(f"{VERSION} {size} {listing.fit.__name__} {listing.finish}\n".encode())
    # Folders of one name in two places may have files of the same sizes, and of times that are not told apart finely.
    sources.update(os.fsencode(listing.root.resolve()) + b"\n")
    for file, bias in zip(listing.files, listing.bias.tolist(), strict=True):
        status = os.stat(listing.root / file)
        # What unpacks or copies images may restore when they were modified, but not the change time of the file system.
        # A move or a chmod costs a needless decoding, which gives the same pixels, hence the same fingerprint.
        times = f"{status.st_mtime_ns}\0{status.st_ctime_ns}"
        sources.update(f"{file}\0{status.st_size}\0{times}\0{bias if listing.finish else 0}\n".encode())
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
    damaged = UserError(f"{path} is not what was prepared: delete it and run again.")
    try:
        images = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise damaged from error
    if images.shape != (len(listing.files), 3, size, size) or _tail(images) != path.stat().st_size - DIGEST_BYTES:
        raise damaged
    with path.open("rb") as file:
        file.seek(-DIGEST_BYTES, os.SEEK_END)
        digest = file.read()
    if not _is_as_noted(path):
        print(f"Checking {path}, which was touched since it was prepared.", flush=True)
        found = hashlib.sha256()
        for chunk in _chunks(len(images)):
            found.update(hashlib.sha256(images[chunk.start : chunk.stop].data).digest())
        if found.digest() != digest:
            raise damaged
        _note(path)
    return images, digest.hex()


def _note(path: Path) -> None:
    """Note beside a prepared array that it is whole, with what changes where anything is written to it."""
    try:
        _note_path(path).write_text(_times(path))
    except OSError:  # somebody else's folder: it is looked at again
        pass


def _is_as_noted(path: Path) -> bool:
    try:
        return _note_path(path).read_text(errors="replace") == _times(path)
    except OSError:
        return False


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.whole")


def _times(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _chunks(count: int) -> list[range]:
    """The images that are decoded together, and whose pixels have one digest."""
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


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

    def decode(self, chunk: range) -> tuple[bytes, bytes]:
        """Decode a run of images and write them to their place; returns digests of all their pixels, and of each's."""
        pixels = np.empty((len(chunk), 3, self.size, self.size), np.uint8)
        for place, number in zip(pixels, chunk, strict=True):
            place[:] = self._image(number)
        with self.path.open("r+b") as file:
            file.seek(self.offset + chunk.start * pixels[0].nbytes)
            file.write(pixels.data)
        each = b"".join(hashlib.blake2b(image.data, digest_size=IMAGE_DIGEST_BYTES).digest() for image in pixels)
        return hashlib.sha256(pixels.data).digest(), each

    def _image(self, number: int) -> np.ndarray:
        """uint8 [3, size, size]. Raises UserError naming an image that cannot be read."""
        file = self.listing.files[number]
        pixels = read(self.listing.root / file, self.listing.fit, self.size)
        if self.listing.finish:
            pixels = self.listing.finish(pixels, int(self.listing.bias[number]), file)
        return pixels.transpose(2, 0, 1)


def _more_than_8_bits(image: Image.Image) -> bool:
    """Whether Pillow would drop bits of an image in colour, whose mode does not tell: by what it is read as.

    Of a PNG or TIFF that is a name such as "RGB;16B", of a PPM its largest value.
    """
    tiles = getattr(image, "tile", None)
    read_as = tiles[0][3] if tiles else ""
    parts = read_as if isinstance(read_as, tuple) else (read_as,)
    return any(isinstance(each, str) and ";16" in each for each in parts) or (
        image.format == "PPM" and any(isinstance(each, int) and each > 255 for each in parts)
    )


def repeated(listing: Listing, path: Path) -> Iterator[str]:
    """A sentence for each two splits that share images, as prepared at ``path``; none if that is not known.

    Arrays that earlier versions prepared are without digests of their images.
    """
    try:
        digests = np.fromfile(_digests_path(path), f"V{IMAGE_DIGEST_BYTES}").view(np.uint64)
    except OSError:
        return
    if len(digests) != len(listing.files):
        return
    train, validation, test = listing.splits
    pairs = (
        (test, "test", train, "training"),
        (test, "test", validation, "validation"),
        (validation, "validation", train, "training"),
    )
    for part, kind, others, other_kind in pairs:
        same = np.flatnonzero(np.isin(digests[part], digests[others])) + part.start
        if len(same):
            other = others.start + int(np.flatnonzero(digests[others] == digests[same[0]])[0])
            yield (
                f"{len(same):,} of {part.stop - part.start:,} {kind} images of {listing.name} are {other_kind} images, "
                f"too: {listing.files[same[0]]} is {listing.files[other]}, for one."
            )


def _digests_path(path: Path) -> Path:
    """Where the digest of each image of a prepared array lies."""
    return path.with_name(f"{path.name}.digests")


def _make(path: Path, listing: Listing, size: int) -> None:
    """Decode everything into ``path``, in as many processes as there are cores."""
    count = len(listing.files)
    needed = count * 3 * size * size
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")  # nobody else's, on whatever machine
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
        digest, of_images = hashlib.sha256(), bytearray()
        with tqdm(total=count, unit="image", disable=not sys.stderr.isatty()) as bar:
            for chunk, (part, each) in _run(job, count):
                digest.update(part)
                of_images += each
                bar.update(len(chunk))
        with partial.open("ab") as file:
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        digests = _digests_path(partial)
        digests.write_bytes(of_images)
        os.replace(digests, _digests_path(path))
        os.replace(partial, path)
        _note(path)
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
        _digests_path(partial).unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    print(f"Prepared {count:,} images in {seconds:.1f} s ({count / seconds:,.0f} images/s).", flush=True)


def _run(job: _Job, count: int) -> Iterator[tuple[range, tuple[bytes, bytes]]]:
    """The chunks in order, each with its digests."""
    chunks = _chunks(count)
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


def _decode(chunk: range) -> tuple[bytes, bytes]:
    return _job.decode(chunk)


def _remove_leftovers(path: Path) -> None:
    """Delete what killed preparations left of this array; one that was touched within the hour may be running."""
    for leftover in path.parent.glob(f"{path.name}.*.partial"):
        if time.time() - leftover.stat().st_mtime > 3600:
            leftover.unlink(missing_ok=True)
