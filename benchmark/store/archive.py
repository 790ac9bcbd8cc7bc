"""Archives of records: zip files in which each file has the name that it has in a results folder.

An archive comes from somebody else. It is looked at as a whole before anything of it is used; nothing is ever
unpacked by its name.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from benchmark.errors import UserError
from benchmark.store import encoding
from benchmark.store.atomic import replacing
from benchmark.store.record import SCHEMA, Record
from benchmark.store.store import run_id

LARGEST_RECORD, LARGEST = 64 << 20, 1 << 30  # bytes of a record, and of any other file
# What the reader raises for what is damaged, or written in a way that it does not know.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)


def write(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive of files, each its name and content. The same files are the same bytes, whenever packed."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            member = zipfile.ZipInfo(name)  # of 1980
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, content)


class Archive:
    """An archive, opened. ``ids`` are those of the runs whose records it holds, in order; ``unread`` the names of files
    that nobody has asked for.

    Raises UserError for a file that is none, and for one with members that no archive of records has: a path outside
    of the folder, a link, a name that is there twice, more bytes than a record ever takes, records of a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
                raise UserError(f"The archive {path} cannot be read (it is no file): name another.")
            self._file = zipfile.ZipFile(path)
        except OSError as error:
            raise UserError(f"The archive {path} cannot be read ({error.strerror}): name another.") from error
        except DAMAGED as error:
            raise UserError(
                f"{path} is no archive, or it breaks off ({error}): have it packed and sent again."
            ) from error
        members = [member for member in self._file.infolist() if not member.is_dir()]
        self._members = {member.filename: member for member in members}
        for member in self._file.infolist():
            if why := _hostile(member):
                raise UserError(f"{path} is refused, since its member '{member.filename}' {why}: have it packed anew.")
        if len(self._members) < len(members):
            raise UserError(f"{path} is refused, since it has two members of one name: have it packed anew.")
        self.unread = {*self._members}
        self.ids = sorted(each for name in self._members if (each := run_id(name)))
        for each in self.ids:
            if (schema := self._schema(each)) > SCHEMA:
                raise UserError(
                    f"{path} is refused, since its record of {each} has schema {schema}, and {SCHEMA} is the newest "
                    "that is known here: update this checkout."
                )

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def beginning(self, start: str) -> list[str]:
        """The names of members that begin so, in order."""
        return sorted(name for name in self._members if name.startswith(start))

    def read(self, name: str) -> bytes:
        """The content of a member. Raises ValueError where it is damaged."""
        self.unread.discard(name)
        try:
            return self._file.read(self._members[name])
        except DAMAGED as error:
            raise ValueError(str(error)) from error

    def checked(self, name: str, digest: str) -> bytes:
        """The content of a member of that SHA-256. Raises ValueError for another, and where it is damaged."""
        content = self.read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("it is not what its record names")
        return content

    def record(self, run: str) -> Record:
        """The record of a run. Raises ValueError where it is damaged, or another run's."""
        record = encoding.decode(self.read(f"runs/{run}.json"))
        if record.run.id != run:
            raise ValueError(f"it is of {record.run.id}")
        return record

    def _schema(self, run: str) -> int:
        """The schema of a record; 0 where it does not say, hence is damaged."""
        try:
            return encoding.schema(self.read(f"runs/{run}.json"))
        except ValueError:
            return 0


def _hostile(member: zipfile.ZipInfo) -> str:
    """What no archive that was packed here has, or nothing."""
    if member.filename.startswith("/") or ".." in PurePosixPath(member.filename.replace("\\", "/")).parts:
        return "lies outside of a results folder"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link, or no plain file"
    largest = LARGEST_RECORD if member.filename.endswith(".json") else LARGEST
    if member.file_size > largest:
        return f"has {member.file_size:,} bytes, more than {largest:,}"
    return ""
