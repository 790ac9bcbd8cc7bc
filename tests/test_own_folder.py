"""A folder of one's own through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories.images import QUICKLY, unreachable, write_learnable_folder

from benchmark import run
from benchmark.collect import collect
from benchmark.plan.paper import COMPARED
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.store.record import encode, faults
from benchmark.store.store import Store
from benchmark.training import networks


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))


def test_all_methods_train_on_an_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results), "--preset", "reduced"]
    assert run.main(command) == 0
    store = Store(results)
    found = list(store.everything())
    assert {record.method for record in found} == {row.method for row in COMPARED}
    for record in found:
        assert not list(faults(record))
        assert record.preset == "reduced"
        assert record.groups.test == [[4, 4], [4, 4]]
        assert str(tmp_path) not in encode(record)
    assert list((results / "tables").glob("selection-my_birds-reduced-*.md"))
    capsys.readouterr()
    assert run.main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.strip() == "Nothing to train."
    read = collect(store, load())
    for series in read.series.values():
        assert not series.older
        assert {"epochs=1", "data.size=32"} < {str(change) for change in series.changes or ()}
    recipes = load().with_folder_of(found[0].settings)
    (vanilla,) = [series for series in read.series.values() if series.settings["method"] == "vanilla"]
    settings = [recipes.resolve("my_birds", "vanilla", changes, "reduced") for changes in ((), vanilla.changes or ())]
    assert [Run(each, 0).series in read.series for each in settings] == [False, True], "the plain recipe has none"


def test_an_own_folder_without_training_bias(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path, with_bias=False), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results)]
    assert run.main([*command, "--methods", "vanilla", "groupdro"]) == 2
    assert (
        "The method groupdro needs the bias of every training image, which 40 of my_birds lack"
        in capsys.readouterr().err
    )
    assert not list((results / "runs").rglob("*.json"))
    assert run.main([*command, "--methods", "vanilla"]) == 0
    (path,) = (results / "runs").rglob("*.json")
    assert json.loads(path.read_text())["phases"][0]["target"]["bias_acc"] == [None]


def test_bad_own_folders_exit_with_2_and_write_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = [*QUICKLY, "--results", str(results), "--methods", "vanilla"]
    assert run.main(["--dataset", str(tmp_path / "nowhere"), *command]) == 2
    assert "labels.csv cannot be read" in capsys.readouterr().err
    assert run.main(["--dataset", str(folder), "--tasks", "cmnist_99", *command]) == 2
    assert "leave out --table, --all, --quick, --task and --tasks" in capsys.readouterr().err
    (folder / "train_5.png").write_bytes(b"no image")
    assert run.main(["--dataset", str(folder), *command]) == 2
    assert "train_5.png cannot be read" in capsys.readouterr().err
    assert not list((results / "runs").rglob("*.json"))


def test_weights_that_cannot_be_had_stop_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    networks.imagenet_weights.cache_clear()
    command = ["--dataset", str(write_learnable_folder(tmp_path)), *QUICKLY, "pretrained=true", "--methods", "vanilla"]
    assert run.main([*command, "--results", str(tmp_path / "results")]) == 2
    assert "--set pretrained=false" in capsys.readouterr().err
