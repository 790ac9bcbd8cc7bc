"""The paper's figures from invented records: what is drawn must be what the records and the paper say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from benchmark import figures, plan, records, tables
from benchmark.plan import Figure, Run
from benchmark.records import SCHEMA, Store
from benchmark.run import main

RESULTS = Path(__file__).parent.parent / "results"


def invented(run: Run) -> dict[str, Any]:
    """A record whose every number depends on its settings and seed."""
    settings = run.settings
    balance = settings.get("balance", 0.01)
    shift = run.seed + 10 * settings["options"].get("gamma", 0) + settings["options"].get("percentile", 0) / 10
    correct = np.full((10, 10), 50 + round(shift))
    correct[:, 1] -= 20
    train = np.full((10, 10), round(1000 * balance) or 1)
    np.fill_diagonal(train, 9000)
    right = np.zeros((10, 10), int)
    np.fill_diagonal(right, 8100)

    def networks(epoch: int) -> dict[str, Any]:
        base = {"bias_acc": 90.0 - epoch, "aligned_error": 1.0 + shift, "conflicting_error": 10.0 * epoch + shift}
        base |= {"aligned_loss": 0.5 / epoch, "conflicting_loss": 0.1 / epoch, "avg_acc": 50.0, "model_bias": 20.0}
        if run.method == "poisoner":
            return {"biased": base, "target": base | {"conflicting_loss": 0.2 / epoch}}
        return {"target": base}

    counts = {"epoch": 3, "correct": correct.tolist()}
    return {
        "schema": SCHEMA,
        "task": run.task,
        "method": run.method,
        "seed": run.seed,
        "preset": run.preset,
        "settings": settings,
        "groups": {
            "test": np.full((10, 10), 100).tolist(),
            "train": train.tolist(),
            "aligned_bias": list(range(10)),
        },
        "test": {"last": counts},
        "train": {"biased" if run.method == "poisoner" else "target": right.tolist()},
        "curves": [{"phase": "p", "epoch": epoch, "loss": 1.0, **networks(epoch)} for epoch in (1, 2, 3)],
        "summary": {},
        "warnings": [],
        "provenance": {"commit": "0123456789abcdef", "modified": False},
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """All runs of all figures on C-MNIST, with two seeds."""
    store = Store(tmp_path)
    for figure in plan.FIGURES.values():
        instead = figure.on("cmnist_99")
        for run in instead.runs(range(2), instead.tasks, [row.method for row in instead.rows]):
            store.save(run, invented(run))
    return store


def drawn(number: str, store: Store) -> tuple[Figure, list[Axes]]:
    figure = plan.FIGURES[number].on("cmnist_99")
    return figure, figures.draw(figure, tables.collect(figure, store)).axes


def line(axes: Axes, label: str) -> list[list[float]]:
    """x and y of the line of that label, whether drawn as a line or with error bars."""
    labels = [container.get_label() for container in axes.containers]
    if label in labels:
        found = axes.containers[labels.index(label)].lines[0]  # type: ignore[attr-defined]
    else:
        (found,) = (each for each in axes.lines if each.get_label() == label)
    return [np.asarray(each, float).tolist() for each in (found.get_xdata(), found.get_ydata())]


def diamonds(axes: Axes) -> list[tuple[float, float]]:
    return [
        (float(each.get_xdata()[0]), float(each.get_ydata()[0]))
        for each in axes.lines
        if each.get_marker() == "D" and len(each.get_xdata())
    ]


def test_curves_are_those_of_the_biased_model_averaged_over_seeds(store: Store) -> None:
    _, (axes,) = drawn("4", store)
    # Poisoner has p = 5, γ = 1 and hence a shift of 10.5 in this invention; the mean of seeds 0 and 1 adds a half.
    assert line(axes, "Poisoner: error on conflicting (%)") == [[1, 2, 3], [21, 31, 41]]
    assert line(axes, "GCE: error on aligned (%)") == [[1, 2, 3], [1.5, 1.5, 1.5]]
    assert len(axes.collections) == 4, "a band for each line"


def test_the_loss_without_gifl_is_the_target_networks(store: Store) -> None:
    _, (losses, _) = drawn("6", store)
    assert line(losses, "loss of conflicting")[1] == pytest.approx([0.2, 0.1, 0.2 / 3])


def test_a_sweep_shows_final_values_in_order_beside_the_papers(store: Store) -> None:
    figure, (_, sweep) = drawn("6", store)
    # Over γ nothing but the level changes, and with it the gap of the worst colour not at all: 50+10γ against 30+10γ.
    x, y = line(sweep, "model bias (%)")
    assert x == [0, 0.25, 0.5, 0.75, 1]
    lines = tables.tidy(figure, tables.collect(figure, store))
    cells = lines[(lines.selection == "last") & (lines.metric == "model_bias")].set_index("method")["mean"]
    assert y[-1] == pytest.approx(cells["poisoner-poisoner.gamma=1.0"])
    assert y == pytest.approx([18.0] * 5)
    published = tables.published()
    assert diamonds(sweep) == [
        (0, published["table4", "poisoner_without_gifl", "cmnist_99", "model_bias"]),
        (1, published["table4", "poisoner_with_gifl", "cmnist_99", "model_bias"]),
    ]


def test_balance_stands_where_the_record_counts_it(store: Store) -> None:
    _, (bias, _, identification) = drawn("5", store)
    x, _ = line(bias, "LfF")
    conflicting = [90 * round(1000 * balance) for balance in (0.01, 0.05, 0.1, 0.2, 0.75, 1.0)]
    assert x == pytest.approx([each / 90_000 for each in conflicting])
    assert ("table3", "erm", "cmnist_99", "bias_acc") in tables.published().index
    natural = x[0]
    assert (natural, 65.70) in [(pytest.approx(a), b) for a, b in diamonds(identification)]


def test_identification_counts_what_the_biased_model_gets_wrong(store: Store) -> None:
    run = plan.TABLES["2"].run(next(row for row in plan.COMPARED if row.method == "poisoner"), "cmnist_99", 0)
    record = store.load(run)
    assert record is not None
    # 90 conflicting cells of 10, all wrong; ten aligned ones of 9,000, a tenth of each wrong.
    assert records.identification(record) == {"recall": 100, "precision": pytest.approx(100 * 900 / (900 + 9000))}
    _, (over_p, _) = drawn("7", store)
    assert set(line(over_p, "recall of conflicting (%)")[1]) == {100}


def test_figures_and_tables_share_runs() -> None:
    def ids(table: plan.Table) -> set[str]:
        return {run.id for run in table.runs([0], ["cmnist_99"], [row.method for row in table.rows])}

    shown = {number: ids(figure.on("cmnist_99")) for number, figure in plan.FIGURES.items()}
    poisoner = next(iter(ids(plan.with_methods(plan.selection(["cmnist_99"], ["poisoner"]), []))))
    assert all(poisoner in shown[number] for number in "4567")
    assert ids(plan.TABLES["4"]) <= shown["6"]
    assert len(ids(plan.TABLES["3"]) & shown["2"]) == 2


def test_a_stand_in_is_named_and_never_takes_the_place_of_the_papers(store: Store) -> None:
    figure = plan.FIGURES["4"]
    instead = figure.on("cmnist_99")
    assert (figure.stem, instead.stem) == ("figure4", "figure4-cmnist_99")
    text = figures.caption(instead, tables.collect(instead, store))
    assert "C-MNIST¹ (ρ = 0.99), in place of the paper's CelebA, big nose and Waterbirds (n = 2)" in text
    assert "in place" not in figures.caption(figure, tables.collect(figure, store))
    assert replace(plan.FIGURES["6"].on("waterbirds"), preset="reduced").stem == "figure6-reduced"


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    figure = plan.FIGURES["2"]
    axes = figures.draw(figure, tables.collect(figure, Store(tmp_path))).axes
    assert [[text.get_text() for text in each.texts] for each in axes] == [["not measured"]] * 4
    assert not any(each.lines for each in axes), "no mark of the paper where there is nothing to compare"


def test_the_command_line_draws_what_is_asked_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(store.folder), "--render-only"]
    assert main(["--figure", "4", "6", "--task", "cmnist_99", *where]) == 0
    assert {path.name for path in (store.folder / "figures").iterdir()} == {
        f"figure{number}-cmnist_99.{suffix}" for number in "46" for suffix in ("png", "pdf")
    }
    first = (store.folder / "figures" / "figure6-cmnist_99.png").read_bytes()
    assert main(["--figure", "6", "--task", "cmnist_99", *where]) == 0
    assert (store.folder / "figures" / "figure6-cmnist_99.png").read_bytes() == first
    capsys.readouterr()
    assert main(["--figure", "3", *where]) == 2
    assert "There is no figure 3: those of the paper that show runs are 2, 4, 5, 6, 7." in capsys.readouterr().err
    assert main(["--table", "2", "--task", "cmnist_99", *where]) == 2
    assert "--task is for figures" in capsys.readouterr().err


def test_all_means_every_table_every_figure_and_every_stand_in_with_all_its_runs(store: Store) -> None:
    assert main(["--all", "--render-only", "--results", str(store.folder)]) == 0
    written = {path.stem for path in (store.folder / "figures").glob("*.png")}
    assert {f"figure{number}" for number in "24567"} | {f"figure{number}-cmnist_99" for number in "24567"} <= written
    assert not any("cmnist_98" in name for name in written), "which has no runs"
    assert {path.stem for path in (store.folder / "tables").glob("*.tex")} >= {"table1", "table2", "table3", "table4"}


def test_every_committed_record_stands_under_the_hash_of_its_settings() -> None:
    """Or old records would be lost to a new version: a setting that is added must go into [neutral]."""
    paths = sorted((RESULTS / "runs").rglob("*.json"))
    assert paths
    for path in paths:
        record = json.loads(path.read_text())
        run = Run(record["settings"], record["seed"])
        assert path == Store(RESULTS).record_path(run)
    table = plan.TABLES["2"]
    assert all(Store(RESULTS).has(table.run(row, "cmnist_99", 0)) for row in table.rows)
