"""Paired intervals and tests of ranks, held to scipy's own functions and to the worked example of Demšar (2006)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from factories.records import average, make_record, make_results, make_run, put, save_seeds
from scipy import stats

from benchmark.compare import significance
from benchmark.compare.significance import Ranking, critical_difference, friedman, iman_davenport
from benchmark.plan.ours import selection
from benchmark.plan.paper import TABLES
from benchmark.plan.table import Table, method_rows
from benchmark.store.results import Results

# Ranks of four learners (C4.5, with m, with cf, with both) on 14 data sets: Demšar 2006, Table 6.
DEMSAR = np.array(
    [
        [4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1],
        [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
)  # fmt: skip
ONE_ANSWER = [[100 if y == 0 else 0 for _ in range(10)] for y in range(10)]


def ranking(ranks: np.ndarray) -> Ranking:
    rows = method_rows("vanilla", "lff", "jtt", "be")
    return Ranking("avg_acc", tuple(map(str, range(len(ranks)))), rows, ranks, np.zeros(ranks.shape, bool))


def test_demsars_example() -> None:
    """Its statistics are without correction for ties, which divides by the share of ranks that are not tied."""
    tasks, rows = DEMSAR.shape
    found = ranking(DEMSAR)
    assert found.average == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    counts = [np.unique(line, return_counts=True)[1] for line in DEMSAR]
    correction = 1 - sum((each**3 - each).sum() for each in counts) / (tasks * rows * (rows**2 - 1))
    chi_square = found.friedman.chi_square * correction
    assert chi_square == pytest.approx(9.28, abs=0.005)
    f, p = iman_davenport(chi_square, tasks, rows)
    assert f == pytest.approx(3.69, abs=0.005)
    assert p == pytest.approx(stats.f.sf(3.69, 3, 39), rel=0.01)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.groups() == [(3, 1, 2, 0)], "Nemenyi's test is too weak to tell any two apart"
    assert not found.apart()


@pytest.mark.parametrize(
    ("rows", "q"),
    [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_critical_values_of_nemenyis_test(rows: int, q: float) -> None:
    """Demšar 2006, Table 5 (a)."""
    assert critical_difference(11, rows) == pytest.approx(q * math.sqrt(rows * (rows + 1) / 66), abs=1e-3)


def test_ranks_that_always_or_never_agree() -> None:
    same = np.tile([1.0, 2, 3, 4], (6, 1))
    chi_square, chi_square_p, f, f_p = friedman(same)
    assert (chi_square, f, f_p) == (pytest.approx(18), math.inf, 0)
    assert chi_square_p == pytest.approx(stats.chi2.sf(18, 3))
    assert friedman(np.full((6, 4), 2.5)) == (0, 1, 0, 1)


def test_groups_are_the_largest_sets_within_the_critical_difference() -> None:
    """Of 5 tasks and 4 rows, CD 2.10: averages 1, 2, 3 and 4, of which three neighbours are level."""
    found = ranking(np.tile([3.0, 1, 4, 2], (5, 1)))
    assert 2 < found.critical_difference < 3
    assert found.groups() == [(1, 3, 0), (3, 0, 2)]
    assert [(better.key, worse.key) for better, worse in found.apart()] == [("lff", "jtt")]


def of_shares(folder: Path, table: Table, shares: Mapping[str, Mapping[int, float]]) -> Results:
    """Records of the table's methods, by method and seed, the same on each of its tasks."""
    for task in table.tasks:
        for method, by_seed in shares.items():
            save_seeds(folder, method, by_seed, task=task)
    return make_results(folder)


def test_differences_are_paired_by_seed_and_their_intervals_students(tmp_path: Path) -> None:
    shares = {"vanilla": {0: 0.4, 1: 0.52, 2: 0.61, 7: 0.1}, "lff": {0: 0.5, 1: 0.66, 2: 0.7, 8: 0.9}}
    table = selection(["cmnist_99"], ["vanilla", "lff"])
    lines = significance.differences(table, of_shares(tmp_path, table, shares))
    line = lines[lines.metric == "avg_acc"].squeeze()
    own, base = ([average(shares[method][seed]) for seed in (0, 1, 2)] for method in ("lff", "vanilla"))
    expected = stats.ttest_rel(own, base).confidence_interval(0.95)
    assert (line.method, line.reference, line.n) == ("lff", "vanilla", 3)
    assert (line.low, line.high) == pytest.approx((expected.low, expected.high))
    assert line.difference == pytest.approx(np.mean(own) - np.mean(base))
    assert not line.collapsed


def test_what_has_no_interval_or_no_difference(tmp_path: Path) -> None:
    table = selection(["cmnist_99"], ["vanilla", "lff", "be", "jtt"])
    shares = {"vanilla": {0: 0.4, 1: 0.5}, "lff": {1: 0.8, 2: 0.9}, "be": {3: 0.9}}
    lines = significance.differences(table, of_shares(tmp_path, table, shares))
    assert set(lines.method) == {"lff"}, "no seed in common, and no record"
    assert (lines.n == 1).all()
    assert lines.low.isna().all()
    assert lines.difference[lines.metric == "avg_acc"].item() == pytest.approx(average(0.8) - average(0.5))
    without_reference = selection(["cmnist_99"], ["jtt", "lff", "be"])
    assert not len(significance.differences(without_reference, make_results(tmp_path)))


def collapse(folder: Path, task: str, method: str, seed: int = 0) -> None:
    put(folder, make_record(make_run(task, method, seed=seed), correct=ONE_ANSWER))


def test_differences_of_collapsed_runs_are_marked(tmp_path: Path) -> None:
    table = selection(["cmnist_99", "cmnist_98"], ["vanilla", "lff", "be"])
    of_shares(tmp_path, table, {each: {0: 0.5, 1: 0.6} for each in ("vanilla", "lff", "be")})
    collapse(tmp_path, "cmnist_99", "lff", seed=1)
    collapse(tmp_path, "cmnist_98", "vanilla")
    lines = significance.differences(table, make_results(tmp_path))
    marked = {(line["task"], line["method"]) for line in lines[lines.collapsed].to_dict("records")}
    assert marked == {("cmnist_99", "lff"), ("cmnist_98", "lff"), ("cmnist_98", "be")}


def test_ranks_follow_the_means_of_tasks_that_all_compared_rows_are_measured_on(tmp_path: Path) -> None:
    table = TABLES["2"]
    shares = {"vanilla": {0: 0.3, 1: 0.4}, "lff": {0: 0.5}, "poisoner": {0: 0.7}, "groupdro": {0: 0.501, 1: 0.499}}
    results = of_shares(tmp_path, table, shares)
    save_seeds(tmp_path, "be", {0: 0.9})  # on a single task
    collapse(tmp_path, "imagenet_b", "poisoner")
    results = make_results(tmp_path)
    model_bias, avg_acc, worst_acc = significance.rankings(table, results)
    assert [each.metric for each in (model_bias, avg_acc, worst_acc)] == list(table.metrics)
    assert avg_acc.tasks == table.tasks
    assert [row.key for row in avg_acc.rows] == ["vanilla", "lff", "poisoner", "groupdro"]
    assert [[row.key for row in avg_acc.left_out[0]], avg_acc.left_out[1]] == [["be"], ()]
    for each in (model_bias, avg_acc):
        assert each.ranks[:4].tolist() == [[4, 2.5, 1, 2.5]] * 4, "of equal means as the table prints them"
        assert each.ranks[4].tolist() == [3, 1.5, 4, 1.5], "a bias of 0 of one that collapsed is not the best"
        assert each.collapsed.sum() == 1
    frame = significance.ranks_frame(table, [avg_acc])
    assert frame.collapsed.tolist() == [0, 0, 1, 0]
    assert frame.average_rank.tolist() == pytest.approx([3.8, 2.3, 1.6, 2.3])
    assert (frame.chi_square == stats.friedmanchisquare(*avg_acc.ranks.T).statistic).all()


def test_few_tasks_or_methods_are_not_ranked(tmp_path: Path) -> None:
    table = TABLES["2"]
    results = of_shares(tmp_path, table, {"vanilla": {0: 0.3}, "lff": {0: 0.5}})
    assert not list(significance.rankings(table, results)), "two methods"
    for task in table.tasks[1:]:
        save_seeds(tmp_path, "be", {0: 0.4}, task=task)
    assert not list(significance.rankings(table, make_results(tmp_path))), "the third on four tasks"
    save_seeds(tmp_path, "be", {0: 0.4}, task=table.tasks[0])
    assert len(list(significance.rankings(table, make_results(tmp_path)))) == len(table.metrics)
