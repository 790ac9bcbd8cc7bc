"""A slip in the paper's numbers is one sentence and exit code 2."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import run
from benchmark.compare import published


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    caches = (published.numbers, published.errata, published.errata_of)
    for each in caches:
        each.cache_clear()
    shutil.copytree(published.PAPER, tmp_path / "paper")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(published, "PAPER", tmp_path / "paper")
    yield tmp_path / "paper"
    for each in caches:
        each.cache_clear()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "has no lines"),
        (b"\xff", "cannot be read"),
        (b"table,method,task,metric\n1,2,3,4\n", "line 2, does not have the columns table, method, task, metric"),
        (b"table,method,task,metric,VALUE\n1,2,3,4,5,6\n", "line 2, does not have the columns"),
        (b"a,b\n" + b"x" * 200_000, "cannot be read (field larger"),
    ],
)
@pytest.mark.parametrize("name", ["published.csv", "errata.csv"])
def test_a_broken_file_is_a_sentence(
    folder: Path, name: str, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    results = str(folder.parent / "results")
    assert run.main(["--table", "3", "--render-only", "--results", results]) == 2 or name == "errata.csv"
    capsys.readouterr()
    assert run.main(["--all", "--render-only", "--results", results]) == 2
    error = capsys.readouterr().err
    assert f"error: {folder / name}" in error
    assert message in error


@pytest.mark.parametrize("value", ["nan", "inf", "many", ""])
def test_a_value_that_is_no_number_is_named(folder: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "published.csv").write_text(f"table,method,task,metric,value\ntable3,lff,x,bias_acc,{value}\n")
    assert run.main(["--table", "3", "--render-only", "--results", str(folder.parent / "results")]) == 2
    assert f"has '{value}' for table3 lff x bias_acc" in capsys.readouterr().err
