"""Fetching archives: mirrors, checksums, interrupted downloads that go on, and unpacking that stays in its folder."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shutil
import stat
import struct
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from benchmark.errors import UserError

BLOCK = 1 << 20
GB = 1 << 30
TIMEOUT = 30  # seconds without any answer


# What the readers of archives raise for one that is damaged, or is written in a way that they do not know.
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError,
    ValueError, OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """A file to unpack: its place under the data root, its mirrors in the order they are tried, and its checksum
    "md5:…" or "sha256:…".

    ``urls`` is empty where the owner asks for a login or an agreement; a person then puts the file in place.
    ``unpacks_to`` is what it holds, and what appears beside it; it holds no more than ``at_most`` bytes.
    """

    file: str
    urls: tuple[str, ...]
    checksum: str | None
    unpacks_to: str
    at_most: int = 10 * GB


def obtain(archive: Archive, data_root: Path) -> bool:
    """Find or download the archive and unpack it beside itself; False where that is done or cannot be done.

    Raises UserError for a wrong checksum, a member outside the folder, and where no mirror answers.
    """
    path = data_root / archive.file
    if (path.parent / archive.unpacks_to).exists():
        return False  # what is missing is something else
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file: put the archive itself there.")
    if not path.exists():
        if not archive.urls:
            return False
        download(archive.urls, path)
    if archive.checksum:
        verify(path, archive.checksum)
    unpack(path, archive.unpacks_to, archive.at_most)
    return True


def download(urls: tuple[str, ...], path: Path) -> None:
    """Download ``path`` from the first mirror that answers, going on with what an earlier attempt has left."""
    partial = path.with_name(f"{path.name}.partial")
    reasons = []
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(url, partial)
        except (OSError, ValueError) as error:  # URLError and timeouts are OSErrors
            reasons.append(f"{url}: {error}")
        else:
            os.replace(partial, path)
            return
    raise UserError(f"{path.name} could not be downloaded ({'; '.join(reasons)}): put it into {path.parent} yourself.")


def _download(url: str, partial: Path) -> None:
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to send: the earlier attempt had it all
            raise
        return
    with answer:
        resumed = answer.status == 206
        rest = answer.headers.get("Content-Length")
        expected = (done if resumed else 0) + int(rest) if rest else None
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(
                total=expected,
                initial=file.tell(),
                unit="B",
                unit_scale=True,
                desc=partial.stem,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if expected is not None and partial.stat().st_size != expected:
        raise OSError(f"the connection ended after {partial.stat().st_size:,} of {expected:,} bytes")


def verify(path: Path, checksum: str) -> None:
    """Raises UserError unless the file has the checksum "md5:…" or "sha256:…"."""
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise UserError(
            f"{path} has {kind} {digest.hexdigest()}, but {expected} was expected: delete it and fetch it again."
        )


def unpack(path: Path, unpacks_to: str, at_most: int = 10 * GB) -> None:
    """Unpack a .zip or .tar archive beside itself, where ``unpacks_to`` appears whole or not at all.

    Raises UserError, before anything is written, where a member is no plain file or would land outside, where all
    together would take more than ``at_most`` bytes or than the disk has, and for a damaged or encrypted archive.
    """
    folder = path.parent
    staging = folder / f".{path.name}.{os.getpid()}.partial"
    damaged = f"{path} cannot be unpacked ({{}}): delete it and fetch it again."
    try:
        _unpack(path, staging, at_most)
        if not (staging / unpacks_to).exists():
            raise UserError(f"{path} does not hold {unpacks_to}: fetch the right archive.")
        os.replace(staging / unpacks_to, folder / unpacks_to)
    except DAMAGED as error:
        raise UserError(damaged.format(error)) from error
    except OSError as error:
        if error.errno is None:  # what bz2 and gzip say of a stream that is not theirs
            raise UserError(damaged.format(error)) from error
        raise UserError(f"{path} cannot be unpacked into {folder} ({error}): make room or choose another.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack(path: Path, staging: Path, at_most: int) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive's maker does not say
                _require_plain(entry.filename, path, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                if entry.flag_bits & 1:
                    raise UserError(f"{path} is encrypted: unpack it yourself, beside it.")
            _require_room(path, sum(entry.file_size for entry in zipped.infolist()), at_most)
            zipped.extractall(staging)
        return
    with tarfile.open(path) as tarred:
        total = 0
        for member in tarred:  # one by one: what comes next is only found by reading all of what is refused
            _require_plain(member.name, path, member.isfile() or member.isdir())
            total += member.size + tarfile.BLOCKSIZE  # empty files fill a disk, too
            _require_room(path, total, at_most)
        tarred.extraction_filter = getattr(tarfile, "data_filter", None)
        tarred.extractall(staging)
        _read_to_the_end(tarred, path, at_most)


def _require_plain(name: str, path: Path, is_plain: bool) -> None:
    """Raises UserError for a member that would be written outside of the folder, or is no file and no folder."""
    parts = PureWindowsPath(name)  # which knows both kinds of slashes, and drives
    if parts.drive or parts.root or ".." in parts.parts:
        raise UserError(f"{path} holds '{name}', which would be written outside its folder: do not use this archive.")
    if not is_plain:
        raise UserError(f"{path} holds '{name}', which is no plain file: do not use this archive.")


def _require_room(path: Path, total: int, at_most: int) -> None:
    """Raises UserError where files of so many bytes are more than were expected, or than there is room for."""
    if total > at_most:
        raise UserError(
            f"{path} would unpack to {total / GB:,.1f} GB or more, where at most {at_most / GB:,.1f} are expected: "
            "do not use this archive."
        )
    if total > (free := shutil.disk_usage(path.parent).free):
        raise UserError(
            f"{path} would unpack to {total / GB:,.1f} GB, of which {path.parent} has {free / GB:,.1f}: make room."
        )


def _read_to_the_end(tarred: tarfile.TarFile, path: Path, at_most: int) -> None:
    """Read what comes after the last member, too, where a compressed stream has the checksum of the whole."""
    left = at_most
    while tarred.fileobj and (block := tarred.fileobj.read(BLOCK)):
        left -= len(block)
        if left < 0:
            raise UserError(f"{path} goes on without end behind its last file: do not use this archive.")
