"""python -m benchmark.inspect: what a run found conflicting, as a list, as numbers and as pictures."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.images import write_learnable_folder
from PIL import Image
from test_images_training import QUICKLY

from benchmark import curves, inspect, run, sheets
from benchmark.inspect import Findings, main
from benchmark.records import Store, run_of
from benchmark.worker import REPOSITORY
from datasets import BiasedDataset, Split


def hand_made(bias: list[int], files: tuple[str, ...] = ()) -> BiasedDataset:
    """Cats are dark (0), dogs are bright (1)."""
    targets = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    split = Split(np.zeros((8, 3, 4, 4), np.uint8), targets, np.array(bias), files)
    names = ("cat", "dog"), ("dark", "bright")
    return BiasedDataset("pets", *names, np.array([0, 1]), train=split, validation=split, test=split)


PREDICTED = np.array([0, 1, 1, 1, 0, 1, 1, 0])
SCORE = np.array([0.9, 0.3, 0.1, 0.3, 0.2, 0.6, 0.7, 1e-6])
BIAS = [0, 1, 0, 1, 0, 0, 1, 0]
# Found are 1, 2, 3 of the cats and 4, 7 of the dogs; conflicting are 1, 3 and 4, 5, 7.


def test_precision_and_recall_of_a_list_counted_by_hand() -> None:
    findings = Findings(hand_made(BIAS), PREDICTED, SCORE)
    assert findings.precision_recall(0) == (pytest.approx(100 * 2 / 3), 100)
    assert findings.precision_recall(1) == (100, pytest.approx(100 * 2 / 3))
    assert findings.precision_recall() == (80, 80)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in findings.report().splitlines() if "|" in line]
    assert rows[0] == ["Class", "Images", "Found", "Conflicting", "Precision", "Recall"]
    assert rows[2] == ["cat", "4", "3", "2", "66.7 %", "100.0 %"]
    assert rows[-1] == ["all", "8", "5", "5", "80.0 %", "80.0 %"]
    assert "Precision 80.0 %: 4 of 5 found" in findings.report()
    assert "Recall 80.0 %: 4 of 5 conflicting" in findings.report()


def test_the_list_begins_with_the_most_conflicting_and_keeps_the_order_of_equals() -> None:
    table = Findings(hand_made(BIAS, tuple(f"{number}.jpg" for number in range(8))), PREDICTED, SCORE).table()
    assert table.columns.tolist() == ["file", "target", "predicted", "score", "bias"]
    assert table.to_numpy().tolist() == [
        ["7.jpg", "dog", "cat", 1e-6, "dark"],
        ["2.jpg", "cat", "dog", 0.1, "dark"],
        ["4.jpg", "dog", "cat", 0.2, "dark"],
        ["1.jpg", "cat", "dog", 0.3, "bright"],
        ["3.jpg", "cat", "dog", 0.3, "bright"],
    ]
    unnamed = Findings(hand_made(BIAS), PREDICTED, SCORE).table()
    assert unnamed.file.tolist() == [f"train/{number:05}" for number in (7, 2, 4, 1, 3)]


def test_images_of_unknown_bias_are_listed_but_not_judged() -> None:
    findings = Findings(hand_made([-1, 1, -1, 1, 0, -1, 1, 0]), PREDICTED, SCORE)
    assert findings.precision_recall() == (100, 100)
    assert findings.table().bias.tolist() == ["dark", "", "dark", "bright", "bright"]
    assert "3 images of unknown bias are left out" in findings.report()
    blind = Findings(hand_made([-1] * 8), PREDICTED, SCORE)
    assert "Bias labels unknown" in blind.report()
    assert "Precision" not in blind.report()
    assert "bias" not in blind.table().columns


def test_a_network_that_fits_everything_has_found_nothing() -> None:
    findings = Findings(hand_made(BIAS), np.array([0] * 4 + [1] * 4), SCORE)
    assert findings.precision_recall() == (None, 0)
    assert "Nothing was found" in findings.report()
    assert len(findings.table()) == 0


def test_a_sheet_shows_the_pixels_themselves() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 3, 28, 28), dtype=np.uint8)
    tiles = [sheets.Tile(image, ("$cat_1$",), agrees) for image, agrees in zip(images, [None, True] * 7, strict=True)]
    found, aligned = sheets.Panel("found", "", tiles[:7]), sheets.Panel("aligned", "", tiles[7:])
    content = sheets.png(sheets.Sheet("title", "subtitle", found, aligned, ["note"]))
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    size = 3 * 28
    column, row = size + 2 * sheets.FRAME + sheets.GAP, size + 2 * sheets.FRAME + sheets.LINE + sheets.GAP
    for number, (across, down) in enumerate([(i, 0) for i in range(6)] + [(0, 1)]):
        top = sheets.HEAD + down * row + sheets.FRAME
        left = sheets.MARGIN + across * column + sheets.FRAME
        shown = picture[top : top + size, left : left + size]
        assert np.array_equal(shown, images[number].transpose(1, 2, 0).repeat(3, 0).repeat(3, 1)), number
        frame = tuple(picture[top - 1, left - 1])
        assert frame == (sheets.AGREES if number % 2 else sheets.UNKNOWN)
    assert content == sheets.png(sheets.Sheet("title", "subtitle", found, aligned, ["note"]))


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 8), (80, 80)), ((2, 4), (40, 80)), ((64, 64), (128, 128)), ((224, 112), (128, 64))]
)
def test_small_images_are_enlarged_by_whole_numbers_and_large_ones_reduced(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert sheets.enlarged(np.zeros((3, *shape), np.uint8)).shape == (*expected, 3)


# ------------------------------------------------------------------------------------------ the command line

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


def test_it_lists_what_the_record_counts_as_wrong_and_draws_every_class(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["colored_digits/poisoner", "--results", str(results), "--limit", "5"]) == 0
    printed = capsys.readouterr().out
    record = Store(results).find("colored_digits/poisoner")[0]
    folder = results / "inspect" / run_of(record).id.replace("/", "-")
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"class-{c}-{c}.png" for c in range(10)),
        "conflicting.csv",
    ]
    table = pd.read_csv(folder / "conflicting.csv", dtype={"target": str, "predicted": str})
    total, right = (np.array(each) for each in (record["groups"]["train"], record["train"]["biased"]))
    found = table.groupby(["target", "bias"]).size()
    assert {key: int(count) for key, count in found.items()} == {
        (record["groups"]["classes"][y], record["groups"]["biases"][b]): (total - right)[y, b]
        for y, b in np.argwhere(total > right)
    }
    assert table.score.is_monotonic_increasing
    assert len(table) == record["summary"]["found_conflicting"]
    conflicting = ~np.eye(10, dtype=bool)
    hits = (total - right)[conflicting].sum()
    assert f"Precision {100 * hits / len(table):.1f} %" in printed
    assert f"Recall {100 * hits / total[conflicting].sum():.1f} %" in printed
    assert "Poisoner's biased model" in printed

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    named = Store(results).record_path(run_of(record))
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
        ("colored_digits", "2 runs begin with 'colored_digits': colored_digits/poisoner/"),
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
    (old,), (new,) = (Store(Path(each)).find("colored_digits/poisoner") for each in (results, again))
    assert run_of(old).id == run_of(new).id
    assert main(["colored_digits/poisoner", "--results", again]) == 0
    shutil.copy(only(Path(again), "*.npz"), only(results, "poisoner/*.json").with_suffix(".npz"))
    new["provenance"]["finished"] = "2000-01-01T00:00:00Z"
    only(results, "poisoner/*.json").write_text(json.dumps(new) + "\n")
    assert main(inspected) == 2, "predictions of another training are none"


def test_status_is_blind_to_predictions(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--tasks", "colored_digits", "--methods", "poisoner", *SHORT, "--results", str(results), "--status"]
    assert run.main(command) == 0
    assert "1 done, 0 running, 0 waiting, 0 failed, 0 missing" in capsys.readouterr().out
    only(results, "poisoner/*.json").unlink()
    assert run.main(command) == 0
    assert "0 done, 0 running, 0 waiting, 0 failed, 1 missing" in capsys.readouterr().out


def test_other_data_than_the_runs_are_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = only(results, "poisoner/*.json")
    record = json.loads(path.read_text())
    there = record["provenance"]["data"]
    record["provenance"]["data"] = "0123456789abcdef"
    path.write_text(json.dumps(record) + "\n")
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
    record = Store(results).find("my_birds/jtt")[0]
    assert len(found) == record["summary"]["error_set"] > 0
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
    assert inspect.parser().parse_args(["x"]).results == Path("results")
