"""Vanilla, and its siblings that differ only in the per-sample loss or in the sampler."""

from __future__ import annotations

import math
from typing import Any

import pytest
from factories.methods import TARGETS, build, close, make_batch, mean, network_ce, number


@pytest.mark.parametrize(
    ("name", "options", "per_sample"),
    [
        ("vanilla", {}, lambda ce: ce),
        ("focal", {"gamma": 1.5}, lambda ce: (1 - math.exp(-ce)) ** 1.5 * ce),
        ("gce", {"q": 0.4}, lambda ce: (1 - math.exp(-0.4 * ce)) / 0.4),
    ],
)
def test_single_network_methods_descend_the_batch_mean_of_their_loss(name: str, options: dict, per_sample: Any) -> None:
    method = build(name, TARGETS, **options)
    batch = make_batch(method, range(2, 19))
    assert number(method.loss(batch)) == close(mean(map(per_sample, network_ce(method.target, batch))))


def test_rwy_draws_classes_alike_often() -> None:
    """With the official code's weights, n over the size of the class, but for their common factor."""
    method = build("rwy", [0, 0, 0, 1, 2, 2])
    (phase,) = method.phases()
    assert phase.sampler == "weighted"
    official = [6 / size for size in (3, 3, 3, 1, 2, 2)]
    shares = (method.sample_weights / method.sample_weights.sum()).tolist()
    assert shares == close([each / sum(official) for each in official])


def test_rwg_draws_groups_alike_often() -> None:
    (phase,) = build("rwg", [0, 0, 1, 1], [0, 1, 0, 1]).phases()
    assert phase.sampler == "group_balanced"
