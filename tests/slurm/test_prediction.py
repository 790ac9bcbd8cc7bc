"""Predicted hours: sums of what was counted, never among the measured ones."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories.records import make_record, make_run, put

from benchmark.plan.recipes import load as recipes
from benchmark.speed import calibrate
from benchmark.store.provenance import REPOSITORY
from benchmark.store.store import Store
from datasets import celeba, dogs_cats, waterbirds
from slurm import cost, prediction
from slurm.prediction import IMAGES, Calibration, Cost, Images

HOUR = 3600.0


def calibration(*runs: str, device: str = "Some GPU") -> Calibration:
    """Of runs that take an hour of training and half an hour of measuring."""
    return Calibration(
        device=device,
        measured="2026-01-02",
        torch="2.14.0",
        commit="0123456789abcdef",
        load=(0.5, 1.0),
        speed={"mlp, 28 px": {"measuring": 2000.0, "vanilla train": 1000.0}},
        runs=dict.fromkeys(runs, Cost(HOUR, HOUR / 2)),
    )


def cells(text: str, beginning: str) -> list[str]:
    """Of a table's line."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_hours_of_methods_tasks_and_tables_are_sums_of_runs() -> None:
    runs = cost.grid_runs(recipes())
    cmnist = {run.series for task in ("cmnist_99", "cmnist_98") for run in runs[task].values()}
    lacking = runs["cmnist_98"]["BE"].series
    tasks = {task: runs[task] for task in ("cmnist_99", "cmnist_98")}
    tables = {"2": [*runs["cmnist_99"].values()], "3": [runs["cmnist_98"]["BE"]]}
    text = prediction.report(calibration(*cmnist - {lacking}), tasks, tables)
    assert text.startswith("PREDICTED for Some GPU, not measured")
    assert "Calibrated on 2026-01-02" in text
    assert cells(text, "Vanilla") == ["1.50", "1.50"]
    assert cells(text, "BE") == ["1.50", ""]
    assert cells(text, "GCE") == ["1.50", ""], "which is no row of C-MNIST²"
    assert cells(text, "all") == [f"{11 * 3 * 1.5:.2f}", "8 of 9 rows"]
    assert cells(text, "of which measuring") == [f"{11 * 3 * 0.5:.2f}", "8 of 9 rows"]
    assert "Table 2: 33 runs, 1 devices: 49.5 h; 8 devices: 7.5 h; 64 devices: 1.5 h." in text
    assert "Table 3: 3 runs, of which 0 are predicted." in text
    assert "All: 60 runs, of which 57 are predicted." in text


def test_predictions_stand_apart_from_measured_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, make_record(make_run()))
    assert cost.main(["--results", str(tmp_path)]) == 0
    measured = capsys.readouterr().out
    assert "PREDICTED" not in measured
    every = [run.series for rows in cost.grid_runs(recipes()).values() for run in rows.values()]
    for device in ("Some GPU", "Another"):
        prediction.write(calibration(*every, device=device), tmp_path)
    (prediction.folder(tmp_path) / "broken.json").write_text('{"device": 3}')
    assert cost.main(["--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "broken.json is damaged" in text
    assert measured.strip() in text, "the measured table is the same as without"
    assert text.count("PREDICTED") == 2
    assert "All: 282 runs, 1 devices: 423.0 h" in text


def test_a_calibration_is_stored_whole_and_read_again(tmp_path: Path) -> None:
    stored = calibration("cmnist_99/vanilla/0123456789ab", device="NVIDIA H100 80GB HBM3")
    path = prediction.write(stored, tmp_path)
    assert path.name == "nvidia-h100-80gb-hbm3.json"
    assert prediction.load(tmp_path) == [stored]
    broken = msgspec.json.decode(path.read_bytes())
    broken["runs"]["cmnist_99/vanilla/0123456789ab"]["training"] = -1
    path.write_bytes(msgspec.json.encode(broken))
    assert prediction.load(tmp_path) == []


def test_the_command_calibrates_this_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two methods of one task; the others' runs are not predicted, and the table says so."""
    rows = [row for row in cost.grid()["cmnist_99"] if row.method in ("vanilla", "lff")]
    monkeypatch.setattr(cost, "grid", lambda: {"cmnist_99": rows})
    monkeypatch.setattr(calibrate, "MOST", 300)
    assert cost.main(["--results", str(tmp_path), "--calibrate", "--minutes", "1", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "PREDICTED for CPU" in text
    (stored,) = prediction.load(tmp_path)
    assert {each.split("/")[1] for each in stored.runs} == {"vanilla", "lff"}
    hours = [float(cells(text, title)[0]) for title in ("Vanilla", "LfF")]
    assert hours == [pytest.approx(each.seconds / HOUR, abs=0.006) for each in stored.runs.values()]
    assert "of which 6 are predicted" in text


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--minutes", "0"]) == 2
    assert "--minutes: '0' will not do" in capsys.readouterr().err


def test_the_counts_of_images_are_those_of_the_data_sets() -> None:
    assert IMAGES["celeba"]._asdict() == celeba.IMAGES_IN_SPLIT
    assert IMAGES["waterbirds"]._asdict() == {name: np.sum(each) for name, each in waterbirds.GROUPS.items()}
    aligned = sum(round(dogs_cats.ALIGNED_SHARE * each) for each in np.diag(dogs_cats.LISTED))
    assert IMAGES["dogs_cats"].train == pytest.approx(aligned / 0.95, abs=1)
    assert IMAGES["dogs_cats"][1:] == (4 * dogs_cats.VALIDATION, 4 * dogs_cats.TEST)
    data = recipes().task_settings("imagenet_b")["data"]
    held_out = data["validation"] * len(data["classes"])
    assert IMAGES["imagenet_b"] == Images(9_469 - held_out, 10 * held_out, 10 * 3_925)
    sizes = {
        Images(*(int(np.sum(each)) for each in (record.groups.train, record.groups.validation, record.groups.test)))
        for record in Store(REPOSITORY / "results").everything("cmnist_99")
        if record.method == "vanilla" and record.groups.validation and not record.settings["balance"]
    }
    assert sizes == {IMAGES["colored_mnist"]}
