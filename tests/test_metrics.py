from __future__ import annotations

import numpy as np
import pytest

from benchmark import metrics


def random_counts(rng: np.random.Generator, classes: int, biases: int) -> tuple[np.ndarray, np.ndarray]:
    total = rng.integers(1, 200, (classes, biases))
    return rng.binomial(total, rng.random((classes, biases))), total


def test_definitions_on_a_worked_example() -> None:
    total = np.array([[10, 20], [40, 50]])
    correct = np.array([[9, 10], [40, 20]])  # 90, 50, 100, 40 %
    measured = metrics.fairness(correct, total)
    assert measured["avg_acc"] == pytest.approx(70)  # over groups, not over samples (65.8)
    assert measured["worst_acc"] == pytest.approx(40)
    assert measured["model_bias"] == pytest.approx((40 + 60) / 2)
    assert metrics.sample_accuracy(correct, total) == pytest.approx(100 * 79 / 120)


def test_equalised_odds_is_half_the_sum_of_the_rate_gaps() -> None:
    """For a binary target Eq. 12 is (|TPR gap| + |FPR gap|)/2."""
    rng = np.random.default_rng(0)
    y, b, prediction = (rng.integers(0, 2, 5000) for _ in range(3))
    rate = {(t, v): (prediction[(y == t) & (b == v)] == 1).mean() for t in (0, 1) for v in (0, 1)}
    expected = 50 * (abs(rate[1, 0] - rate[1, 1]) + abs(rate[0, 0] - rate[0, 1]))
    cells = [[(y == t) & (b == v) for v in (0, 1)] for t in (0, 1)]
    correct = np.array([[(prediction[cell] == y[cell]).sum() for cell in row] for row in cells])
    total = np.array([[cell.sum() for cell in row] for row in cells])
    assert metrics.fairness(correct, total)["model_bias"] == pytest.approx(expected)


def test_many_bias_values_against_plain_loops() -> None:
    correct, total = random_counts(np.random.default_rng(1), 5, 7)
    rows = [[100 * c / t for c, t in zip(cs, ts, strict=True)] for cs, ts in zip(correct, total, strict=True)]
    measured = metrics.fairness(correct, total)
    assert measured["model_bias"] == pytest.approx(sum(sum(row) / 7 - min(row) for row in rows) / 5)
    assert measured["max_min_bias"] == pytest.approx(sum(max(row) - min(row) for row in rows) / 5)


def test_groups_without_samples_are_left_out() -> None:
    total = np.array([[10, 0, 10], [10, 10, 10]])
    correct = np.array([[5, 0, 10], [10, 8, 3]])
    measured = metrics.fairness(correct, total)
    assert measured["avg_acc"] == pytest.approx((50 + 100 + 100 + 80 + 30) / 5)
    assert measured["model_bias"] == pytest.approx((25 + 40) / 2)


def test_no_model_bias_on_conflicting_images_only() -> None:
    measured = metrics.fairness(np.array([[0, 6], [7, 0]]), np.array([[0, 10], [10, 0]]))
    assert measured["model_bias"] is None
    assert measured["max_min_bias"] is None
    assert (measured["avg_acc"], measured["worst_acc"]) == (pytest.approx(65), pytest.approx(60))


def test_a_bias_value_that_is_not_tested_changes_no_metric() -> None:
    """As where only training or validation images have it."""
    correct, total = np.array([[8, 4], [3, 9]]), np.full((2, 2), 10)
    wider = [np.insert(each, 1, 0, axis=1) for each in (correct, total)]
    assert metrics.fairness(*wider) == metrics.fairness(correct, total)
    assert metrics.fairness(correct, total)["model_bias"] == pytest.approx(50)
    assert not metrics.inconsistencies(*wider)


def test_bias_accuracy_pools_samples() -> None:
    total = np.array([[90, 10], [2, 98]])
    aligned = np.array([0, 1])
    assert metrics.bias_accuracy(total, total, aligned) == 50, "fitting every label is no better than a coin"
    knows_only_the_bias = np.array([[90, 0], [0, 98]])
    assert metrics.bias_accuracy(knows_only_the_bias, total, aligned) == 100
    some = np.array([[80, 4], [1, 98]])
    assert metrics.bias_accuracy(some, total, aligned) == pytest.approx(50 * (178 / 188 + 7 / 12))
    assert metrics.bias_accuracy(np.diag([9, 9]), np.diag([9, 9]), aligned) is None


@pytest.mark.parametrize("shape", [(2, 2), (10, 10), (3, 5)])
def test_honest_counts_are_never_called_inconsistent(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        assert metrics.inconsistencies(*random_counts(rng, *shape)) == []


def test_impossible_counts_and_formulas_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    total = np.array([[10, 10], [10, 10]])
    assert metrics.inconsistencies(np.array([[11, 1], [1, 1]]), total)
    assert metrics.inconsistencies(np.array([[-1, 1], [1, 1]]), total)
    # The relations must catch a wrong metric, such as the worst group of another split.
    monkeypatch.setattr(metrics, "worst_accuracy", lambda accuracy: 80.0)
    assert metrics.inconsistencies(np.array([[9, 3], [9, 9]]), total)


@pytest.mark.parametrize(
    ("right", "useless"),
    [
        ([[93, 33], [42, 93]], False),  # biased, and still better than a guess
        ([[100, 0], [1, 99]], False),  # the bias and nothing else
        ([[60, 39], [39, 60]], False),  # as little, 21 points apart
        ([[58, 42], [42, 58]], True),  # 16 points
        ([[60, 79], [79, 60]], False),  # 19 points better on conflicting groups
        ([[60, 81], [81, 60]], True),  # 21 points better: it goes against the bias
        ([[18, 89], [85, 18]], True),
        ([[32, 37], [12, 17]], True),  # worse than a guess
        ([[52, 50], [49, 51]], True),  # a guess
        ([[99, 99], [0, 1]], True),  # one answer
    ],
)
def test_models_of_no_use_are_found(right: list[list[int]], useless: bool) -> None:
    assert metrics.collapsed(np.array(right), np.full((2, 2), 100), np.array([0, 1])) == useless


@pytest.mark.parametrize(
    ("right", "total", "useless"),
    [
        ([[0, 0], [3, 0]], [[0, 100], [100, 0]], False),  # conflicting images alone: the bias and nothing else
        ([[0, 48], [52, 0]], [[0, 100], [100, 0]], True),  # of these a guess
        (
            [[88, 0], [75, 0]],
            [[100, 0], [100, 0]],
            False,
        ),  # aligned in one class, conflicting in the other
        (
            [[80, 80, 80], [20, 0, 0]],
            [[100, 100, 100], [100, 0, 0]],
            True,
        ),  # a guess that prefers a class
        ([[40, 40, 40], [90, 0, 0]], [[100, 100, 100], [100, 0, 0]], False),
    ],
)
def test_models_of_no_use_are_found_where_groups_are_not_tested(
    right: list[list[int]], total: list[list[int]], useless: bool
) -> None:
    assert metrics.collapsed(np.array(right), np.array(total), np.array([0, 1])) == useless


def test_where_nothing_tells_the_bias_one_that_knows_nothing_else_is_no_guess() -> None:
    total = np.full((2, 2), 100)
    assert not metrics.collapsed(np.array([[100, 0], [0, 100]]), total, None)
    assert metrics.collapsed(np.array([[80, 80], [20, 20]]), total, None), "one that prefers a class is"


def test_no_bias_where_aligned_groups_are_not_tested() -> None:
    """Conflicting groups that are all wrong would be alike."""
    total = np.where(np.eye(3), 0, 50)
    correct = np.zeros((3, 3))
    assert metrics.fairness(correct, total, None, np.arange(3))["model_bias"] is None
    assert metrics.fairness(correct, total, None, np.arange(3))["max_min_bias"] is None
    assert metrics.fairness(correct, np.full((3, 3), 50), None, np.arange(3))["model_bias"] == 0


def test_where_nothing_tells_the_bias_no_model_has_turned_it_round() -> None:
    right, total = np.array([[40, 95], [95, 40]]), np.full((2, 2), 100)
    assert metrics.collapsed(right, total, np.array([0, 1]))
    assert not metrics.collapsed(right, total, None)
    assert metrics.collapsed(np.array([[50, 50], [50, 50]]), total, None), "a guess is one all the same"
