"""A slip in recipes.toml is one sentence and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import run
from benchmark.plan import recipes

WHOLE = recipes.RECIPES.read_text(encoding="utf-8")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(recipes, "RECIPES", tmp_path / "recipes.toml")
    recipes.load.cache_clear()
    yield tmp_path / "recipes.toml"
    recipes.load.cache_clear()


def task(text: str) -> bytes:
    return f"{WHOLE}\n[task.mine]\ntitle = 'Mine'\n{text}".encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "has no [every_task]"),
        (b"\xff", "is no valid TOML"),
        (b"= 1", "is no valid TOML"),
        (b"a = " + b"[" * 100_000, "is no valid TOML"),
        (b"task = 1", "has no [every_task]"),
        (b"every_task = 1", "[every_task] is not what it should be"),
        (b"task = 1\n[every_task]\n[folder]\n[search]", "[task] is not what it should be"),
        (b"[every_task]\n[folder]\n[search]\n[task.x]", "[task.x] has no title"),
        (task("like = 'none'"), "[task.mine] is like 'none', which does not exist"),
        (task("like = 'mine'"), "[task.mine] is like itself"),
        (task("like = 'yours'\n[task.yours]\ntitle = 'Yours'\nlike = 'mine'"), "is like itself"),
        (task(""), "[task.mine] has no dataset, network, epochs"),
        (task("like = 'cmnist_99'\nepochs = 'many'"), "[task.mine] is not what it should be (Expected `int`"),
        (task("like = 'cmnist_99'\nmean = 0.5"), "[task.mine] is not what it should be (Expected `array`"),
        (task("like = 'cmnist_99'\ndata = 1"), "[task.mine] is not what it should be (Expected `object`"),
        (task("like = 'cmnist_99'\npreset = {a = 1}"), "[task.mine] is not what it should be (Expected `object`"),
        (task("like = 'cmnist_99'\npreset = {a = {like = 'a'}}"), "[task.mine.preset.a] is like itself"),
        (task("like = 'cmnist_99'\ntitle = 1").replace(b"title = 'Mine'\n", b""), "Expected `str`"),
        (WHOLE.encode() + b"\n[method.mine]\ntitle = 'Mine'\nlike = 'none'", "[method.mine] is like 'none'"),
        (WHOLE.encode() + b"\n[method]\nmine = 1", ""),
    ],
)
def test_a_broken_file_is_a_sentence(
    path: Path, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        path.write_bytes(content)
    assert run.main(["--list"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert message in error
    assert error.count("\n") == 1


def test_the_whole_file_is_read(path: Path) -> None:
    path.write_text(WHOLE)
    assert run.main(["--list"]) == 0
