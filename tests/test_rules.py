"""Rules that choose an epoch: each against a choice by hand, and what keeps one from choosing."""

from __future__ import annotations

import numpy as np
import pytest
from factories.records import make_record, make_run
from msgspec.structs import replace

from benchmark.rules import LAST, RULES
from benchmark.store.record import Answers, Record

# Two classes and two biases; right answers of 10, 90, 80 and 20 images, groups in the order (0,0) (0,1) (1,0) (1,1).
SIZES = [[10, 90], [80, 20]]
EPOCHS = {
    "plain": [0, 90, 80, 0],  # 170 of 200 right, and the worst group at 0
    "class": [4, 84, 66, 18],  # classes at 88 and 84 %; plain 172, hence better than "plain" as well
    "average": [10, 50, 44, 20],  # groups at 100, 55.6, 55 and 100 %: mean 77.6
    "worst": [6, 54, 52, 12],  # groups at 60, 60, 65 and 60 %: mean 61.25
    "end": [1, 9, 8, 2],
}


def record(validation: list[list[int]] | None, sizes: list[list[int]] | None = SIZES, **test: list[int]) -> Record:
    """Five epochs whose validation answers are given; the test's are those of ``EPOCHS`` in reverse."""
    made = make_record(make_run())
    groups = replace(
        made.groups, classes=["0", "1"], biases=["0", "1"], aligned_bias=[0, 1], test=SIZES, validation=sizes
    )
    answers = Answers(
        epochs=[1, 2, 3, 4, 5],
        test=np.array(list(EPOCHS.values())[::-1]),
        validation=None if validation is None else np.array(validation),
    )
    return replace(made, groups=groups, answers=answers)


@pytest.mark.parametrize(
    ("rule", "epoch"),
    [
        ("last", 5),
        ("validation", 2),  # 172 of 200
        ("validation_class", 2),  # 84 % against 0, 50, 60 and 10
        ("validation_average", 3),  # 77.6 against 50, 76.5, 61.3 and 10
        ("validation_worst", 4),  # 60 against 0, 40, 55 and 10
        ("test_average", 3),  # the middle of the reversed epochs, too
    ],
)
def test_each_rule_chooses_as_by_hand(rule: str, epoch: int) -> None:
    made = record(list(EPOCHS.values()))
    assert made.epoch(RULES[rule]) == epoch
    # What is reported are the test's numbers of that epoch, not the validation's.
    shown = list(EPOCHS.values())[::-1][epoch - 1]
    assert made.fairness(RULES[rule])["avg_acc"] == pytest.approx(
        100 * np.mean([right / size for right, size in zip(shown, np.ravel(SIZES), strict=True)])
    )


def test_the_first_of_equal_epochs_is_chosen() -> None:
    made = record([EPOCHS["end"], EPOCHS["worst"], EPOCHS["worst"], EPOCHS["end"], EPOCHS["worst"]])
    assert {made.epoch(rule) for name, rule in RULES.items() if name.startswith("validation")} == {2}


def test_of_equal_worst_groups_the_best_average_is_chosen() -> None:
    """A worst group at 0 says nothing, and the first epoch is not the best for it."""
    made = record([[0, 10, 10, 0], [0, 40, 40, 0], [0, 90, 80, 0], [0, 90, 80, 0], [0, 80, 80, 0]])
    assert made.epoch(RULES["validation_worst"]) == 3
    assert made.score(RULES["validation_worst"]) == (0, 50)
    classes = record([[0, 0, 10, 0], [0, 0, 80, 0], [0, 0, 70, 0], [0, 0, 10, 0], [0, 0, 10, 0]])
    assert classes.epoch(RULES["validation_class"]) == 2


def test_no_rule_but_the_oracle_looks_at_the_test() -> None:
    one = record(list(EPOCHS.values()))
    other = replace(one, answers=replace(one.answers, test=one.answers.test[::-1]))
    for name, rule in RULES.items():
        assert (one.epoch(rule) == other.epoch(rule)) or name == "test_average"
    assert [name for name, rule in RULES.items() if rule.needs == "test"] == ["test_average"]
    assert "ORACLE" in RULES["test_average"].note


def test_without_validation_only_the_last_epoch_can_be_chosen() -> None:
    made = record(None, None)
    assert made.epoch() == 5
    for name, rule in RULES.items():
        if name.startswith("validation"):
            assert made.epoch(rule) is None
            assert made.fairness(rule) == {}
            assert "no validation images" in made.why_not(rule)


def test_classes_can_be_counted_where_bias_labels_are_unknown() -> None:
    by_class = [[right[0] + right[1], right[2] + right[3]] for right in EPOCHS.values()]
    made = record(by_class, [[100], [100]])
    assert made.epoch(RULES["validation"]) == 2
    assert made.epoch(RULES["validation_class"]) == 2
    for name in ("validation_average", "validation_worst"):
        assert made.epoch(RULES[name]) is None
        assert "no bias label" in made.why_not(RULES[name])


def test_a_group_that_is_tested_must_be_validated() -> None:
    sizes = [[0, 90], [80, 20]]
    made = record([[0, *right[1:]] for right in EPOCHS.values()], sizes)
    assert made.epoch(RULES["validation_worst"]) is None
    assert "1 of the tested groups" in made.why_not(RULES["validation_worst"])
    assert made.epoch(RULES["validation"]) is not None


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ([[100], [0]], "1 of the tested classes has no validation image"),
        ([[10, 90], [0, 0]], "1 of the tested classes has no validation image"),
        ([[0], [0]], "2 of the tested classes have no validation image"),
    ],
)
def test_a_class_that_is_tested_must_be_validated(sizes: list[list[int]], why: str) -> None:
    """Else an epoch is chosen in which everything is taken for the other class."""
    made = record([np.zeros_like(sizes).ravel().tolist()] * 5, sizes)
    for name in ("validation", "validation_class"):
        assert made.epoch(RULES[name]) is None
        assert made.why_not(RULES[name]) == why
    untested = replace(made, groups=replace(made.groups, test=[[10, 90], [0, 0]]))
    assert bool(untested.why_not(RULES["validation"])) == (not any(sizes[0]))


def test_the_oracle_chooses_among_what_was_tested_and_needs_more_than_the_last_epoch() -> None:
    made = record(None, None)
    some = replace(made, answers=Answers(epochs=[2, 5], test=made.answers.test[[1, 4]]))
    averages = [some.answers.test[place].reshape(2, 2) / np.array(some.groups.test) for place in (0, 1)]
    assert some.epoch(RULES["test_average"]) == (2, 5)[int(np.argmax([each.mean() for each in averages]))]
    assert some.epoch(LAST) == 5
    last = replace(made, answers=Answers(epochs=[5], test=made.answers.test[[4]]))
    assert last.epoch(RULES["test_average"]) is None
    assert "tested at its end only" in last.why_not(RULES["test_average"])
    assert last.epoch(LAST) == 5


def test_the_oracle_goes_by_the_groups_that_are_scored_and_validation_by_all() -> None:
    """As on Dogs & Cats, whose average is that of the conflicting groups: of all four another epoch is the best."""
    answers = [[10, 5, 5, 10], [1, 9, 9, 1], [3, 3, 3, 3]]
    made = record(answers, [[10, 10], [10, 10]])
    groups = replace(made.groups, test=[[10, 10], [10, 10]], scored=[[False, True], [True, False]])
    scored = replace(
        made, groups=groups, answers=Answers(epochs=[1, 2, 3], test=np.array(answers), validation=np.array(answers))
    )
    assert scored.epoch(RULES["test_average"]) == 2
    averages = [scored.fairness(rule)["avg_acc"] for rule in RULES.values()]
    assert scored.fairness(RULES["test_average"])["avg_acc"] == max(averages) == 90
    assert scored.epoch(RULES["validation_average"]) == scored.epoch(RULES["validation_worst"]) == 1
    # A group of validation images that is not tested counts all the same.
    untested = replace(groups, test=[[0, 10], [10, 0]], scored=None)
    assert replace(scored, groups=untested).epoch(RULES["validation_average"]) == 1
