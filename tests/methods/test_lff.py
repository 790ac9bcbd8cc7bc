"""LfF's loss, weights and averages, against a scalar reference and the properties that define them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from factories.methods import (
    LFF_BATCHES,
    UNEVEN,
    ScalarLfF,
    assert_descends_weighted_ce,
    build,
    close,
    generator,
    make_batch,
    mean,
    network_ce,
    number,
)


def difficulty(method: Any, indices: Sequence[int], biased: Sequence[float], target: Sequence[float]) -> list[float]:
    batch = make_batch(method, indices)
    return method.relative_difficulty(batch, torch.tensor(biased), torch.tensor(target)).tolist()


def test_lff_loss_and_its_gradients_follow_scalar_reference_over_batches() -> None:
    method = build("lff", UNEVEN, q=0.6, alpha=0.8)
    reference = ScalarLfF(UNEVEN, alpha=0.8)
    for seed, indices in enumerate(LFF_BATCHES):
        m = len(indices)
        batch = make_batch(method, indices, seed=seed)
        biased, target = network_ce(method.biased, batch), network_ce(method.target, batch)
        weights = reference.update(indices, biased, target)
        loss = method.loss(batch)
        gce = mean((1 - math.exp(-0.6 * ce)) / 0.6 for ce in biased)
        assert number(loss) == close(gce + mean(w * ce for w, ce in zip(weights, target, strict=True)))
        assert_descends_weighted_ce(loss, method.biased, batch, [math.exp(-0.6 * ce) / m for ce in biased])
        assert_descends_weighted_ce(loss, method.target, batch, [w / m for w in weights])


def test_lff_weights_follow_scalar_reference() -> None:
    method = build("lff", UNEVEN)
    reference = ScalarLfF(UNEVEN, alpha=0.7)
    source = generator(3)
    for indices in LFF_BATCHES:
        biased, target = (4 * torch.rand(2, len(indices), generator=source)).tolist()
        assert difficulty(method, indices, biased, target) == close(reference.update(indices, biased, target))


def test_lff_first_visit_takes_the_raw_loss_and_later_visits_average() -> None:
    method = build("lff", [0, 0, 1])
    # Sample 0 has the largest loss of its class, so sample 1's normalised averages are its ratios to it.
    difficulty(method, [0, 1], [4.0, 1.0], [2.0, 1.5])
    assert difficulty(method, [0], [8.0], [2.0]) == close([0.5])
    # β: 0.7·4 + 0.3·8 = 5.2 against a raw first loss of 1 moved to 0.7·1 + 0.3·3 = 1.6; δ: 2 against 1.5.
    expected = (1.6 / 5.2) / (1.6 / 5.2 + 1.5 / 2.0)
    assert difficulty(method, [1], [3.0], [1.5]) == close([expected])


def test_lff_class_maximum_is_over_all_samples_of_the_class_and_of_no_other() -> None:
    method = build("lff", [0, 0, 0, 1, 1])
    difficulty(method, [0, 3], [10.0, 1000.0], [1.0, 1000.0])
    # Sample 0 is not in this batch and still sets the maximum of β; unvisited sample 2 counts as 0.
    assert difficulty(method, [1], [5.0], [4.0]) == close([0.5 / (0.5 + 1.0)])


def test_lff_class_maximum_falls_when_the_largest_average_falls() -> None:
    method = build("lff", [0, 0], alpha=0.5)
    difficulty(method, [0, 1], [8.0, 2.0], [1.0, 1.0])
    difficulty(method, [0], [0.0], [1.0])
    # The average of sample 0 fell from 8 to 4; a running maximum would still divide by 8.
    assert difficulty(method, [1], [2.0], [1.0]) == close([0.5 / 1.5])


def test_lff_equal_averages_give_one_half() -> None:
    method = build("lff", UNEVEN)
    for indices in LFF_BATCHES:
        ce = (0.01 + 5 * torch.rand(len(indices), generator=generator(4))).tolist()
        assert difficulty(method, indices, ce, ce) == close([0.5] * len(indices))


def test_lff_weights_stay_in_unit_interval_for_extreme_losses() -> None:
    method = build("lff", UNEVEN)
    extremes = torch.tensor([0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e4])
    for seed in range(20):
        biased, target = extremes[torch.randint(len(extremes), (2, 12), generator=generator(seed))].tolist()
        weights = difficulty(method, range(12), biased, target)
        assert all(0 <= w <= 1 for w in weights)
