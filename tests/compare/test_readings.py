"""Readings of what the paper leaves open, judged on made-up curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from factories.records import curves, make_record, make_results, make_run, phase, put
from msgspec.structs import replace

from benchmark.compare import published, readings
from benchmark.compare.readings import READINGS
from benchmark.metrics import FAIRNESS
from benchmark.rules import LAST, RULES
from benchmark.store.record import Answers, Counts, Record

CONSTANT, RECIPES = "constant learning rate", "as in the recipes"


def save(
    folder: Path,
    method: str,
    averages: Sequence[float],
    validation: Sequence[float],
    reading: str,
    *,
    seed: int = 0,
    bias_acc: Sequence[float] | None = None,
) -> Record:
    """A record whose target network had these test averages, and validation accuracies, epoch after epoch.

    Groups are as nearly alike as their images allow, so that every rule on validation images chooses the same epoch.
    """
    run = make_run("cmnist_99", method, *READINGS[reading], seed=seed)
    told = curves(bias_acc=bias_acc or [50.0] * len(averages), avg_acc=averages)
    made = make_record(run, phases=[phase(target=told)])
    right = [np.array([spread(each, made.groups.test) for each in shares]) for shares in (averages, validation)]
    answers = Answers(epochs=list(range(1, len(averages) + 1)), test=right[0], validation=right[1])
    record = replace(made, answers=answers)
    put(folder, record)
    return record


def spread(percent: float, sizes: Counts) -> np.ndarray:
    """Right answers of every group, [C · B], that make so many percent of equally large groups."""
    groups = np.size(sizes)
    right = round(percent * np.sum(sizes) / 100)
    return right // groups + (np.arange(groups) < right % groups)


def difference(folder: Path, reading: str, rule: str) -> float:
    found = readings.evaluate(make_results(folder)).set_index(["reading", "selection", "metric"])
    return float(found.loc[(reading, rule, "avg_acc"), "difference"])


def distance(record: Record) -> float:
    """The mean distance of its three numbers from the paper's."""
    printed = {each: published.numbers()["table2", record.method, "cmnist_99", each] for each in FAIRNESS}
    found = record.fairness()
    return float(np.mean([abs(found[each] - printed[each]) for each in FAIRNESS]))


def written(folder: Path) -> str:
    results = make_results(folder)
    return readings.write(readings.evaluate(results), results)


def test_every_rule_takes_its_epochs_of_every_method(tmp_path: Path) -> None:
    save(tmp_path, "vanilla", [10, 20, 30, 40, 50, 60], [1, 9, 9, 3, 2, 2], CONSTANT)
    save(tmp_path, "lff", [60, 90, 80, 70, 60, 50], [5, 1, 1, 1, 1, 1], CONSTANT)
    paper = [published.numbers()["table2", method, "cmnist_99", "avg_acc"] for method in ("vanilla", "lff")]
    expected = {rule: (20, 60) for rule in RULES if rule.startswith("validation")}
    expected |= {"last": (60, 50), "test_average": (60, 90)}
    assert set(expected) == set(RULES)
    for rule, values in expected.items():
        distances = [abs(value - number) for value, number in zip(values, paper, strict=True)]
        assert difference(tmp_path, CONSTANT, rule) == pytest.approx(sum(distances) / 2)


def test_readings_stand_apart_and_say_whether_they_are_nearer(tmp_path: Path) -> None:
    paper = published.numbers()["table2", "vanilla", "cmnist_99", "avg_acc"]
    constant = save(tmp_path, "vanilla", [paper + 3], [1], CONSTANT)
    recipes = save(tmp_path, "vanilla", [paper - 1], [1], RECIPES)
    change = f"{distance(constant) - distance(recipes):+.2f}"
    assert difference(tmp_path, CONSTANT, "last") == pytest.approx(3)
    assert difference(tmp_path, "as in the recipes", "last") == pytest.approx(1)
    text = written(tmp_path)
    head, _, *lines = [[cell.strip() for cell in row.split("|")] for row in text.splitlines() if row.startswith("|")]
    assert [(line[1], line[head.index("Change")]) for line in lines] == [(RECIPES, "–"), (CONSTANT, change)]
    save(tmp_path, "lff", [10.0], [1], CONSTANT)
    text = written(tmp_path)
    assert change not in text, "the recipes lack a run to compare with"


def test_a_reading_is_compared_with_the_recipes_own_runs_of_its_methods_and_seeds(tmp_path: Path) -> None:
    paper = published.numbers()["table2", "vanilla", "cmnist_99", "avg_acc"]
    constant = save(tmp_path, "vanilla", [paper + 3], [1], CONSTANT)
    columns = ["reading", "selection", "metric"]
    line = (CONSTANT, "last", "avg_acc")
    assert math.isnan(readings.evaluate(make_results(tmp_path)).set_index(columns).loc[line, "recipes"])
    recipes = save(tmp_path, "vanilla", [paper - 1], [1], RECIPES)
    save(tmp_path, "vanilla", [paper - 20], [1], RECIPES, seed=1)
    save(tmp_path, "lff", [0.0], [1], RECIPES)
    found = readings.evaluate(make_results(tmp_path))
    assert found.set_index(columns).loc[line, "recipes"] == pytest.approx(1)
    (summary,) = readings.summary(found, LAST).query("reading == @CONSTANT").to_dict("records")
    assert summary["all"] == pytest.approx(distance(constant))
    assert summary["recipes"] == pytest.approx(distance(recipes))
    assert (summary["methods"], summary["runs"], summary["collapsed"]) == (1, 1, 0)


def test_runs_that_a_rule_cannot_choose_in_are_compared_with_none(tmp_path: Path) -> None:
    paper = published.numbers()["table2", "vanilla", "cmnist_99", "avg_acc"]
    save(tmp_path, "vanilla", [paper + 3], [1], CONSTANT)
    record = save(tmp_path, "vanilla", [paper + 7], [1], CONSTANT, seed=1)
    without = replace(record.answers, validation=None), replace(record.groups, validation=None)
    put(tmp_path, replace(record, answers=without[0], groups=without[1]))
    for seed, ahead in enumerate((-1, -9)):
        save(tmp_path, "vanilla", [paper + ahead], [1], RECIPES, seed=seed)
    found = readings.evaluate(make_results(tmp_path))
    lines = found[(found.reading == CONSTANT) & (found.metric == "avg_acc")].set_index("selection")
    assert lines.loc["validation", ["runs", "difference", "recipes"]].tolist() == pytest.approx([1, 3, 1])
    assert lines.loc["last", ["runs", "difference", "recipes"]].tolist() == pytest.approx([2, 5, 5])
    shown = {rule: readings.summary(found, RULES[rule]).set_index("reading").runs[CONSTANT] for rule in lines.index}
    assert shown == lines.runs.to_dict()


def test_a_reading_that_a_recipe_already_has_says_nothing_new(tmp_path: Path) -> None:
    decay = "weight decay 1e-4"
    save(tmp_path, "groupdro", [50.0], [1], RECIPES)
    assert make_run("cmnist_99", "groupdro", *READINGS[decay]) == make_run("cmnist_99", "groupdro")
    assert set(readings.evaluate(make_results(tmp_path)).reading) == {RECIPES}
    save(tmp_path, "vanilla", [50.0], [1], decay)
    found = readings.evaluate(make_results(tmp_path)).set_index(["reading", "selection", "metric"])
    assert found.loc[(decay, "last", "avg_acc"), "methods"] == 2


def test_without_records_there_is_nothing_to_compare(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    found = readings.evaluate(results)
    assert found.empty
    assert "|" not in readings.write(found, results)


def test_table_3_counts_where_all_of_its_rows_are_measured(tmp_path: Path) -> None:
    columns = ["reading", "selection", "metric"]
    for method in ("vanilla", "gce"):
        save(tmp_path, method, [50.0] * 3, [1, 1, 1], CONSTANT, bias_acc=[90.0, 80.0, 60.0])
    assert "bias_acc" not in set(readings.evaluate(make_results(tmp_path)).metric)
    save(tmp_path, "poisoner", [50.0] * 3, [1, 1, 1], CONSTANT, bias_acc=[90.0, 80.0, 60.0])
    found = readings.evaluate(make_results(tmp_path)).set_index(columns)
    (line,) = found.loc[[(CONSTANT, "last", "bias_acc")]].difference
    paper = {
        row: value
        for (table, row, task, metric), value in published.numbers().items()
        if (table, task, metric) == ("table3", "cmnist_99", "bias_acc")
    }
    measured = {name: 80.0 if name.endswith("epoch2") else 60.0 for name in paper}
    assert len(paper) == 5
    assert line == pytest.approx(sum(abs(measured[name] - paper[name]) for name in paper) / 5)


def test_readings_of_gifl_are_judged_in_every_preset_and_stand_apart(tmp_path: Path) -> None:
    differentiated = "GIFL: its means differentiated"
    for changes in ((), ("poisoner.differentiated=both",)):
        put(tmp_path, make_record(make_run("celeba_bignose", "poisoner", *changes, preset="reduced")))
    put(tmp_path, make_record(make_run("celeba_bignose", "poisoner")))
    found = readings.evaluate(make_results(tmp_path)).query("subject == 'Poisoner alone'")
    told = {key: set(lines.reading) for key, lines in found.groupby(["preset", "task"])}
    assert told == {
        ("paper", "celeba_bignose"): {RECIPES},
        ("reduced", "celeba_bignose"): {RECIPES, differentiated},
    }
    heads = [line for line in written(tmp_path).splitlines() if line.startswith("## ")]
    assert [head.endswith("(reduced preset)") for head in heads] == [False, False, True, True]
