from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.store.atomic import Patience, write_atomically


def test_writing_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_pieces_are_one_file_or_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, iter(("ä", "ö\n")))
    assert path.read_text(encoding="utf-8") == "äö\n"

    def pieces() -> Iterator[str]:
        yield "new"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_atomically(path, pieces())
    assert path.read_text(encoding="utf-8") == "äö\n"
    assert list(tmp_path.iterdir()) == [path]


def test_patience_has_an_end_and_names_the_file(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'file'}'"):
        Patience(0)(fail, tmp_path / "file")
