"""Readings are judged by whole columns: from records made up for the purpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmark.records import Store
from test_tables import made_up_record

from benchmark import readings, recipes, tables
from benchmark.plan import Run

CONSTANT, RECIPES = "constant learning rate", "as in the recipes"


def save(
    store: Store, method: str, averages: Sequence[float], validation: Sequence[float], reading: str, seed: int = 0
) -> None:
    """A record whose target network had these test averages, and validation accuracies, epoch after epoch."""
    run = Run(recipes.resolve("cmnist_99", method, readings.READINGS[reading]), seed)
    record = made_up_record(run, 0.5)
    record["curves"] = [
        {
            "phase": "train",
            "epoch": epoch,
            "loss": 1.0,
            "target": {"avg_acc": average, "worst_acc": 0.0, "model_bias": 10.0, "validation_acc": accuracy},
        }
        for epoch, (average, accuracy) in enumerate(zip(averages, validation, strict=True), 1)
    ]
    store.save(run, record)


def difference(store: Store, reading: str, rule: str) -> float:
    found = readings.evaluate(store).set_index(["reading", "epoch", "metric"])
    return float(found.loc[(reading, rule, "avg_acc"), "difference"])


def test_every_rule_takes_its_epochs_of_every_method(tmp_path: Path) -> None:
    store = Store(tmp_path)
    save(store, "vanilla", [10, 20, 30, 40, 50, 60], [1, 9, 9, 3, 2, 2], CONSTANT)
    save(store, "lff", [60, 90, 80, 70, 60, 50], [5, 1, 1, 1, 1, 1], CONSTANT)
    paper = [tables.published()["table2", method, "cmnist_99", "avg_acc"] for method in ("vanilla", "lff")]
    expected = {
        "the last": (60, 50),
        "mean of the last five": (40, 70),
        "best validation": (20, 60),
        "best test average": (60, 90),
    }
    assert set(expected) == set(readings.RULES)
    for rule, values in expected.items():
        distances = [abs(value - number) for value, number in zip(values, paper, strict=True)]
        assert difference(store, CONSTANT, rule) == pytest.approx(sum(distances) / 2)


def test_readings_stand_apart_and_say_whether_they_are_nearer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paper = tables.published()["table2", "vanilla", "cmnist_99", "avg_acc"]
    save(store, "vanilla", [paper + 3], [1], CONSTANT)
    save(store, "vanilla", [paper - 1], [1], RECIPES)
    assert difference(store, CONSTANT, "the last") == pytest.approx(3)
    assert difference(store, "as in the recipes", "the last") == pytest.approx(1)
    text = readings.write(readings.evaluate(store), tmp_path)
    head, _, *lines = [[cell.strip() for cell in row.split("|")] for row in text.splitlines() if row.startswith("|")]
    # Bias and worst group are the same in both, so that "All" changes by a third of what the average does.
    assert [(line[1], line[head.index("Change")]) for line in lines] == [(RECIPES, "–"), (CONSTANT, "+0.67")]
    save(store, "lff", [10.0], [1], CONSTANT)
    text = readings.write(readings.evaluate(store), tmp_path)
    assert "+0.67" not in text, "the recipes lack a run to compare with"


def test_a_reading_is_compared_with_the_recipes_own_runs_of_its_methods_and_seeds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paper = tables.published()["table2", "vanilla", "cmnist_99", "avg_acc"]
    save(store, "vanilla", [paper + 3], [1], CONSTANT)
    columns = ["reading", "epoch", "metric"]
    line = (CONSTANT, "the last", "avg_acc")
    assert math.isnan(readings.evaluate(store).set_index(columns).loc[line, "recipes"])
    save(store, "vanilla", [paper - 1], [1], RECIPES)
    save(store, "vanilla", [paper - 20], [1], RECIPES, seed=1)
    save(store, "lff", [0.0], [1], RECIPES)
    found = readings.evaluate(store)
    assert found.set_index(columns).loc[line, "recipes"] == pytest.approx(1)
    (summary,) = readings.summary(found).query("reading == @CONSTANT").to_dict("records")
    bias, worst = (tables.published()["table2", "vanilla", "cmnist_99", each] for each in ("model_bias", "worst_acc"))
    assert summary["all"] == pytest.approx((3 + abs(bias - 10) + worst) / 3)
    assert summary["recipes"] == pytest.approx((1 + abs(bias - 10) + worst) / 3)
    assert (summary["methods"], summary["runs"]) == (1, 1)


def test_a_reading_that_a_recipe_already_has_says_nothing_new(tmp_path: Path) -> None:
    store = Store(tmp_path)
    decay = "weight decay 1e-4"
    save(store, "groupdro", [50.0], [1], RECIPES)
    assert store.load(Run(recipes.resolve("cmnist_99", "groupdro", readings.READINGS[decay]), 0))
    assert set(readings.evaluate(store).reading) == {RECIPES}
    save(store, "vanilla", [50.0], [1], decay)
    found = readings.evaluate(store).set_index(["reading", "epoch", "metric"])
    assert found.loc[(decay, "the last", "avg_acc"), "methods"] == 2


def test_without_records_there_is_nothing_to_compare(tmp_path: Path) -> None:
    found = readings.evaluate(Store(tmp_path))
    assert found.empty
    assert "|" not in readings.write(found, tmp_path)


def test_table_3_counts_where_all_of_its_rows_are_measured(tmp_path: Path) -> None:
    store = Store(tmp_path)
    columns = ["reading", "epoch", "metric"]
    for method in ("vanilla", "gce"):
        save(store, method, [50.0, 50.0, 50.0], [1, 1, 1], CONSTANT)
    assert "bias_acc" not in set(readings.evaluate(store).metric)
    save(store, "poisoner", [50.0, 50.0, 50.0], [1, 1, 1], CONSTANT)
    for method in ("vanilla", "gce", "poisoner"):
        run = Run(recipes.resolve("cmnist_99", method, readings.READINGS[CONSTANT]), 0)
        record = store.load(run)
        assert record
        for entry, value in zip(record["curves"], (90.0, 80.0, 60.0), strict=True):
            entry["target"]["bias_acc"] = value
        store.save(run, record)
    (line,) = readings.evaluate(store).set_index(columns).loc[[(CONSTANT, "the last", "bias_acc")]].difference
    paper = tables.published()["table3"].xs(("cmnist_99", "bias_acc"), level=("task", "metric"))
    measured = {name: 80.0 if name.endswith("epoch2") else 60.0 for name in paper.index}
    assert line == pytest.approx(sum(abs(measured[name] - paper[name]) for name in paper.index) / 5)
