"""What is said to be wrong with printed numbers follows from the numbers themselves."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from benchmark.compare import published
from benchmark.compare.published import PAPER, errata, errata_of
from benchmark.metrics import FAIRNESS
from benchmark.plan.paper import CELEBA


def test_errata_name_cells_that_are_published() -> None:
    known = (PAPER / "README.md").read_text()
    for each in errata():
        assert any(each in errata_of(cell) for cell in published.numbers()), each
        assert each.kind in known


def test_the_impossible_numbers_are_those_that_contradict_their_neighbours() -> None:
    """Worst ≤ average − EO/2 for two classes and biases, worst ≤ average − bias for many."""
    found = set()
    for place, cells in groupby(sorted(published.numbers().items()), lambda each: each[0][:3]):
        values = {cell[3]: value for cell, value in cells}
        task = place[2]
        if not set(FAIRNESS) <= set(values) or task == "celeba_avg":
            continue
        two = task in (*CELEBA, "waterbirds")
        if values["worst_acc"] > values["avg_acc"] - values["model_bias"] / (2 if two else 1) + 0.01:
            found.add(place)
    assert found
    assert {each.cell[:3] for each in errata() if each.kind == "impossible"} == found


def test_the_copied_block_is_the_only_one_that_is_not_the_mean_of_the_targets() -> None:
    numbers = published.numbers()
    for (table, method, task, metric), value in numbers.items():
        if task != "celeba_avg":
            continue
        mean = np.mean([numbers[table, method, each, metric] for each in CELEBA])
        kinds = {each.kind for each in errata_of((table, method, task, metric))}
        if abs(mean - value) > 0.01:
            assert method == "debian"
            assert kinds == {"copied"}
            assert value == numbers[table, method, "celeba_bags_under_eyes", metric]
        else:
            assert "copied" not in kinds
            assert ("rounding" in kinds) == (abs(mean - value) > 0.0051)
