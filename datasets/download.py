"""Fetching archives: mirrors, checksums, interrupted downloads that go on, and unpacking that stays in its folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from benchmark.errors import UserError

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without any answer


@dataclass(frozen=True)
class Archive:
    """A file to unpack: its place under the data root, its mirrors in the order they are tried, and its checksum
    "md5:…" or "sha256:…".

    ``urls`` is empty where the owner asks for a login or an agreement; a person then puts the file in place.
    ``unpacks_to`` is what it holds, and what appears beside it.
    """

    file: str
    urls: tuple[str, ...]
    checksum: str | None
    unpacks_to: str


def obtain(archive: Archive, data_root: Path) -> bool:
    """Find or download the archive and unpack it beside itself; False where that is done or cannot be done.

    Raises UserError for a wrong checksum, a member outside the folder, and where no mirror answers.
    """
    path = data_root / archive.file
    if (path.parent / archive.unpacks_to).exists():
        return False  # what is missing is something else
    if not path.exists():
        if not archive.urls:
            return False
        download(archive.urls, path)
    if archive.checksum:
        verify(path, archive.checksum)
    unpack(path, archive.unpacks_to)
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


def unpack(path: Path, unpacks_to: str) -> None:
    """Unpack a .zip or .tar archive beside itself, where ``unpacks_to`` appears whole or not at all.

    Raises UserError, before anything is written, where a member would land outside, and for a damaged archive.
    """
    folder = path.parent
    staging = folder / f".{path.name}.{os.getpid()}.partial"
    try:
        _unpack(path, staging)
        if not (staging / unpacks_to).exists():
            raise UserError(f"{path} does not hold {unpacks_to}: fetch the right archive.")
        os.replace(staging / unpacks_to, folder / unpacks_to)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path} cannot be unpacked ({error}): delete it and fetch it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be unpacked into {folder} ({error}): make room or choose another.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack(path: Path, staging: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:
            for name in zipped.namelist():
                _require_inside(name, path)
            zipped.extractall(staging)
        return
    with tarfile.open(path) as tarred:
        for member in tarred.getmembers():
            _require_inside(member.name, path)
            if not (member.isfile() or member.isdir()):
                raise UserError(f"{path} holds '{member.name}', which is no plain file: do not use this archive.")
        tarred.extraction_filter = getattr(tarfile, "data_filter", None)
        tarred.extractall(staging)


def _require_inside(name: str, path: Path) -> None:
    parts = PureWindowsPath(name)  # which knows both kinds of slashes, and drives
    if parts.drive or parts.root or ".." in parts.parts:
        raise UserError(f"{path} holds '{name}', which would be written outside its folder: do not use this archive.")
