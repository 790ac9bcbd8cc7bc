"""DebiAN's weights and losses, against naive loops over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from factories.methods import (
    TARGETS,
    assert_descends_weighted_ce,
    build,
    close,
    generator,
    gradients,
    make_batch,
    mean,
    members_by_class,
    network_ce,
    number,
)
from torch import Tensor

from methods.debian import classifier_weights, discovery_loss


def soft_means(share: Sequence[float], fit: Sequence[float], members: Sequence[int]) -> tuple[float, float]:
    """The soft group means t̄⁺ and t̄⁻ of one class."""
    first = sum(share[i] * fit[i] for i in members) / (sum(share[i] for i in members) + 1e-6)
    second = sum((1 - share[i]) * fit[i] for i in members) / (sum(1 - share[i] for i in members) + 1e-6)
    return first, second


def naive_debian_weights(share: Sequence[float], fit: Sequence[float], labels: Sequence[int]) -> list[float]:
    weights = [0.0] * len(labels)
    for members in members_by_class(labels):
        first, second = soft_means(share, fit, members)
        for i in members:
            weights[i] = 1 + (share[i] if first <= second else 1 - share[i])
    return weights


def naive_discovery_loss(share: Sequence[float], fit: Sequence[float], labels: Sequence[int], balance: float) -> float:
    terms = []
    for members in members_by_class(labels):
        first, second = soft_means(share, fit, members)
        lopsided = abs(mean(share[i] for i in members) - mean(1 - share[i] for i in members))
        terms.append(-math.log(1e-6 + abs(first - second)) - balance * math.log(1e-6 + 1 - lopsided))
    return mean(terms)


def debian_case(seed: int, num_classes: int = 4, present: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shares, fits, labels of ``present`` of the classes, and the one-hot matrix of all classes."""
    source = generator(seed)
    labels = torch.randint(present, (40,), generator=source)
    share, fit = torch.rand(2, 40, generator=source)
    return share, fit, labels, F.one_hot(labels, num_classes).float()


@pytest.mark.parametrize("seed", range(4))
def test_debian_weights_equal_naive_loops_and_lie_between_one_and_two(seed: int) -> None:
    share, fit, labels, membership = debian_case(seed)
    weights = classifier_weights(share, fit, membership).tolist()
    assert weights == close(naive_debian_weights(share.tolist(), fit.tolist(), labels.tolist()))
    assert all(1 <= w <= 2 for w in weights)


@pytest.mark.parametrize("balance", [0.0, 1.0, 2.5])
def test_debian_discovery_loss_equals_naive_loops_over_the_classes_present(balance: float) -> None:
    share, fit, labels, membership = debian_case(seed=1)
    expected = naive_discovery_loss(share.tolist(), fit.tolist(), labels.tolist(), balance)
    # Differences of means near zero amplify rounding inside the logarithm.
    assert number(discovery_loss(share, fit, membership, balance)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_debian_swapping_the_two_soft_groups_changes_neither_loss(seed: int) -> None:
    share, fit, _, membership = debian_case(seed)
    # Steps of 1/64 make 1 − s exact, so that both sides round alike.
    share = (share * 64).round() / 64
    weights = [classifier_weights(s, fit, membership).tolist() for s in (share, 1 - share)]
    assert weights[0] == close(weights[1])
    loss = [number(discovery_loss(s, fit, membership, 1.0)) for s in (share, 1 - share)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-4)


def test_debian_weighs_up_the_soft_group_that_is_served_worse() -> None:
    share = torch.tensor([0.9, 0.1, 0.9, 0.1])
    fit = torch.tensor([0.2, 0.8, 0.8, 0.2])  # class 0 fails where s is large, class 1 where s is small
    membership = F.one_hot(torch.tensor([0, 0, 1, 1]), 2).float()
    assert classifier_weights(share, fit, membership).tolist() == close([1.9, 1.1, 1.1, 1.9])


def test_debian_assignment_term_punishes_putting_everything_in_one_group() -> None:
    _, fit, _, membership = debian_case(seed=2)
    balanced = torch.arange(40).remainder(2) * 0.2 + 0.4
    lopsided = balanced + 0.39

    def penalty(share: Tensor) -> float:
        return number(discovery_loss(share, fit, membership, 1.0) - discovery_loss(share, fit, membership, 0.0))

    assert penalty(lopsided) > penalty(balanced) + 1


@pytest.mark.parametrize("indices", [range(24), [0, 1, 3, 4, 6, 7, 9]], ids=["all classes", "class 2 missing"])
def test_debian_steps_follow_naive_loops(indices: Sequence[int]) -> None:
    method = build("debian", TARGETS, balance=1.7)
    batch = make_batch(method, indices)
    labels = batch.targets.tolist()
    with torch.no_grad():
        outputs = method.discoverer(batch.images).tolist()
    share = [1 / (1 + math.exp(-row[y])) for row, y in zip(outputs, labels, strict=True)]
    ce = network_ce(method.target, batch)
    fit = [math.exp(-each) for each in ce]
    weights = naive_debian_weights(share, fit, labels)
    loss = method.classifier_loss(batch)
    assert number(loss) == close(mean(w * each for w, each in zip(weights, ce, strict=True)))
    assert_descends_weighted_ce(loss, method.target, batch, [w / len(ce) for w in weights])
    expected = naive_discovery_loss(share, fit, labels, 1.7)
    assert number(method.discoverer_loss(batch)) == pytest.approx(expected, rel=1e-4)


def test_debian_discoverer_gradient_is_that_of_its_own_shares_only() -> None:
    method = build("debian", TARGETS)
    batch = make_batch(method, [0, 1, 3, 4, 6, 7, 9])
    fit = [math.exp(-ce) for ce in network_ce(method.target, batch)]
    labels = batch.targets.tolist()
    outputs = method.discoverer(batch.images)
    outputs.retain_grad()
    share = torch.sigmoid(outputs[torch.arange(len(labels)), batch.targets]).double()
    # Central differences of the naive loss in every share.
    slopes = []
    for i in range(len(labels)):
        sides = []
        for step in (1e-6, -1e-6):
            moved = share.tolist()
            moved[i] += step
            sides.append(naive_discovery_loss(moved, fit, labels, 1.0))
        slopes.append((sides[0] - sides[1]) / 2e-6)
    expected = gradients((torch.tensor(slopes) * share).sum(), method.discoverer)
    found = gradients(method.discoverer_loss(batch), method.discoverer)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def test_debian_classifier_and_discoverer_take_turns_on_their_own_batches() -> None:
    method = build("debian", TARGETS)
    (phase,) = method.phases()
    assert [step.trains for step in phase.steps] == [(method.target,), (method.discoverer,)]
