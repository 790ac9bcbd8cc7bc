"""Records as types: what follows from their counts."""

from __future__ import annotations

from factories.noise import noise


def test_only_scored_groups_count_for_average_and_worst() -> None:
    correct, total = np.array([[45, 20], [10, 40]]), np.full((2, 2), 50)
    scored = np.array([[False, True], [True, False]])
    found = metrics.fairness(correct, total, scored)
    assert found["avg_acc"] == pytest.approx(30)
    assert found["worst_acc"] == pytest.approx(20)
    assert found["model_bias"] == pytest.approx(55)
    record = {
        "test": {"last": {"correct": correct.tolist()}},
        "groups": {"test": total.tolist(), "scored": scored.tolist()},
    }
    assert records.fairness(record) == found


def test_its_numbers_follow_from_its_counts(record: dict[str, Any]) -> None:
    last = record["curves"][-1]["target"]
    measured = records.fairness(record)
    assert {key: pytest.approx(last[key], abs=1e-5) for key in measured} == measured
    assert records.bias_accuracy(record) == record["curves"][-1]["biased"]["bias_acc"]
    assert records.bias_accuracy(record, epoch=2) == record["curves"][1]["biased"]["bias_acc"]
    assert records.bias_accuracy(record, epoch=99) is None
    best = max(record["curves"], key=lambda entry: entry["target"]["validation_acc"])
    assert record["test"]["validation"]["epoch"] == best["epoch"], "the first of the best epochs"
