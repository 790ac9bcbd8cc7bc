"""python -m benchmark.curves, from invented records."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories.records import curves as make_curves
from factories.records import make_record, make_results, make_run, phase, put, save_seeds
from matplotlib.text import Text

from benchmark import curves, run
from benchmark.compare.cells import tidy
from benchmark.curves import main
from benchmark.errors import UserError
from benchmark.plan.paper import TABLES
from benchmark.plan.recipes import load
from benchmark.report.style import MOST_LINES
from benchmark.rules import LAST, REPORTED
from benchmark.store.provenance import REPOSITORY
from benchmark.store.record import Curves, Record
from benchmark.store.results import Results, Series
from benchmark.terminal.output import sparkline

SPLITS = ("test", "validation")
SHARES = {"vanilla": 0.4, "poisoner": 0.8, "groupdro": 0.9, "gce": 0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four methods with two seeds each, Poisoner without GIFL, and a run that is not the paper's."""
    folder = tmp_path / "results"
    for method, share in SHARES.items():
        save_seeds(folder, method, {0: share, 1: share + 0.02})
    save_seeds(folder, "poisoner", {0: 0.7}, changes=["poisoner.gamma=0.0"])
    save_seeds(folder, "vanilla", {0: 0.3}, changes=["epochs=5"])
    save_seeds(folder, "vanilla", {0: 0.35}, task="cmnist_98")
    return folder


def group(results: Results, task: str = "cmnist_99") -> curves.Group:
    runs = {record.run.id for record in results.records}
    (found,) = curves.group_by_task(curves.select(results, runs, load(), [task], None), results)
    return found


def series_of(results: Results, task: str = "cmnist_99") -> dict[str, Series]:
    """What is drawn of a task, by its label."""
    return {line.label: line.series for line in group(results, task).lines}


def test_the_tradeoff_is_of_the_epoch_that_tables_show(folder: Path) -> None:
    made = make_record(make_run("cmnist_99", "vanilla"), 0.4)
    answers = msgspec.structs.replace(
        made.answers, **{name: (getattr(made.answers, name) * [[0.9], [1], [0.5]]).astype(int) for name in SPLITS}
    )
    put(folder, msgspec.structs.replace(made, answers=answers))
    results = make_results(folder)
    (record,) = (each for each in results.records if each.run == made.run)
    drawing = curves.tradeoff(group(results), results)
    (axis,) = drawing.axes
    points = [tuple(point) for line in axis.lines for point in np.round(line.get_xydata(), 6)]
    shown, last = (record.fairness(rule) for rule in (REPORTED, LAST))
    assert (round(shown["model_bias"], 6), round(shown["avg_acc"], 6)) in points
    assert (round(last["model_bias"], 6), round(last["avg_acc"], 6)) not in points
    text = " ".join(each.get_text() for each in drawing.findobj(Text)).replace("\n", " ")
    assert REPORTED.note in text


def test_the_tradeoff_shows_the_numbers_of_the_tables(folder: Path) -> None:
    results = make_results(folder)
    drawn = series_of(results)
    (axis,) = curves.tradeoff(group(results), results).axes
    marks = {tuple(np.round(point, 6)) for line in axis.lines for point in line.get_xydata()}
    seen = 0
    for number, names in (
        ("2", {"vanilla": "Vanilla", "poisoner": "Poisoner", "groupdro": "GroupDRO"}),
        ("4", {"poisoner_without_gifl": "Poisoner (gamma=0.0)"}),
    ):
        lines = tidy(TABLES[number], results)
        lines = lines[(lines.task == "cmnist_99") & (lines.selection == REPORTED.name)].set_index(["method", "metric"])
        for key, label in names.items():
            expected = lines.loc[[(key, "model_bias"), (key, "avg_acc")]]
            assert curves.measured(drawn[label], results.rule).mean(0) == pytest.approx(expected["mean"].to_numpy())
            assert curves.printed(drawn[label], results) == tuple(expected["paper"])
            for column in ("mean", "paper"):
                assert tuple(expected[column].astype(float).round(6)) in marks
                seen += 1
    assert seen == 8


def test_only_the_papers_settings_stand_beside_published_numbers(folder: Path) -> None:
    results = make_results(folder)
    drawn = {line.label: line for line in group(results).lines}
    assert list(drawn) == [
        "Vanilla",
        "Vanilla (epochs=5)",
        "Poisoner",
        "Poisoner (gamma=0.0)",
        "GroupDRO",
        "GCE",
    ]
    assert curves.printed(drawn["Vanilla (epochs=5)"].series, results) is None
    assert curves.printed(drawn["GCE"].series, results) is None
    assert [len(line.series) for line in drawn.values()] == [2, 1, 2, 1, 2, 2]
    assert len({(line.color, line.dash) for line in drawn.values()}) == 6, "no two look alike"
    assert drawn["Poisoner"].color == drawn["Poisoner (gamma=0.0)"].color


def test_a_record_of_an_older_recipe_is_not_taken_for_todays(folder: Path) -> None:
    run = make_run(seed=7)
    run.settings["forgotten"] = True
    drawn = series_of(make_results(folder, make_record(run)))
    assert f"Vanilla (older recipe, {run.series.rpartition('/')[2]})" in drawn


def test_runs_of_a_network_that_is_not_here_are_not_taken_for_the_recipes(folder: Path) -> None:
    runs = [make_run(seed=seed) for seed in (7, 8)]
    for each, name in zip(runs, ("small_cnn", "large_cnn"), strict=True):
        each.settings["network"] = name
    before = series_of(make_results(folder))["Vanilla"]
    drawn = series_of(make_results(folder, *map(make_record, runs)))
    assert drawn["Vanilla"].id == before.id
    assert sum(label.startswith("Vanilla (no recipe here, ") for label in drawn) == 2


def test_of_too_many_kinds_of_runs_those_as_in_the_recipes_are_drawn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for epochs in range(6, 6 + MOST_LINES):
        save_seeds(folder, "vanilla", {0: 0.3}, changes=[f"epochs={epochs}"])
    results = make_results(folder)
    crowded = group(results)
    drawn = curves.legible(crowded, results)
    assert [line.label for line in drawn.lines] == ["Vanilla", "Poisoner", "GroupDRO", "GCE"]
    assert "cmnist_99: 4 of" in capsys.readouterr().out
    assert [len(line.series) for line in drawn.lines] == [2] * 4
    assert curves.legible(drawn, results) is drawn
    variants = [line for line in crowded.lines if line.label.startswith("Vanilla (")]
    with pytest.raises(UserError, match=f"has {len(variants)} kinds of runs, of which a figure shows {MOST_LINES}"):
        curves.legible(replace(crowded, lines=variants), results)


def test_curves_read_training_errors_from_the_biased_model(folder: Path) -> None:
    parts = [
        phase("poison", biased=make_curves(conflicting_error=[90.0], conflicting_loss=[9.0])),
        phase(target=make_curves(conflicting_error=[10.0], conflicting_loss=[1.0], avg_acc=[50.0], model_bias=[30.0])),
    ]
    results = make_results(folder, make_record(make_run("cmnist_98", "poisoner"), phases=parts))
    figure = curves.curves(group(results, "cmnist_98"), results)
    by_title = {axis.get_title(): axis for axis in figure.axes}
    drawn = {line.get_label(): line for line in by_title["Training*: error on conflicting"].lines}
    assert drawn["Poisoner"].get_ydata().tolist() == [90.0]
    assert drawn["Vanilla"].get_ydata().tolist() == [60.0, 40.0, 20.0]
    assert by_title["Training*: loss of conflicting"].get_yscale() == "log"
    assert len(by_title["Test: average group accuracy ↑"].lines) == 2
    texts = [each.get_text().replace("\n", " ") for each in figure.findobj(Text)]
    (footnote,) = [each for each in texts if each.startswith("* ")]
    assert footnote.startswith("* of the biased model of Poisoner; of the tested network of all others.")


def test_the_preview_shows_a_few_epochs_and_all_of_them_as_blocks(folder: Path) -> None:
    assert sparkline([0, 50, 99.9, 100], 30) == "▁▅██"
    assert len(sparkline(list(range(500)), 30)) == 30
    results = make_results(folder)
    printed = curves.text(group(results), results)
    block = printed[printed.index("Training: Bias Accuracy") :]
    rows = {line[: line.index("  ")]: line.split()[-4:] for line in block.splitlines() if "  " in line}
    # The invented target loses ten points an epoch; Poisoner's biased model has a single one.
    assert rows["Vanilla"] == ["80.0", "70.0", "60.0", "▇▆▅"]
    assert rows["Poisoner"][-2:] == ["95.0", "█"]


GAP = float("nan")
ODD: dict[str, dict[str, list[float]]] = {
    "vanilla": {"bias_acc": [GAP] * 3, "conflicting_error": [GAP] * 3, "conflicting_loss": [GAP] * 3},
    "gce": {"bias_acc": [GAP] * 3, "aligned_error": [GAP] * 3, "aligned_loss": [GAP] * 3},
    "jtt": {"aligned_loss": [3e38, 0, 3e38], "conflicting_loss": [0, 3e38, 0]},
    "debian": {name: [GAP] * 3 for name in Curves.__struct_fields__},
    "groupdro": {name: [GAP, 50, GAP] for name in Curves.__struct_fields__},
}
SIZES = {"vanilla": (90, 0), "gce": (0, 90)}  # training images of aligned and of conflicting groups


def odd(method: str, task: str, seed: int) -> Record:
    """With what a record may lack, or with losses of a network that is about to diverge."""
    record = make_record(make_run(task, method, seed=seed))
    (own,) = record.phases
    assert own.target
    told = {name: np.array(each) for name, each in ODD[method].items() if name in own.target.measured}
    aligned, conflicting = SIZES.get(method, (90, 90))
    train = np.where(np.eye(10), aligned, conflicting).tolist()
    return msgspec.structs.replace(
        record,
        phases=[msgspec.structs.replace(own, target=msgspec.structs.replace(own.target, **told))],
        groups=msgspec.structs.replace(record.groups, train=train),
        train={"target": np.zeros((10, 10), int).tolist()},
    )


def test_what_a_record_may_lack_or_overflow_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two seeds each one or both are odd; the third task has nothing to draw."""
    for task, seeds in {"cmnist_99": {0}, "cmnist_98": {1}, "waterbirds": {0, 1}}.items():
        for method in ODD if task != "waterbirds" else ["debian"]:
            for seed in (0, 1):
                plain = make_record(make_run(task, method, seed=seed))
                put(tmp_path, odd(method, task, seed) if seed in seeds else plain)
    assert main(["--results", str(tmp_path), "--text"]) == 0
    assert run.main(["--all", "--render-only", "--results", str(tmp_path)]) == 0
    assert "is damaged" not in capsys.readouterr().out
    assert (tmp_path / "figures" / "table2-waterbirds.png").exists()


def test_the_command_writes_the_same_files_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--results", str(folder), "--tasks", "cmnist_99"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    figures = folder / "figures"
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    assert set(before) == {f"curves-cmnist_99{part}.{end}" for part in ("", "-tradeoff") for end in ("png", "pdf")}
    assert all(f"wrote {figures / name}" in printed for name in before)
    assert "▇" not in printed, "no preview where nobody looks"
    assert main([*command, "--text"]) == 0
    assert "80.0  70.0  60.0  ▇▆▅" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == before
    assert main([*command, "--methods", "erm", "gce"]) == 0
    assert (figures / "curves-cmnist_99-vanilla-gce.png").exists()
    output = folder / "elsewhere"
    assert main(["--results", str(folder), "--runs", "cmnist_99/gce", "cmnist_98", "--output", str(output)]) == 0
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
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--results", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "figures").exists()


def test_neither_command_loads_pytorch() -> None:
    code = "import sys, benchmark.curves, benchmark.inspect.__main__; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
