"""Fetching files: mirrors in turn, checksums, and downloads that go on where they were interrupted."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from tqdm import tqdm

from benchmark.errors import UserError, say
from datasets.archives import BLOCK, GB, Refused, unpack

TIMEOUT = 30  # seconds without any answer
ATTEMPTS = 20  # connections to one mirror, each of which must bring something


@dataclass(frozen=True)
class Download:
    """A file to have: its place under the data root, its mirrors in the order they are tried, its checksum "md5:…" or
    "sha256:…" and its bytes, where these are known.

    ``urls`` is empty where the owner asks for a login; a person then puts the file in place. An archive has
    ``unpacks_to``, the folder that it holds, which appears beside it, with no more than ``at_most`` bytes; ``bare`` is
    a file in that folder, by which mirrors are known that pack its files without the folder.
    """

    file: str
    urls: tuple[str, ...] = ()
    checksum: str | None = None
    size: int | None = None
    unpacks_to: str = ""
    bare: str = ""
    at_most: int = 10 * GB


def obtain(wanted: Download, data_root: Path, may_download: bool = True) -> bool:
    """Find or download the file, and unpack an archive beside itself; False where that is done or cannot be done.

    Raises UserError for what was put there and is wrong, for want of room, and where no mirror has the right file.
    """
    path = data_root / wanted.file
    if wanted.unpacks_to and (path.parent / wanted.unpacks_to).exists():
        return False  # what is missing is something else
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file: put the {'archive' if wanted.unpacks_to else 'file'} itself there.")
    if path.exists():
        if not wanted.unpacks_to:
            return False
        if wrong := wanted.checksum and mismatch(path, wanted.checksum):
            raise UserError(f"{path} {wrong}: delete it and fetch it again.")
        unpack(path, wanted.unpacks_to, wanted.at_most, wanted.bare)
        return True
    if not wanted.urls or not may_download:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    download(wanted, path)
    return True


def download(wanted: Download, path: Path) -> None:
    """Download ``path``, and unpack it, from the first mirror that has it, going on with what earlier attempts left.

    Raises UserError with what each mirror said where none has it.
    """
    partial = path.with_name(f"{path.name}.partial")
    reasons = []
    with _alone(partial) as origin:
        if path.exists():
            return  # another process has just been quicker
        for url in wanted.urls:
            try:
                _from_mirror(url, partial, origin, wanted)
                os.replace(partial, path)
                if wanted.unpacks_to:
                    unpack(path, wanted.unpacks_to, wanted.at_most, wanted.bare)
                return
            except Refused as error:
                path.unlink(missing_ok=True)
                reasons.append(f"{url}: {error}")
            except (OSError, HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
                reasons.append(f"{url}: {error or type(error).__name__}")
    raise UserError(f"{path.name} could not be downloaded ({'; '.join(reasons)}): put it into {path.parent} yourself.")


@contextmanager
def _alone(partial: Path) -> Iterator[TextIO]:
    """The file that says where the partial one is from, locked. Raises UserError while another process downloads."""
    note = partial.with_name(f"{partial.name}.origin")
    with note.open("a+", encoding="utf-8", errors="replace") as origin:
        try:
            fcntl.flock(origin, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{partial.stem} is being downloaded by another process: wait for that one.") from error
        except OSError:
            pass  # a file system without locks
        try:
            yield origin
        finally:
            if not partial.exists():
                note.unlink(missing_ok=True)


def _from_mirror(url: str, partial: Path, origin: TextIO, wanted: Download) -> None:
    """Have ``partial`` whole and right, over as many connections as bring something.

    Raises Refused for a wrong content, also OSError and HTTPException.
    """
    afresh = False
    for _ in range(ATTEMPTS):
        before = _bytes(partial)
        try:
            _connect(url, partial, origin, wanted)
            if wrong := wanted.checksum and mismatch(partial, wanted.checksum):
                raise Refused(f"what is sent {wrong}")
            return
        except Refused:
            partial.unlink(missing_ok=True)
            if afresh or not before:  # otherwise it is what an earlier attempt left that may be wrong
                raise
            afresh = True
        except (OSError, HTTPException):
            if _bytes(partial) <= before:
                raise
    raise OSError(f"the connection was lost {ATTEMPTS} times")


def _connect(url: str, partial: Path, origin: TextIO, wanted: Download) -> None:
    """One connection, from the first byte that is missing.

    What is there is only continued where it is sure to belong together: by the validator that the mirror gave (an
    entity tag or date), or by the checksum in the end.
    """
    done = _bytes(partial)
    if done and done == wanted.size:
        return
    validator = _validator(origin, url)
    if not (validator or wanted.checksum) or (wanted.size and done > wanted.size):
        done = 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    if done and validator:
        headers["If-Range"] = validator
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to send: the earlier attempt had it all
            raise
        _, total = _range(error.headers)
        if wanted.size or (total or done) != done:
            wrong = f"it has {total or done:,} bytes, where {wanted.size or done:,} were expected"
            # A mirror that has less than is here says nothing against what another one sent.
            raise (OSError if wanted.size and total != done else Refused)(wrong) from error
        return
    with answer:
        start, total = 0, _length(answer.headers)
        if answer.status == 206:
            begin, total = _range(answer.headers)
            if begin != done or (validator and _version(answer.headers) not in ("", validator)):
                raise Refused(f"asked for what follows byte {done:,} it sends something else")
            start = done
        if wanted.size and total and total != wanted.size:
            raise OSError(f"it has {total:,} bytes, where {wanted.size:,} were expected")
        if answer.headers.get_content_type() == "text/html":
            raise OSError("it sends a page in place of the file, of a quota, say")
        expected = total or wanted.size
        _announce(partial, url, start, expected, bool(wanted.unpacks_to))
        with partial.open("ab" if start else "wb") as file:
            origin.truncate(0)  # only now: until here the note was of what the file held
            origin.write(f"{url}\n{_version(answer.headers)}")
            origin.flush()
            limit = expected or wanted.at_most
            with tqdm(
                total=expected,
                initial=start,
                unit="B",
                unit_scale=True,
                desc=partial.stem,
                disable=not sys.stderr.isatty(),
            ) as bar:
                while block := answer.read1(BLOCK):
                    file.write(block)
                    bar.update(len(block))
                    if file.tell() > limit:
                        raise Refused(f"it goes on after {limit:,} bytes")
    if expected and _bytes(partial) != expected:
        raise OSError(f"the connection ended after {_bytes(partial):,} of {expected:,} bytes")


def _announce(partial: Path, url: str, start: int, expected: int | None, is_archive: bool) -> None:
    """Say how much is coming. Raises UserError where there is no room for it."""
    free = shutil.disk_usage(partial.parent).free
    size = tqdm.format_sizeof(expected, "B") if expected else "size unknown"
    there = f", of which {tqdm.format_sizeof(start, 'B')} are here" if start else ""
    say(f"Downloading {partial.stem} ({size}{there}) from {urlsplit(url).hostname} into {partial.parent} …")
    if expected:
        # Images hardly get smaller in an archive: it unpacks to as much again.
        needed = expected - start + expected * is_archive
        if needed > free:
            raise UserError(
                f"{partial.stem} needs {tqdm.format_sizeof(needed, 'B')}{' unpacked' if is_archive else ''}, of which "
                f"{partial.parent} has {tqdm.format_sizeof(free, 'B')}: make room, or name another --data-root."
            )


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _range(headers: Message) -> tuple[int | None, int | None]:
    """Where the part that is sent begins, and how many bytes there are in all, where the server says so."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers.get("Content-Range", ""))
    start, total = found.groups() if found else (None, None)
    return int(start) if start else None, int(total) if total else None


def _validator(origin: TextIO, url: str) -> str:
    """What this mirror called the version of which the partial file is a part; empty where it did not say."""
    origin.seek(0)
    known, _, validator = origin.read().partition("\n")
    return validator if known == url and validator.isascii() and validator.isprintable() else ""


def _version(headers: Message) -> str:
    """What the mirror calls this version, by which If-Range may ask for it: its strong entity tag, else its date."""
    tag = headers.get("ETag", "W/")
    return headers.get("Last-Modified", "") if tag.startswith("W/") else tag


def mismatch(path: Path, checksum: str) -> str:
    """Nothing for a file with the checksum "md5:…" or "sha256:…", else what it has in its place."""
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return "" if digest.hexdigest() == expected else f"has {kind} {digest.hexdigest()}, but {expected} was expected"
