"""GroupDRO's group weights and loss, against a scalar reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from factories.methods import assert_descends_weighted_ce, build, close, generator, make_batch, mean, network_ce, number

from methods.base import Batch, Method

# Groups (y, b) of sizes 4, 2, 0, 1, 3, 2 in the order y·B + b with C = 2, B = 3; group (0, 2) does not exist.
GROUPS = [(0, 0)] * 4 + [(0, 1)] * 2 + [(1, 0)] + [(1, 1)] * 3 + [(1, 2)] * 2
GROUP_SIZES = [4, 2, 0, 1, 3, 2]
GROUP_TARGETS = [y for y, _ in GROUPS]
GROUP_BIAS = [b for _, b in GROUPS]


def groupdro(**overrides: Any) -> Any:
    return build("groupdro", GROUP_TARGETS, GROUP_BIAS, num_biases=3, **overrides)


def groupdro_batch(method: Method, indices: Iterable[int], seed: int = 0) -> Batch:
    return make_batch(method, indices, GROUP_BIAS, seed)


def group_means(ce: Sequence[float], indices: Iterable[int]) -> list[float]:
    """Mean loss of each group in the batch, 0 where it has no members."""
    members: list[list[float]] = [[] for _ in GROUP_SIZES]
    for i, each in zip(indices, ce, strict=True):
        y, b = GROUPS[i]
        members[3 * y + b].append(each)
    return [mean(values) if values else 0.0 for values in members]


def test_groupdro_weights_loss_and_gradients_follow_scalar_reference_over_batches() -> None:
    method = groupdro(step_size=0.3, adjustment=0.9)
    q = [float(size > 0) / 5 for size in GROUP_SIZES]
    for seed, indices in enumerate(([0, 1, 4, 6, 10, 11], [2, 3, 3, 7, 8], list(range(12)), [5, 5, 9])):
        batch = groupdro_batch(method, indices, seed)
        ce = network_ce(method.target, batch)
        group_loss = group_means(ce, indices)
        # q takes in this batch before it weighs it.
        grown = [
            weight * math.exp(0.3 * (each + 0.9 / math.sqrt(size))) if size else 0.0
            for weight, each, size in zip(q, group_loss, GROUP_SIZES, strict=True)
        ]
        q = [each / sum(grown) for each in grown]
        loss = method.loss(batch)
        assert method.group_weights.tolist() == close(q)
        assert number(loss) == close(sum(w * each for w, each in zip(q, group_loss, strict=True)))
        numbers = [3 * GROUPS[i][0] + GROUPS[i][1] for i in indices]
        assert_descends_weighted_ce(loss, method.target, batch, [q[g] / numbers.count(g) for g in numbers])


def test_groupdro_weights_sum_to_one_and_only_groups_of_the_training_set_have_any() -> None:
    method = groupdro(step_size=0.1, adjustment=1.0)
    for seed in range(20):
        method.loss(groupdro_batch(method, torch.randint(12, (5,), generator=generator(seed)).tolist(), seed))
        weights = method.group_weights.tolist()
        assert sum(weights) == close(1)
        assert weights[2] == 0
        assert all(w > 0 for g, w in enumerate(weights) if g != 2)


def test_groupdro_without_step_descends_the_uniform_mean_over_existing_groups() -> None:
    method = groupdro(step_size=0.0, adjustment=3.0)
    for seed in range(3):
        batch = groupdro_batch(method, range(12), seed)
        expected = sum(group_means(network_ce(method.target, batch), range(12))) / 5
        assert number(method.loss(batch)) == close(expected)


def test_groupdro_groups_missing_from_the_batch_have_loss_zero() -> None:
    method = groupdro(step_size=0.0)
    batch = groupdro_batch(method, [6])
    assert number(method.loss(batch)) == close(network_ce(method.target, batch)[0] / 5)


def test_groupdro_missing_groups_lose_weight_only_relatively() -> None:
    method = groupdro(step_size=1.0)
    method.loss(groupdro_batch(method, [0, 1]))
    weights = method.group_weights.tolist()
    assert weights[0] > 1 / 5
    assert [weights[g] for g in (1, 3, 4, 5)] == close([weights[1]] * 4)


def test_groupdro_adjustment_favours_small_groups_as_c_over_root_n() -> None:
    method = groupdro(step_size=0.5, adjustment=2.0)
    method.reweight(torch.zeros(6))
    grown = [math.exp(0.5 * 2.0 / math.sqrt(size)) if size else 0.0 for size in GROUP_SIZES]
    assert method.group_weights.tolist() == close([each / sum(grown) for each in grown])


@pytest.mark.parametrize(("num_classes", "num_biases"), [(2, 2), (3, 4), (4, 3), (10, 10)])
def test_groupdro_group_index_is_the_bijection_y_b_plus_b(num_classes: int, num_biases: int) -> None:
    cells = [(y, b) for y in range(num_classes) for b in range(num_biases)]
    targets, bias = [y for y, _ in cells], [b for _, b in cells]
    method = build("groupdro", targets, bias, num_biases=num_biases, step_size=1.0)
    found = []
    for i in range(len(cells)):
        method.group_weights.fill_(1 / len(cells))
        # Only the weight of the batch's one group can grow.
        method.loss(make_batch(method, [i], bias))
        found.append(int(method.group_weights.argmax()))
    assert found == [y * num_biases + b for y, b in cells]
    assert sorted(found) == list(range(num_classes * num_biases))


def test_groupdro_draws_group_balanced_batches() -> None:
    (phase,) = groupdro().phases()
    assert phase.sampler == "group_balanced"
