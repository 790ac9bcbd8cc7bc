"""python -m benchmark.curves, from invented records."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_tables import made_up_record

from benchmark import curves, plan, recipes, tables
from benchmark.curves import main
from benchmark.errors import UserError
from benchmark.plan import Run
from benchmark.records import Store
from benchmark.worker import REPOSITORY

SHARES = {"vanilla": 0.4, "poisoner": 0.8, "groupdro": 0.9, "gce": 0.2}


def save(store: Store, method: str, share: float, seed: int = 0, *changes: str, task: str = "cmnist_99") -> Run:
    overrides = [recipes.parse_override(change) for change in changes]
    run = Run(recipes.resolve(task, method, overrides), seed)
    store.save(run, made_up_record(run, share))
    return run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four methods with two seeds each, Poisoner without GIFL, and a run that is not the paper's."""
    store = Store(tmp_path / "results")
    for method, share in SHARES.items():
        for seed in (0, 1):
            save(store, method, share + 0.02 * seed, seed)
    save(store, "poisoner", 0.7, 0, "poisoner.gamma=0.0")
    save(store, "vanilla", 0.3, 0, "epochs=5")
    save(store, "vanilla", 0.35, 0, task="cmnist_98")
    return store


def group(store: Store, task: str = "cmnist_99") -> curves.Group:
    (found,) = curves.group_by_task(curves.select(store, [""], [task], None))
    return found


def test_the_tradeoff_shows_the_numbers_of_the_tables(store: Store) -> None:
    drawn = {series.label: series for series in group(store).series}
    (axis,) = curves.tradeoff(group(store)).axes
    marks = {tuple(np.round(point, 6)) for line in axis.lines for point in line.get_xydata()}
    seen = 0
    for number, names in (
        ("2", {"vanilla": "Vanilla", "poisoner": "Poisoner", "groupdro": "GroupDRO"}),
        ("4", {"poisoner_without_gifl": "Poisoner (gamma=0.0)"}),
    ):
        table = plan.TABLES[number]
        lines = tables.tidy(table, tables.collect(table, store))
        lines = lines[(lines.task == "cmnist_99") & (lines.selection == "last")].set_index(["method", "metric"])
        for key, label in names.items():
            expected = lines.loc[[(key, "model_bias"), (key, "avg_acc")]]
            assert curves.measured(drawn[label]).mean(0) == pytest.approx(expected["mean"].to_numpy())
            assert curves.published(drawn[label].run) == tuple(expected["paper"])
            for column in ("mean", "paper"):
                assert tuple(expected[column].astype(float).round(6)) in marks
                seen += 1
    assert seen == 8


def test_only_the_papers_settings_stand_beside_published_numbers(store: Store) -> None:
    drawn = {series.label: series for series in group(store).series}
    assert list(drawn) == [
        "Vanilla",
        "Vanilla (epochs=5)",
        "Poisoner",
        "Poisoner (gamma=0.0)",
        "GroupDRO",
        "GCE",
    ]
    assert curves.published(drawn["Vanilla (epochs=5)"].run) is None
    assert curves.published(drawn["GCE"].run) is None
    assert [len(series.found) for series in drawn.values()] == [2, 1, 2, 1, 2, 2]
    assert len({(series.color, series.dash) for series in drawn.values()}) == 6, "no two look alike"
    assert drawn["Poisoner"].color == drawn["Poisoner (gamma=0.0)"].color


def test_a_record_of_an_older_recipe_is_not_taken_for_todays(store: Store) -> None:
    run = Run(recipes.resolve("cmnist_99", "vanilla"), 7)
    run.settings["forgotten"] = True
    store.save(run, made_up_record(run, 0.5))
    labels = [series.label for series in group(store).series]
    assert "Vanilla (older recipe)" in labels


def test_of_too_many_kinds_of_runs_those_as_in_the_recipes_are_drawn(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for epochs in range(6, 6 + curves.MOST):
        save(store, "vanilla", 0.3, 0, f"epochs={epochs}")
    crowded = group(store)
    drawn = curves.legible(crowded)
    assert [series.label for series in drawn.series] == ["Vanilla", "Poisoner", "GroupDRO", "GCE"]
    assert "cmnist_99: 4 of" in capsys.readouterr().out
    assert [len(series.found) for series in drawn.series] == [2] * 4
    assert curves.legible(drawn) is drawn
    variants = [series for series in crowded.series if series.label.startswith("Vanilla (")]
    with pytest.raises(UserError, match=f"has {len(variants)} kinds of runs, of which a figure shows {curves.MOST}"):
        curves.legible(replace(crowded, series=variants))


def test_curves_read_training_errors_from_the_biased_model(store: Store) -> None:
    run = Run(recipes.resolve("cmnist_98", "poisoner"), 0)
    record = made_up_record(run, 0.5)
    for epoch, entry in enumerate(record["curves"]):
        for role, value in (("biased", 90.0), ("target", 10.0)):
            if role in entry:
                entry[role] |= {"conflicting_error": value - epoch, "conflicting_loss": value / 10}
    record["train"] = {"biased": [], "target": []}
    store.save(run, record)
    figure = curves.curves(group(store, "cmnist_98"))
    by_title = {axis.get_title(): axis for axis in figure.axes}
    (line,) = by_title["Training: error* of conflicting samples (%)"].lines
    assert line.get_ydata().tolist() == [90.0]
    assert by_title["Training: loss* of conflicting samples"].get_yscale() == "log"
    assert len(by_title["Test: average group accuracy (%) ↑"].lines) == 2
    (corner,) = (axis for axis in figure.axes if axis.texts)
    footnote = corner.texts[0].get_text().replace("\n", " ")
    assert footnote == "* of the biased model of Poisoner; of the tested network of all others"


def test_the_preview_shows_a_few_epochs_and_all_of_them_as_blocks(store: Store) -> None:
    assert curves.sparkline(np.array([0, 50, 99.9, 100])) == "▁▅██"
    assert len(curves.sparkline(np.linspace(0, 100, 500))) == 30
    printed = curves.text(group(store))
    block = printed[printed.index("Bias Accuracy") : printed.index("Test: model bias")]
    rows = {line[: line.index("  ")]: line.split()[-4:] for line in block.splitlines() if "  " in line}
    # The invented target loses ten points an epoch; Poisoner's biased model has a single one.
    assert rows["Vanilla"] == ["80.0", "70.0", "60.0", "▇▆▅"]
    assert rows["Poisoner"][-2:] == ["95.0", "█"]


def test_the_command_writes_the_same_files_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--results", str(store.folder), "--tasks", "cmnist_99"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    folder = store.folder / "figures"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {f"curves-cmnist_99{part}.{end}" for part in ("", "-tradeoff") for end in ("png", "pdf")}
    assert all(f"wrote {folder / name}" in printed for name in before)
    assert "▇" not in printed, "no preview where nobody looks"
    assert main([*command, "--text"]) == 0
    assert "80.0  70.0  60.0  ▇▆▅" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert main([*command, "--methods", "erm", "gce"]) == 0
    assert (folder / "curves-cmnist_99-vanilla-gce.png").exists()
    output = store.folder / "elsewhere"
    assert main(["--results", str(store.folder), "--runs", "cmnist_99/gce", "cmnist_98", "--output", str(output)]) == 0
    assert {path.stem for path in output.glob("*.pdf")} == {
        f"curves-{stem}{part}" for stem in ("cmnist_99-gce", "cmnist_98-vanilla") for part in ("", "-tradeoff")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "cmnist"], "did you mean 'cmnist_9"),
        (["--methods", "poisener"], "did you mean 'poisoner'"),
        (["--tasks", "waterbirds"], "No stored run is of these tasks and methods; there are cmnist_98/vanilla"),
        (["--runs", "cmnist_99/lff"], "Unknown run 'cmnist_99/lff'"),
        (["--results", "nowhere"], "nowhere/runs holds no record"),
    ],
)
def test_bad_input_exits_with_2_and_one_sentence(
    store: Store, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--results", str(store.folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (store.folder / "figures").exists()


def test_neither_command_loads_pytorch() -> None:
    code = "import sys, benchmark.curves, benchmark.inspect; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
