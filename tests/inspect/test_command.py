"""python -m benchmark.inspect: what a run found conflicting, as a list, as numbers and as pictures."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.images import QUICKLY, write_learnable_folder
from factories.records import put
from msgspec.structs import replace

from benchmark import curves, run
from benchmark.inspect.__main__ import main, parser
from benchmark.store.provenance import REPOSITORY
from benchmark.store.record import Record
from benchmark.store.store import Store

SHORT = ("--set", "epochs=3", "poisoner.conflict_factor=1.5", "--device", "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("trained")
    tasks = ("--tasks", "colored_digits", "--methods", "poisoner", "vanilla")
    assert run.main([*tasks, *SHORT, "--results", str(results)]) == 0
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "runs", tmp_path / "results" / "runs")
    return tmp_path / "results"


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.rglob(pattern)
    return path


def only_record(results: Path, beginning: str) -> Record:
    store = Store(results)
    (run_id,) = store.ids(beginning)
    record = store.read(run_id)
    assert record
    return record


def test_it_lists_what_the_record_counts_as_wrong_and_draws_every_class(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["colored_digits/poisoner", "--results", str(results), "--limit", "5"]) == 0
    printed = capsys.readouterr().out
    record = only_record(results, "colored_digits/poisoner")
    folder = results / "inspect" / record.run.id.replace("/", "-")
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"class-{c}-{c}.png" for c in range(10)),
        "conflicting.csv",
    ]
    table = pd.read_csv(folder / "conflicting.csv", dtype={"target": str, "predicted": str})
    total, right = (np.array(each) for each in (record.groups.train, record.train["biased"]))
    found = table.groupby(["target", "bias"]).size()
    assert {key: int(count) for key, count in found.items()} == {
        (record.groups.classes[y], record.groups.biases[b]): (total - right)[y, b]
        for y, b in np.argwhere(total > right)
    }
    assert table.score.is_monotonic_increasing
    assert len(table) == record.summary["found_conflicting"]
    conflicting = ~np.eye(10, dtype=bool)
    hits = (total - right)[conflicting].sum()
    assert f"Precision {100 * hits / len(table):.1f} %" in printed
    assert f"Recall {100 * hits / total[conflicting].sum():.1f} %" in printed
    assert "Poisoner's biased model" in printed

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    named = Store(results).record_path(record.run)
    elsewhere = tmp_path / "elsewhere"
    assert main([str(named), "--limit", "5", "--output", str(elsewhere)]) == 0, "by its path, from any folder"
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_a_network_without_a_biased_model_is_called_what_it_is(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["colored_digits/vanilla", "--results", str(results)]) == 0
    assert "Vanilla's tested network" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("colored_digits", "2 runs fit 'colored_digits': colored_digits/poisoner/"),
        ("colored_digits", "(epochs=3, poisoner.conflict_factor=1.5), colored_digits/vanilla/"),
        ("colored_digits/poisonner", "did you mean 'colored_digits/poisoner'"),
        ("pyproject.toml", "Unknown run"),
        ("nowhere.json", "nowhere.json is no record"),
    ],
)
def test_a_run_that_cannot_be_told_exits_with_2(
    results: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--results", str(results)]) == 2
    assert message in capsys.readouterr().err
    assert not (results / "inspect").exists()


def test_a_folder_that_cannot_be_written_exits_with_2(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "file").write_text("")
    output = str(results / "file" / "folder")
    assert main(["colored_digits/vanilla", "--results", str(results), "--output", output]) == 2
    assert f"{output} cannot be written (Not a directory)" in capsys.readouterr().err
    assert curves.main(["--results", str(results), "--output", output]) == 2
    assert f"{output} cannot be written (Not a directory)" in capsys.readouterr().err


def test_without_predictions_it_names_the_command_that_makes_them(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only(results, "poisoner/*.npz").unlink()
    inspected = ["colored_digits/poisoner", "--results", str(results)]
    assert main(inspected) == 2
    error = capsys.readouterr().err
    command = shlex.split(error.split("`")[1])
    assert command[:3] == ["python", "-m", "benchmark.run"]
    assert command[command.index("--set") + 1 :][:2] == ["epochs=3", "poisoner.conflict_factor=1.5"]
    assert run.main([*command[3:], "--device", "cpu"]) == 0
    again = command[command.index("--results") + 1]
    assert again != str(results)
    old, new = (only_record(Path(each), "colored_digits/poisoner") for each in (results, again))
    assert old.run == new.run
    assert main(["colored_digits/poisoner", "--results", again]) == 0
    shutil.copy(only(Path(again), "*.npz"), only(results, "poisoner/*.json").parent)
    put(results, replace(new, provenance=replace(new.provenance, predictions="0" * 64)))
    assert main(inspected) == 2, "predictions of another training are none"


def test_status_is_blind_to_predictions(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--tasks", "colored_digits", "--methods", "poisoner", *SHORT, "--results", str(results), "--status"]
    assert run.main(command) == 0
    assert "1 done, 0 running, 0 waiting, 0 failed, 0 missing" in capsys.readouterr().out
    only(results, "poisoner/*.json").unlink()
    assert run.main(command) == 0
    assert "0 done, 0 running, 0 waiting, 0 failed, 1 missing" in capsys.readouterr().out


def test_other_data_than_the_runs_are_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = only_record(results, "colored_digits/poisoner")
    there = record.provenance.data
    put(results, replace(record, provenance=replace(record.provenance, data="0123456789abcdef")))
    assert main(["colored_digits/poisoner", "--results", str(results)]) == 2
    error = capsys.readouterr().err
    assert f"trained on other data (fingerprint 0123456789abcdef) than those found now ({there})" in error
    assert not (results / "inspect").exists()


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_folder_of_ones_own(tmp_path: Path, with_bias: bool, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path, with_bias), tmp_path / "results"
    where = ["--dataset", str(folder), "--results", str(results)]
    assert run.main([*where, *QUICKLY, "--methods", "jtt"]) == 0
    capsys.readouterr()
    assert main(["my_birds/jtt", *where]) == 0
    assert ("Bias labels unknown" in capsys.readouterr().out) is not with_bias
    found = pd.read_csv(only(results, "conflicting.csv"))
    labels = pd.read_csv(folder / "labels.csv").set_index("file")
    record = only_record(results, "my_birds/jtt")
    assert len(found) == record.summary["error_set"] > 0
    assert labels.loc[found.file, "split"].eq("train").all()
    assert labels.loc[found.file, "target"].tolist() == found.target.tolist()
    assert ("bias" in found) is with_bias
    if with_bias:
        assert labels.loc[found.file, "bias"].tolist() == found.bias.tolist()
    assert {path.name for path in results.rglob("class-*")} == {"class-0-gull.png", "class-1-tern.png"}

    assert main(["my_birds/jtt", "--results", str(results)]) == 2
    assert "say with --dataset where 'my_birds' is" in capsys.readouterr().err
    lines = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert main(["my_birds/jtt", *where]) == 2
    assert "labels.csv is not the one that" in capsys.readouterr().err


def test_nothing_that_shows_images_is_committed() -> None:
    """Nor the predictions, which are as many as the images."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    record = "results/runs/cmnist_99/poisoner/0123-s0"
    paths = [f"{record}.npz", "results/inspect/cmnist_99-poisoner-0123-s0/class-0-0.png", f"{record}.json"]
    ignored = subprocess.run(
        ["git", "-C", str(REPOSITORY), "check-ignore", *paths], capture_output=True, text=True
    ).stdout.split()
    assert ignored == paths[:2]
    assert parser().parse_args(["x"]).results == Path("results")
