"""A record is what was asked for only if settings, data and code agree."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from signal import SIGTERM

import numpy as np
import pytest
import torch
from factories.images import QUICKLY, write_learnable_folder
from factories.records import make_record, make_run, put
from PIL import Image

from benchmark import rendering
from benchmark.errors import UserError
from benchmark.plan import code
from benchmark.run import main
from benchmark.store.atomic import Patience
from benchmark.store.store import SUPERSEDED, Store
from benchmark.training.training import Training
from benchmark.workers.worker import Worker


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))


def command(folder: Path, results: Path, *more: str) -> list[str]:
    return ["--dataset", str(folder), "--methods", "vanilla", *QUICKLY, "--results", str(results), *more]


def records(results: Path) -> list[str]:
    return [record.provenance.data for record in Store(results).everything()]


def paint_black(folder: Path) -> None:
    for path in folder.glob("*.png"):
        Image.fromarray(np.zeros((36, 40, 3), np.uint8)).save(path)


def test_other_images_under_the_same_labels_are_refused_and_trained_again_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    assert main(command(folder, results)) == 0
    (before,) = records(results)
    paint_black(folder)
    capsys.readouterr()
    assert main(command(folder, results)) == 2
    error = capsys.readouterr().err
    assert "1 of these runs" in error
    assert "trained on other data" in error
    assert "--again" in error
    assert records(results) == [before], "refused, not touched"
    assert main(command(folder, results, "--again")) == 0
    (after,) = records(results)
    assert after != before
    aside = [path.name for path in results.glob("runs/*/*/*.replaced-*")]
    assert len(aside) == 2, "the old record is kept under another name, and its predictions"
    assert sum(".npz.replaced-" in name for name in aside) == 1
    assert main(command(folder, results)) == 0


def stored(results: Path) -> dict[Path, bytes]:
    """Every record, with its predictions and models, whole or set aside."""
    files = [path for kind in ("runs", "models") for path in (results / kind).rglob("*.*") if path.is_file()]
    return {path: path.read_bytes() for path in files if not path.name.endswith(SUPERSEDED)}


def test_what_is_refused_leaves_records_in_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    assert main(command(folder, results, "--keep")) == 0
    before = stored(results)
    paint_black(folder)
    again = command(folder, results, "--keep", "--again")
    assert main([*again, "--device", "cuda:77"]) == 2
    assert stored(results) == before
    capsys.readouterr()
    assert main([*again, "--dry-run"]) == 0
    assert "/vanilla/" in capsys.readouterr().out, "what --again would train"
    assert main(command(folder, results, "--dry-run")) == 2
    assert "trained on other data" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["benchmark.workers.worker.train", "benchmark.store.store.keep_as"])
@pytest.mark.parametrize(
    ("end", "code"),
    [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141), (RuntimeError("out of memory"), 1), (SIGTERM, 130)],
)
def test_whatever_ends_it_leaves_records_in_their_place_and_the_next_command_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    where: str,
    end: BaseException | signal.Signals,
    code: int,
) -> None:
    """Be it in training or where the new record is about to take the old one's place."""
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    assert main(command(folder, results, "--keep")) == 0
    before = stored(results)
    assert {path.suffix for path in before} == {".json", ".npz", ".safetensors"}
    paint_black(folder)

    def stop(*arguments: object) -> None:
        if isinstance(end, BaseException):
            raise end
        os.kill(os.getpid(), end)
        time.sleep(10)

    if where.startswith("benchmark.workers") and isinstance(end, BrokenPipeError):
        where = "benchmark.workers.crew.train"  # a worker notes what goes wrong in one run, and goes on
    elif isinstance(end, BrokenPipeError):
        code = 1
    with monkeypatch.context() as patched:
        patched.setattr(where, stop)
        patched.setattr(Patience, "__call__", lambda self, action, path: action())
        patched.setattr(os, "dup2", lambda *arguments: None)  # of standard output, which pytest needs
        assert main(command(folder, results, "--keep", "--again")) == code
    after = stored(results)
    assert {path: after[path] for path in before} == before, "its tables show what they showed"
    assert main(command(folder, results, "--keep", "--status")) == 0
    shown = capfd.readouterr().out
    assert "other data" not in shown
    if where == "benchmark.workers.crew.train":  # nothing was begun
        assert main(command(folder, results, "--keep")) == 2
        return
    if code == 1:
        assert "failed" in shown
    else:
        assert "to be trained anew; its old record stands until then" in " ".join(shown.split())
    assert main(command(folder, results, "--keep")) == 0
    assert "1 of these runs is trained anew, as --again once asked" in capfd.readouterr().out
    (record,) = Store(results).everything()
    assert record.provenance.data != json.loads(before[Store(results).record_path(record.run)])["provenance"]["data"]
    assert main(command(folder, results, "--keep")) == 0
    aside = sorted(path.read_bytes() for path in stored(results) if ".replaced-" in path.name)
    assert aside == sorted(before.values()), "nothing stored is ever lost"
    assert not list(results.rglob("*.again"))


def test_sigterm_is_as_before_after_the_command(tmp_path: Path) -> None:
    before = signal.getsignal(SIGTERM)
    assert main(["--list"]) == 0
    assert signal.getsignal(SIGTERM) == before


def test_a_run_that_was_stopped_does_not_go_on_with_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    whole = Training.end_epoch

    def stopped(training: Training, loss: float) -> None:
        whole(training, loss)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Training, "end_epoch", stopped)
        assert main(command(folder, results, "--checkpoint-seconds", "0")) == 130
    (checkpoint,) = results.glob("runs/*/*/*.ckpt")
    left = checkpoint.read_bytes()
    assert main(command(folder, results)) == 0
    (record,) = Store(results).everything()
    assert not record.warnings, "the same images go on"
    Store(results).set_aside(record.run.id, ".stale")
    checkpoint.write_bytes(left)
    paint_black(folder)
    assert main(command(folder, results)) == 0
    (record,) = Store(results).everything()
    (warning,) = record.warnings
    assert "cannot be used (it is of other data); started over." in warning


def test_nothing_is_downloaded_to_look_at_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even digits, which training would fetch by itself."""
    asked: list[str] = []
    monkeypatch.setattr("datasets.colored_mnist._download", lambda folder: asked.append(str(folder)))
    put(tmp_path / "results", make_record(make_run("cmnist_99", "vanilla")))
    where = ["--results", str(tmp_path / "results"), "--data-root", str(tmp_path / "absent")]
    assert main(["--table", "2", "--tasks", "cmnist_99", "--methods", "vanilla", *where, "--dry-run"]) == 0
    assert asked == []
    assert not (tmp_path / "absent").exists()


def test_another_folder_of_the_same_name_is_other_data(tmp_path: Path) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    assert main(command(folder, results)) == 0
    other = tmp_path / "elsewhere" / "my_birds"
    shutil.copytree(folder, other)
    assert main(command(other, results)) == 0, "a moved folder keeps its records"
    paint_black(other)
    assert main(command(other, results)) == 2


def test_a_changed_method_makes_its_records_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--methods", "vanilla", "--set", "epochs=1", "--results", str(tmp_path)]
    assert main(arguments) == 0
    monkeypatch.setattr(code, "of_method", lambda name: "2")
    monkeypatch.setattr(rendering, "code", lambda: "another, as it is once a file of methods/ has changed")
    capsys.readouterr()
    assert main([*arguments, "--status"]) == 0
    assert "stale" in capsys.readouterr().out
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "1 of these runs is stale (version 1 of the method vanilla, which is now 2): --again" in out
    assert "STALE: 1 of these runs was measured by older code" in out
    assert main([*arguments, "--again", "--dry-run"]) == 0
    assert "colored_digits/vanilla" in capsys.readouterr().out
    assert main([*arguments, "--again"]) == 0
    assert "STALE" not in capsys.readouterr().out
    assert [record.provenance.method_version for record in Store(tmp_path).everything()] == ["2"]


METHOD = '''
@register("mine")
class Mine(Vanilla):
    """{doc}"""

    def sample_loss(self, logits, targets):
        return {factor} * losses.cross_entropy(logits, targets)
'''


def test_an_own_method_is_known_by_what_its_file_executes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "METHODS", tmp_path)

    def digest(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        code.of_method.cache_clear()
        return code.of_method("mine")

    try:
        first = digest(METHOD.format(doc="Twice.", factor=2))
        assert len(first) == 12
        assert digest("# A comment.\n" + METHOD.format(doc="In other words.", factor=2)) == first
        assert digest(METHOD.format(doc="Twice.", factor=3)) != first
        assert code.of_method("nobody") == ""
        with pytest.raises(UserError, match=r"/mine.py cannot be read .*line 1.*correct it"):
            digest("class Mine(")
    finally:
        code.of_method.cache_clear()


def test_an_own_method_may_be_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "METHODS", tmp_path)
    package, shared = tmp_path / "own", tmp_path / "shared"
    package.mkdir()
    shared.mkdir()
    contents = {
        tmp_path / "__init__.py": "registry = 1",
        package / "__init__.py": "from methods.own.mine import Mine",
        package / "mine.py": "from methods import register\nfrom methods.shared.parts import half\n"
        + METHOD.format(doc="Twice.", factor=2),
        shared / "__init__.py": "",
        shared / "parts.py": "half = 0.5",
    }

    def digest(changed: Path | None = None) -> str:
        for path, text in contents.items():
            path.write_text(f"{text}\nchanged = 1\n" if path == changed else text)
        code.of_method.cache_clear()
        return code.of_method("mine")

    try:
        assert len(first := digest()) == 12
        for path in (package / "__init__.py", package / "mine.py", shared / "parts.py"):
            assert digest(path) != first, path
        assert digest(tmp_path / "__init__.py") == first, "the registry is of the loop"
    finally:
        code.of_method.cache_clear()


def test_a_method_whose_code_cannot_be_known_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(code, "of_method", lambda name: "")
    assert main(["--quick", "--methods", "vanilla", "--results", str(tmp_path)]) == 2
    assert 'No class in a file of methods/ has @register("vanilla") above it' in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_an_own_method_is_known_by_what_it_inherits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "METHODS", tmp_path)
    imports = "from methods import losses, register\nfrom methods.parent import Vanilla\n"
    (tmp_path / "mine.py").write_text(imports + METHOD.format(doc="Twice.", factor=2))
    helper = tmp_path / "helper.py"

    def digest(parent: str, **others: str) -> str:
        (tmp_path / "parent.py").write_text(parent)
        for name, text in others.items():
            (tmp_path / f"{name}.py").write_text(text)
        code.of_method.cache_clear()
        return code.of_method("mine")

    try:
        parent = "from . import helper\n\nclass Vanilla:\n    half = helper.half\n"
        first = digest(parent, helper="half = 0.5\n", losses="q = 1\n", other="")
        assert first == "a2acdc4fed65", "the same under every version of Python"
        assert digest("# As before.\n" + parent) == first
        assert digest(parent.replace("half = ", "part = ")) != first
        assert digest(parent, helper="half = 0.6\n") != first, "through a file that a file imports"
        helper.write_text("half = 0.5\n")
        assert digest(parent, losses="q = 2\n", other="x = 1\n") == first, "losses are the loop's, others nobody's"
    finally:
        code.of_method.cache_clear()


def test_an_edit_while_a_method_trains_is_not_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is loaded when a process starts, hours before the run of the method may begin."""
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setattr(code, "METHODS", own)
    path = own / "vanilla.py"
    path.write_text(METHOD.format(doc="As loaded.", factor=2).replace('"mine"', '"vanilla"'))
    code.of_method.cache_clear()
    try:
        loaded = code.of_method("vanilla")
        code.of_method.cache_clear()
        Worker(Store(tmp_path / "results"), tmp_path, torch.device("cpu"))
        path.write_text(path.read_text().replace("2 *", "3 *"))
        assert code.of_method("vanilla") == loaded
    finally:
        code.of_method.cache_clear()


def test_records_that_changed_places_are_both_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--methods", "vanilla", "focal", "--set", "epochs=1", "--results", str(tmp_path)]
    assert main(arguments) == 0
    one, other = sorted(path for path in tmp_path.glob("runs/*/*/*.json"))
    between = tmp_path / "between"
    one.rename(between)
    other.rename(one)
    between.rename(other)
    capsys.readouterr()
    assert main([*arguments, "--render-only"]) == 0
    out = capsys.readouterr().out
    assert out.count("is damaged (it is of colored_digits/") == 2
    assert "no records yet" in out
