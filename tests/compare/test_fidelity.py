"""Distances to the published numbers, from made-up records and those of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.records import average, make_record, make_results, make_run, put, save_seeds

from benchmark.compare import fidelity, published, verdicts
from benchmark.plan.paper import CELEBA

RESULTS = Path(__file__).parents[2] / "results"
CELL = ["table", "method", "task", "metric"]


def test_fidelity_has_every_published_number_with_what_was_measured(tmp_path: Path) -> None:
    save_seeds(tmp_path, "vanilla", {0: 0.5, 1: 0.6})
    found = fidelity.cells(make_results(tmp_path))
    cells = found.set_index(CELL)
    assert len(found) == len(published.numbers())
    assert cells.paper.to_dict() == published.numbers()
    cell = cells.loc[("table2", "vanilla", "cmnist_99", "avg_acc")]
    values = np.array([average(0.5), average(0.6)])
    assert (cell["mean"], cell["std"]) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert (cell["n"], cell["preset"]) == (2, "paper")
    assert cell["delta"] == pytest.approx(values.mean() - 56.28)
    gap = cells.loc[("table1", "vanilla", "celeba_avg", "avg_acc")]
    assert gap["n"] == 0
    assert pd.isna(gap["mean"])


def test_fidelity_averages_the_four_celeba_targets(tmp_path: Path) -> None:
    for task, share in zip(CELEBA, (0.2, 0.4, 0.6, 0.8), strict=True):
        save_seeds(tmp_path, "debian", {0: share, 1: share + 0.1}, task=task)
    cells = fidelity.cells(make_results(tmp_path)).set_index(CELL)
    cell = cells.loc[("table1", "debian", "celeba_avg", "avg_acc")]
    assert (cell["mean"], cell["n"]) == (pytest.approx(average(0.55)), 2)
    assert cell["std"] == pytest.approx(9 / np.sqrt(2))
    assert cell["kind"] == "copied"
    near = fidelity.columns(fidelity.cells(make_results(tmp_path))).set_index(["task", "metric"])
    assert near.methods["celeba_avg", "avg_acc"] == 0, "a copied number is compared with nothing"
    assert near.methods["celeba_blond", "worst_acc"] == 0, "nor is an impossible one"
    assert near.methods["celeba_blond", "avg_acc"] == 1


def test_rank_correlation_and_difference_by_hand(tmp_path: Path) -> None:
    # Published averages: Vanilla 56.28, LfF 75.26, JTT 74.05, Poisoner 82.57: ranks 1, 3, 2, 4.
    shares = {"vanilla": 0.5, "lff": 0.4, "jtt": 0.6, "poisoner": 0.8}  # ranks 2, 1, 3, 4
    for method in ("vanilla", "lff"):
        save_seeds(tmp_path, method, {0: shares[method]})
    near = fidelity.columns(fidelity.cells(make_results(tmp_path))).set_index(["table", "task", "metric"])
    assert pd.isna(near.rank_correlation["table2", "cmnist_99", "avg_acc"]), "two methods have no order to speak of"
    for method in ("jtt", "poisoner"):
        save_seeds(tmp_path, method, {0: shares[method]})
    near = fidelity.columns(fidelity.cells(make_results(tmp_path))).set_index(["table", "task", "metric"])
    column = near.loc["table2", "cmnist_99", "avg_acc"]
    assert column["rank_correlation"] == pytest.approx(1 - 6 * (1 + 4 + 1) / (4 * 15))
    measured = np.array([average(share) for share in shares.values()])
    assert column["difference"] == pytest.approx(np.abs(measured - [56.28, 75.26, 74.05, 82.57]).mean())
    assert (column["methods"], column["published"]) == (4, 9)


def test_fidelity_says_how_many_claims_hold_and_which_numbers_are_in_doubt(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "runs" / "cmnist_99", tmp_path / "runs" / "cmnist_99")
    results = make_results(tmp_path)
    claims = verdicts.evaluate(results)
    text = fidelity.write(fidelity.cells(results), claims, results)
    rows = [[each.strip() for each in row.split("|")[1:-1]] for row in text.splitlines()]
    made = claims.verdict[claims.scope == "paper"].tolist()
    told = [str(made.count(each)) for each in ("holds", "does not hold", "undecided")]
    hints = sum(each.endswith("(one seed)") for each in made)
    expected = ["where the paper makes them (paper preset)", *told, str(hints), str(made.count("not measured"))]
    assert expected in rows
    assert ["Table 1", "0 of 108", "0", "0", "–", "–", "0"] in rows
    copied = [row for row in rows if "copied" in row]
    assert [row[:3] for row in copied] == [["Table 1", "CelebA, mean of the four", "DebiAN"]]


def test_cells_of_one_seed_and_of_collapsed_runs_are_counted(tmp_path: Path) -> None:
    save_seeds(tmp_path, "vanilla", {0: 0.5})
    save_seeds(tmp_path, "lff", {0: 0.4})
    guesses = [[10] * 10] * 10  # of 100 images in each of the groups
    for method, seed in (("lff", 1), ("jtt", 0)):
        put(tmp_path, make_record(make_run("cmnist_99", method, seed=seed), correct=guesses))
    results = make_results(tmp_path)
    column = fidelity.columns(fidelity.cells(results)).set_index(["table", "task", "metric"])
    counted = column.loc["table2", "cmnist_99", "avg_acc"]
    assert (counted["methods"], counted["one_seed"], counted["collapsed"]) == (3, 2, 2)
    whole = fidelity.overall(fidelity.cells(results)).set_index("table").loc["table2"]
    assert (whole["one_seed"], whole["collapsed"]) == (6, 6), "in three metrics"


def test_methods_that_are_all_level_have_no_rank_correlation(tmp_path: Path) -> None:
    for method in ("vanilla", "lff", "jtt"):
        save_seeds(tmp_path, method, {0: 0.5})
    near = fidelity.columns(fidelity.cells(make_results(tmp_path))).set_index(["table", "task", "metric"])
    assert near.methods["table2", "cmnist_99", "avg_acc"] == 3
    assert pd.isna(near.rank_correlation["table2", "cmnist_99", "avg_acc"])
