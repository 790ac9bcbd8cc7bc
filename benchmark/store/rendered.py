"""What was rendered into a results folder, and from what, so that nothing is rendered twice.

It stands in one file beside what was rendered, which is not committed: in another clone, and wherever it is damaged,
everything is rendered anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmark.store.atomic import sha256, write_atomically


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files that are rendered together.

    ``source`` is the fingerprint of everything that they are computed from, ``files`` the SHA-256 of each by its path
    in the folder, None where there must be none, ``said`` what is printed with them, and ``records`` the ``short``
    digests of those that they show.
    """

    source: str
    files: dict[str, str | None]
    said: str
    records: frozenset[str] = frozenset()

    def is_intact(self, folder: Path) -> bool:
        """Whether every file is there as it was written."""
        return all(sha256(folder / name) == digest for name, digest in self.files.items())


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a command rendered, each product with its source, and the fingerprint of everything that it looked at."""

    source: str
    products: dict[str, str]


class Rendered(msgspec.Struct, forbid_unknown_fields=True):
    """All products of a folder, by their names, and the commands that rendered them."""

    products: dict[str, Product] = {}
    commands: dict[str, Command] = {}

    @classmethod
    def read(cls, folder: Path) -> Rendered:
        """What is known of the folder: nothing where its file is not there, or not whole."""
        try:
            return msgspec.json.decode(_file(folder).read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return cls()

    def write(self, folder: Path) -> None:
        write_atomically(_file(folder), msgspec.json.encode(self))

    def current(self, name: str, source: str, folder: Path) -> Product | None:
        """The product if it was rendered from that source, and nobody has changed or deleted a file since."""
        known = self.products.get(name)
        return known if known and known.source == source and known.is_intact(folder) else None

    def of_command(self, command: str, source: str, folder: Path) -> Sequence[Product] | None:
        """All that a command renders, if what it looks at and all files are as it left them."""
        known = self.commands.get(command)
        if known is None or known.source != source:
            return None
        found = [self.current(name, own, folder) for name, own in known.products.items()]
        products = [each for each in found if each]
        return products if len(products) == len(found) else None


def short(digests: Iterable[str | None]) -> frozenset[str]:
    """Enough of the digests of records to tell these apart; None is that of one that cannot be read."""
    return frozenset(each[:12] for each in digests if each)


def noted(files: Mapping[Path, str | None], folder: Path) -> dict[str, str | None]:
    """The digests of ``atomic.noting`` by paths in the folder."""
    return {path.relative_to(folder).as_posix(): digest for path, digest in files.items()}


def fingerprint(*parts: Any) -> str:
    """The SHA-256 of plain data."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _file(folder: Path) -> Path:
    return folder / ".rendered.json"
