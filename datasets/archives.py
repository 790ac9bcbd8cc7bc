"""Unpacking archives: whole or not at all, nothing outside of the folder, and no more than was expected."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from benchmark.errors import UserError

BLOCK = 1 << 20
GB = 1 << 30
MOST_MEMBERS = 1_000_000  # five times CelebA's


# What the readers of archives raise for one that is damaged, or is written in a way that they do not know.
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError,
    ValueError, OverflowError, struct.error,
)  # fmt: skip


class Refused(UserError):
    """A file that is not what was wanted, and of no use: damaged, hostile or something else."""


def unpack(path: Path, unpacks_to: str, at_most: int = 10 * GB, bare: str = "") -> None:
    """Unpack a .zip or .tar archive beside itself, where ``unpacks_to`` appears whole or not at all.

    An archive that has no folder around its files is known by the file ``bare``, and gets one. Raises Refused, before
    anything is written, where a member is no plain file or would land outside and where all together would take more
    than ``at_most`` bytes or are too many, and for a damaged or encrypted archive. Raises UserError where the disk has
    no room.
    """
    folder = path.parent
    staging = folder / f".{path.name}.{os.getpid()}.partial"
    damaged = f"{path} cannot be unpacked ({{}}): delete it and fetch it again."
    try:
        _unpack(path, staging, at_most)
        inner = staging / unpacks_to
        if not inner.exists() and bare and (staging / bare).exists():
            inner = staging
        if not inner.exists():
            raise Refused(f"{path} does not hold {unpacks_to}: fetch the right archive.")
        os.replace(inner, folder / unpacks_to)
    except DAMAGED as error:
        raise Refused(damaged.format(error)) from error
    except OSError as error:
        if error.errno is None:  # what bz2 and gzip say of a stream that is not theirs
            raise Refused(damaged.format(error)) from error
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
                    raise Refused(f"{path} is encrypted: unpack it yourself, beside it.")
            _require_few(path, len(zipped.infolist()))
            _require_room(path, sum(entry.file_size for entry in zipped.infolist()), at_most)
            zipped.extractall(staging)
        return
    with tarfile.open(path) as tarred:
        total = 0
        # One by one: what comes next is only found by reading all of what is refused.
        # One by one: what comes next is only found by reading all of what is refused.
        for count, member in enumerate(tarred, 1):
            _require_plain(member.name, path, member.isfile() or member.isdir())
            _require_few(path, count)
            total += member.size + tarfile.BLOCKSIZE  # empty files fill a disk, too
            _require_room(path, total, at_most)
        tarred.extraction_filter = getattr(tarfile, "data_filter", None)
        tarred.extractall(staging)
        _read_to_the_end(tarred, path, at_most)


def _require_plain(name: str, path: Path, is_plain: bool) -> None:
    """Raises Refused for a member that would be written outside of the folder, or is no file and no folder."""
    parts = PureWindowsPath(name)  # which knows both kinds of slashes, and drives
    if parts.drive or parts.root or ".." in parts.parts:
        raise Refused(f"{path} holds '{name}', which would be written outside its folder: do not use this archive.")
    if not is_plain:
        raise Refused(f"{path} holds '{name}', which is no plain file: do not use this archive.")


def _require_few(path: Path, count: int) -> None:
    """Raises Refused where an archive has so many members that their names alone would fill a disk."""
    if count > MOST_MEMBERS:
        raise Refused(f"{path} holds more than {MOST_MEMBERS:,} files: do not use this archive.")


def _require_room(path: Path, total: int, at_most: int) -> None:
    """Raises Refused where files of so many bytes are more than were expected, UserError where there is no room."""
    if total > at_most:
        raise Refused(
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
            raise Refused(f"{path} goes on without end behind its last file: do not use this archive.")
