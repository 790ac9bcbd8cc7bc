"""The table of all rules side by side."""

from __future__ import annotations

from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
from factories.records import make_record, make_results, make_run
from msgspec.structs import replace

from benchmark.plan.ours import OURS
from benchmark.plan.paper import TABLES
from benchmark.report import notes, rules
from benchmark.rules import RULES
from benchmark.store.record import Answers, Record


def record(method: str, seed: int, validation: list[int] | None) -> Record:
    """Three epochs with 10, 20 and 30 % right in every test group, and so many percent in validation."""
    made = make_record(make_run("cmnist_99", method, seed=seed))
    test = np.repeat([[10], [20], [30]], 100, 1)
    counts = None if validation is None else np.repeat(np.array(validation)[:, None], 100, 1)
    groups = made.groups if counts is not None else replace(made.groups, validation=None)
    return replace(made, groups=groups, answers=Answers(epochs=[1, 2, 3], test=test, validation=counts))


def test_every_rule_has_its_column_and_says_of_how_many_seeds(tmp_path: Path) -> None:
    results = make_results(tmp_path, record("vanilla", 0, [9, 50, 9]), record("vanilla", 1, None))
    (path,) = rules.write(TABLES["2"], results)
    lines = path.read_text().splitlines()
    begin = lines.index("## C-MNIST¹ (ρ = 0.99): average accuracy")
    head, _, vanilla = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[begin + 2 : begin + 5])
    assert dict(zip(head, vanilla, strict=True)) == {
        "Method": "Vanilla",
        "last": "30.00",
        "validation": "20.00°",
        "validation_class": "20.00°",
        "validation_average": "20.00°",
        "validation_worst": "20.00°",
        "test_average": "30.00",
        "paper": "56.28",
    }
    assert "waterbirds" not in path.read_text().lower()
    gap = "1 run cannot be selected so, since there are no validation images"
    (said,) = (line for line in lines if gap in line)
    assert said.startswith("- validation, validation_class, validation_average, validation_worst: C-MNIST¹")


def test_the_note_counts_the_seeds_whose_numbers_are_shown(tmp_path: Path) -> None:
    folder = make_results(tmp_path, record("vanilla", 0, [9, 50, 9]), record("vanilla", 1, None)).folder
    for rule, said in (("last", "n = 2, mean"), ("validation_average", "n = 1 (° one seed); selection")):
        (note, *others) = notes.footer(TABLES["2"], replaced(make_results(folder), rule=RULES[rule]))
        assert said in note
        assert any("1 run cannot be selected so" in each for each in others) == (rule != "last")


def test_records_that_a_rule_can_choose_in_none_of_are_not_said_to_be_missing(tmp_path: Path) -> None:
    results = make_results(tmp_path, record("vanilla", 0, None), record("lff", 0, None))
    note, reason, *_ = notes.footer(TABLES["2"], results)
    assert note.startswith("Percent; no run can be shown; selection: epoch of the best average group accuracy")
    assert reason.startswith("C-MNIST¹ (ρ = 0.99): 2 runs cannot be selected so, since there are no validation images")


def test_methods_that_are_best_in_the_first_epoch_are_named(tmp_path: Path) -> None:
    """More than half of their runs, and by the rule: no rule chose the last one."""
    early, late = [50, 9, 9], [9, 50, 9]
    shown = [("jtt", early), ("jtt", early), ("jtt", late), ("lff", early), ("lff", late)]
    records = [record(method, seed, curve) for seed, (method, curve) in enumerate(shown)]
    results = make_results(tmp_path, *records)
    said = {
        name: [note for note in notes.footer(TABLES["2"], replaced(results, rule=rule)) if "first epoch" in note]
        for name, rule in RULES.items()
    }
    assert said["last"] == []
    (note,) = said["validation_average"]
    assert note.startswith("C-MNIST¹ (ρ = 0.99): in most runs shown in the first epoch")
    assert note.endswith(": JTT.")


def test_bias_accuracy_is_not_said_to_follow_a_rule(tmp_path: Path) -> None:
    """It is of the training set, after the epochs that its rows name."""
    results = replaced(make_results(tmp_path, record("vanilla", 0, [9, 50, 9])), rule=RULES["validation_average"])
    assert notes.selection(TABLES["3"], results) == "last epoch"
    assert notes.selection(OURS["ablations"], results).endswith("; Bias Acc. of the last epoch")
    assert "Bias Acc." not in notes.selection(TABLES["2"], results)


def test_without_validation_and_curves_there_is_no_such_table(tmp_path: Path) -> None:
    only_last = record("vanilla", 0, None)
    only_last = replace(only_last, answers=Answers(epochs=[3], test=only_last.answers.test[-1:]))
    results = make_results(tmp_path, only_last)
    stale = tmp_path / "tables" / "table2-rules.md"
    stale.parent.mkdir()
    stale.write_text("of other records")
    assert rules.write(TABLES["2"], results) == []
    assert not stale.exists()


def test_what_collapsed_under_any_rule_is_explained_whichever_is_shown(tmp_path: Path) -> None:
    results = make_results(tmp_path, record("vanilla", 0, [9, 50, 9]))
    table = TABLES["2"]
    texts = set()
    for rule in (RULES["last"], RULES["validation_average"]):
        (path,) = rules.write(table, replaced(results, rule=rule))
        texts.add(path.read_text())
    (text,) = texts
    assert "10.00" not in text
    blind = record("lff", 0, [50, 9, 9])  # at chance in the first epoch, which validation chooses
    (path,) = rules.write(table, replaced(make_results(tmp_path, blind), rule=RULES["last"]))
    assert "§" in path.read_text()
    assert "- § collapsed" in path.read_text()
