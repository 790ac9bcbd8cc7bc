"""Records as types: what follows from their counts, and which contradict themselves."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from factories.records import curves, make_record, make_run, phase
from msgspec.structs import replace

from benchmark import metrics
from benchmark.rules import RULES
from benchmark.store.encoding import decode, differences, encode, faults
from benchmark.store.record import Answers, Record, numbers


def test_its_numbers_follow_from_its_counts(record: Record) -> None:
    (measured,) = record.phases
    assert measured.target
    assert measured.biased
    last = {name: each[-1] for name, each in measured.target.measured.items()}
    found = record.fairness()
    assert set(found) >= set(metrics.FAIRNESS)
    assert {key: pytest.approx(last[key], rel=5e-6) for key in found} == found, "curves have six digits"
    bias_acc = measured.biased.bias_acc.tolist()
    assert bias_acc[0] != bias_acc[-1]
    assert record.bias_accuracy() == bias_acc[-1]
    assert [record.bias_accuracy(epoch) for epoch in (1, 2, 3)] == bias_acc
    assert record.bias_accuracy(epoch=99) is None
    assert measured.target.validation_acc is not None
    best = int(measured.target.validation_acc.argmax())
    assert record.epoch(RULES["validation"]) == best + 1, "the first of the best epochs"
    assert record.answers.epochs == [1, 2, 3]
    assert record.epochs == 3


def test_only_scored_groups_count_for_average_and_worst(record: Record) -> None:
    correct, total = np.array([[45, 20], [10, 40]]), np.full((2, 2), 50)
    scored = np.array([[False, True], [True, False]])
    found = metrics.fairness(correct, total, scored)
    assert found["avg_acc"] == pytest.approx(30)
    assert found["worst_acc"] == pytest.approx(20)
    assert found["model_bias"] == pytest.approx(55)
    groups = replace(record.groups, aligned_bias=[0, 1], test=total.tolist(), scored=scored.tolist())
    answers = Answers(epochs=[1], test=correct.reshape(1, 4))
    counted = replace(record, answers=answers, groups=replace(groups, validation=None))
    assert counted.fairness() == found
    assert counted.fairness(RULES["validation"]) == {}, "it has no validation"


def test_the_biased_curve_of_plain_training_is_the_targets() -> None:
    plain = make_record(make_run(method="vanilla"))
    assert not plain.has_biased
    assert plain.curve("biased") == plain.curve("target")
    assert [entry["bias_acc"] for entry in plain.curve("biased")] == [80, 70, 60]
    two = make_record(make_run(method="poisoner"))
    assert [(entry["epoch"], entry["bias_acc"]) for entry in two.curve("biased")] == [(1, 95)]


def test_what_was_not_measured_is_null_in_the_file_and_none_in_an_entry() -> None:
    gap = float("nan")
    told = {"aligned_error": [gap, 1.0], "aligned_loss": [gap, 0.5], "conflicting_loss": [gap, 0.5]}
    part = phase(target=curves(bias_acc=[gap, 50.0], **told))
    text = encode(make_record(make_run(), phases=[phase("first", target=curves(bias_acc=[80.0])), part]))
    assert '"aligned_error": [null, 1.0]' in text
    again = decode(text.encode()).phases[1].target
    assert again
    assert numbers(again.aligned_error) == [None, 1.0]
    assert encode(decode(text.encode())) == text


def test_no_part_can_be_changed_in_place(record: Record) -> None:
    with pytest.raises(AttributeError):
        record.seed = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        record.provenance.seconds = 0  # type: ignore[misc]


def contradiction(record: Record, what: str) -> Record:
    (measured,) = record.phases
    assert measured.target
    answers, many = record.answers, record.answers.test.copy()
    many[-1] = 10_000
    changes: dict[str, dict[str, Any]] = {
        "method": {"settings": {**record.settings, "method": "gce"}},
        "options": {"settings": {**record.settings, "options": None}},
        "network": {"settings": {key: value for key, value in record.settings.items() if key != "network"}},
        "folder": {"settings": {**record.settings, "dataset": "folder", "data": {}}},
        "curves": {"phases": [replace(measured, target=replace(measured.target, avg_acc=np.zeros(2)))]},
        "shape": {"answers": replace(answers, test=answers.test[:, :-1])},
        "ragged": {"train": {"target": [*record.train["target"][:-1], [0]]}},
        "counts": {"answers": replace(answers, test=many)},
    }
    return replace(record, **changes[what])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("method", "its settings are not those of its task, method and preset"),
        ("options", "its settings lack options, or have them of another kind"),
        ("network", "its settings lack network, or have"),
        ("folder", "its settings do not name the folder of its images"),
        ("curves", "the curves of phase 'train' are not of one length"),
        ("shape", r"answers.test does not have shape \(3, 16\)"),
        ("ragged", r"the counts of train.target do not have shape \(4, 4\)"),
        ("counts", "answers.test: a group has more correct answers than samples"),
    ],
)
def test_a_record_that_contradicts_itself_is_not_written(record: Record, what: str, message: str) -> None:
    assert not list(faults(record))
    broken = contradiction(record, what)
    assert list(faults(broken))
    with pytest.raises(ValueError, match=message):
        encode(broken)


@pytest.mark.parametrize(
    ("lacking", "gaps"),
    [
        ("aligned training images", {"bias_acc", "aligned_error", "aligned_loss"}),
        ("conflicting training images", {"bias_acc", "conflicting_error", "conflicting_loss"}),
        ("aligned test images", {"model_bias", "max_min_bias"}),
    ],
)
def test_metrics_that_the_data_lack_are_gaps_and_no_others(record: Record, lacking: str, gaps: set[str]) -> None:
    """Two classes and biases, so that without aligned test images each class has one group."""
    of_split = "test" if "test" in lacking else "train"
    sizes = [[9, 0], [0, 9]] if "conflicting" in lacking else [[0, 9], [9, 0]]
    own = {"train": [[9, 9], [9, 9]], "test": [[9, 9], [9, 9]]} | {of_split: sizes}
    groups = replace(record.groups, classes=["a", "b"], biases=["x", "y"], aligned_bias=[0, 1], validation=None, **own)
    (measured,) = record.phases
    assert measured.target
    names = measured.target.measured.keys()
    assert gaps < names

    def without(missing: set[str]) -> list[str]:
        """The faults of the record without these metrics in its last epoch."""
        assert measured.target
        known = {name: each.copy() for name, each in measured.target.measured.items()}
        for name in missing:
            known[name][-1] = np.nan
        return [
            *faults(
                replace(
                    record,
                    groups=groups,
                    answers=Answers(epochs=[3], test=np.zeros((1, 4), int)),
                    train=dict.fromkeys(record.train, ((0, 0), (0, 0))),
                    phases=[replace(measured, target=replace(measured.target, **known), biased=None)],
                )
            )
        ]

    assert without(gaps) == []
    for name in names - gaps:
        place = f"{name} of the target network in phase 'train'"
        assert without({*gaps, name}) == [f"{place} lacks an epoch that was measured"]
    assert without({*names}) == [], "an epoch after which nothing was measured"


def test_records_differ_by_their_numbers_and_by_nothing_else(record: Record) -> None:
    def changed(part: str, **values: object) -> Record:
        return replace(record, **{part: replace(getattr(record, part), **values)})

    moved = changed("provenance", device="Some GPU", seconds=1e-3, data="other", loop_version=99)
    assert differences(record, replace(moved, warnings=["It started over."])) == []

    test = record.answers.test.copy()
    test[-1, 0] += 1
    where = f"answers.test[{len(test) - 1}][0]"
    assert differences(record, changed("answers", test=test)) == [
        f"{where} is {record.answers.test[-1, 0]} here and {test[-1, 0]} there"
    ]
    loss = record.phases[0].loss.copy()
    loss[1] *= 1 + 1e-5
    assert (
        "phases[0].loss[1] is" in differences(record, replace(record, phases=[replace(record.phases[0], loss=loss)]))[0]
    )
    longer = replace(record.phases[0], loss=np.append(loss, 0.1))
    assert differences(record, replace(record, phases=[longer])) == ["phases[0].loss has other entries"]
    assert differences(record, replace(record, summary={"seen": 3})) == ["summary has other entries"]
    counts = {network: [[0] * len(row) for row in each] for network, each in record.train.items()}
    assert len(differences(record, replace(record, train=counts, summary={"seen": 3}))) == 2


@pytest.mark.parametrize("place", ["loss", "avg_acc", "test"])
def test_what_is_no_list_where_one_should_be_is_a_sentence(record: Record, place: str) -> None:
    text = re.sub(rf'"{place}": \[.*?\]', f'"{place}": {{"a": 1}}', encode(record), count=1, flags=re.DOTALL)
    with pytest.raises(ValueError, match="array"):
        decode(text.encode())
