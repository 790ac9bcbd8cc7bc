"""Accuracy by group: the numbers, and which of them a reader is shown."""

from __future__ import annotations

import csv
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
import pytest
from factories.records import make_record, make_results, make_run
from msgspec.structs import replace

from benchmark.compare.groups import tidy
from benchmark.plan.paper import TABLES
from benchmark.report import groups
from benchmark.rules import RULES
from benchmark.store.record import Answers, Groups, Record

TABLE = TABLES["1"]
TRAIN, TEST = [[90, 10], [20, 80]], [[200, 100], [50, 400]]


def record(method: str, seed: int, *correct: list[int], train: list[list[int]] = TRAIN) -> Record:
    """Of two classes and biases: the right answers of the four test groups after each epoch; in validation the same."""
    run = make_run("celeba_blond", method, seed=seed)
    made = Groups(
        classes=["dark", "blond|fair"],
        biases=["female", "male"],
        aligned_bias=[0, 1],
        train=train,
        test=TEST,
        validation=TEST,
    )
    answers = np.array(correct)
    epochs = list(range(1, len(correct) + 1))
    return replace(
        make_record(run),
        groups=made,
        answers=Answers(epochs=epochs, test=answers, validation=answers),
        train={"target": train},
    )


def test_every_group_has_the_mean_and_deviation_of_its_seeds(tmp_path: Path) -> None:
    results = make_results(
        tmp_path,
        record("vanilla", 0, [200, 10, 10, 400]),
        record("vanilla", 1, [100, 20, 20, 400], train=[[92, 8], [18, 82]]),
    )
    lines = tidy(TABLE, results).set_index(["target", "bias"])
    assert len(lines) == 4
    female = lines.loc["dark", "female"]
    assert (female["mean"], female["std"], female.n) == (75.0, pytest.approx(50 / np.sqrt(2)), 2)
    assert (lines.loc["dark", "male"]["mean"], lines.loc["blond|fair", "female"]["mean"]) == (15.0, 30.0)
    assert lines.aligned.to_dict() == {
        ("dark", "female"): True,
        ("dark", "male"): False,
        ("blond|fair", "female"): False,
        ("blond|fair", "male"): True,
    }
    assert lines.train.tolist() == [91, 9, 19, 81]
    assert lines.test.tolist() == [200, 100, 50, 400]


def test_groups_are_of_the_epoch_that_the_rule_chooses(tmp_path: Path) -> None:
    results = make_results(tmp_path, record("vanilla", 0, [190, 90, 40, 300], [200, 10, 10, 400]))
    for rule, male in (("validation_average", 90.0), ("last", 10.0)):
        lines = tidy(TABLE, replaced(results, rule=RULES[rule]))
        assert lines[(lines.target == "dark") & (lines.bias == "male")]["mean"].tolist() == [male]
        assert {*lines.selection} == {rule}


def test_all_images_count_alike_in_the_last_column(tmp_path: Path) -> None:
    """750 test images, of which 200 are of the first group: no mean over groups."""
    results = make_results(tmp_path, record("vanilla", 0, [200, 10, 10, 400]), record("vanilla", 1, [100, 20, 20, 400]))
    groups.write(TABLE, results)
    text = (tmp_path / "tables" / "table1-groups.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| Vanilla"))
    shares = np.array([620, 540]) / 7.5
    assert row.split("|")[-2].strip() == f"{shares.mean():.2f} ± {shares.std(ddof=1):.1f}"
    (sizes,) = (line for line in text.splitlines() if line.startswith("| test images"))
    assert sizes.split("|")[-2].strip() == "750"


def test_few_groups_have_a_column_each_with_their_images(tmp_path: Path) -> None:
    results = make_results(
        tmp_path,
        record("vanilla", 0, [200, 10, 10, 400]),
        record("vanilla", 1, [200, 20, 10, 400]),
        record("poisoner", 0, [0, 0, 50, 400], train=[[92, 8], [20, 80]]),
    )
    text, numbers = groups.write(TABLE, results)
    assert (text.name, numbers.name) == ("table1-groups.md", "table1-groups.csv")
    begin = text.read_text().index("## CelebA, blond hair")
    rows = [[cell.strip() for cell in line.split(" | ")] for line in text.read_text()[begin:].splitlines()[2:9]]
    rows = [[cell.strip("| ") for cell in row] for row in rows if len(row) > 1]
    assert rows == [
        ["Method", "dark, female", "dark, male", r"blond\|fair, female", r"blond\|fair, male", "All images"],
        ["", "aligned", "conflicting", "conflicting", "aligned", ""],
        ["training images", "90 to 92", "8 to 10", "20", "80", ""],
        ["test images", "200", "100", "50", "400", "750"],
        ["Vanilla", "100.00 ± 0.0", "15.00 ± 7.1", "20.00 ± 0.0", "100.00 ± 0.0", "83.33 ± 0.9"],
        ["Poisoner", "0.00°§", "0.00°§", "100.00°§", "100.00°§", "60.00°§"],
    ]
    assert "- ° one seed." in text.read_text()
    assert "- § collapsed" in text.read_text()
    with numbers.open() as file:
        assert [(line["method"], line["collapsed"]) for line in csv.DictReader(file)] == [
            *[("vanilla", "0")] * 4,
            *[("poisoner", "1")] * 4,
        ]


def test_many_groups_are_summed_up_with_the_lowest_by_its_name(tmp_path: Path) -> None:
    correct = np.full((10, 10), 60)
    np.fill_diagonal(correct, 90)
    correct[3, 7], correct[4, 4] = 5, 40
    results = make_results(tmp_path, make_record(make_run("cmnist_99"), correct=correct.tolist()))
    text, numbers = groups.write(TABLES["2"], results)
    (row,) = [line for line in text.read_text().splitlines() if line.startswith("| Vanilla")]
    conflicting = (89 * 60 + 5) / 90
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["85.00", f"{conflicting:.2f}", "3, 7", "5.00°", "61.95°"]
    assert len(numbers.read_text().splitlines()) == 101


def test_nothing_is_written_of_biased_models_or_without_an_epoch_to_show(tmp_path: Path) -> None:
    made = make_record(make_run("cmnist_99"))
    assert not groups.write(TABLES["3"], make_results(tmp_path, made))
    table = replaced(TABLES["2"], tasks=("cmnist_99",))
    written = groups.write(table, make_results(tmp_path))
    unread = replace(made, groups=replace(made.groups, validation=None), answers=replace(made.answers, validation=None))
    assert [path.exists() for path in written] == [True, True]
    results = replaced(make_results(tmp_path / "other", unread), folder=tmp_path)
    assert not groups.write(table, results)
    assert [path.exists() for path in written] == [False, False]


def test_where_no_label_tells_neither_kind_nor_training_images_are_made_up(tmp_path: Path) -> None:
    made = record("vanilla", 0, [150, 20, 30, 100], train=[[0, 0], [0, 0]])
    results = make_results(tmp_path, replace(made, groups=replace(made.groups, told_by="")))
    text, numbers = groups.write(TABLE, results)
    rows = {cells[1].strip(): {cell.strip() for cell in cells[2:-2]} for cells in split_rows(text)}
    assert rows[""] == rows["training images"] == {"–"}
    with numbers.open() as file:
        assert {(line["aligned"], line["train"], line["test"]) for line in csv.DictReader(file)} == {
            ("", "", "200"), ("", "", "100"), ("", "", "50"), ("", "", "400"),
        }  # fmt: skip


def split_rows(path: Path) -> list[list[str]]:
    return [line.split("|") for line in path.read_text().splitlines() if line.startswith("|")]
