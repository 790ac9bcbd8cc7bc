"""LISA's pairs, shares and loss, against a scalar reference and the distributions that define them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from factories.methods import build, close, generator, make_batch, number, scalar_ce
from torch import Tensor

from methods.base import Batch
from methods.lisa import chosen

# Three classes and three bias values, all nine groups, of unequal size.
GROUPS = [(y, b) for y in range(3) for b in range(3)] * 2 + [(0, 0), (1, 1), (0, 1)]
TARGETS, BIAS = [y for y, _ in GROUPS], [b for _, b in GROUPS]
N = len(GROUPS)


def lisa(**overrides: Any) -> Any:
    return build("lisa", TARGETS, BIAS, num_biases=3, **overrides)


def batches(method: Any, seed: int = 0, m: int = 12) -> tuple[Batch, Batch]:
    source = generator(seed)
    draws = 2 * method.alpha + 1
    first, second = (
        make_batch(method, torch.randint(N, (m,), generator=source).tolist(), BIAS, seed=100 * seed + k, draws=draws)
        for k in (1, 2)
    )
    return first, second


def test_the_loss_follows_a_scalar_reference() -> None:
    method = lisa()
    both = set()
    for seed in range(8):
        batch, others = batches(method, seed)
        assert batch.draws is not None
        draws = batch.draws.tolist()
        within_class = draws[0][4] < 0.5
        both.add(within_class)
        images, expected = [], []
        for i in range(12):
            y, b = GROUPS[batch.indices[i]]
            partners = [
                j
                for j, (other_y, other_b) in enumerate(GROUPS[k] for k in others.indices.tolist())
                if ((other_y == y and other_b != b) if within_class else (other_b == b and other_y != y))
            ]
            if not partners:
                images.append((batch.images[i], batch.targets[i], batch.targets[i], 1.0))
                continue
            j = partners[int(draws[i][3] * len(partners))]
            share = sorted(draws[i][:3])[1]
            mixed = share * batch.images[i] + (1 - share) * others.images[j]
            images.append((mixed, batch.targets[i], others.targets[j], share))
        mixed, own, other, shares = zip(*images, strict=True)
        with torch.no_grad():
            logits = method.target(torch.stack(mixed))
        first, second = scalar_ce(logits, torch.stack(own)), scalar_ce(logits, torch.stack(other))
        expected = [s * a + (1 - s) * b for s, a, b in zip(shares, first, second, strict=True)]
        assert number(method.loss(batch, others)) == close(sum(expected) / 12)
    assert both == {True, False}


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_shares_are_beta_distributed(alpha: int) -> None:
    """Mean 1/2, variance 1/(4(2α + 1)), and the fourth central moment of Beta(α, α)."""
    method = lisa(alpha=alpha)
    batch, others = batches(method)
    draws = torch.rand(40_000, 2 * alpha + 1, generator=generator(1))
    many = Batch(*(each.repeat(40_000 // 12 + 1, *[1] * (each.dim() - 1))[:40_000] for each in batch[:4]), draws)
    share, _ = method.pairs(many, others)
    mixed = share[share < 1] - 0.5
    assert len(mixed) > 20_000
    assert mixed.mean().item() == pytest.approx(0, abs=0.01)
    assert (mixed**2).mean().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    assert (mixed**4).mean().item() == pytest.approx(3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)), rel=0.06)


@pytest.mark.parametrize(("intra_label", "within_class"), [(1.0, True), (0.0, False)])
def test_pairs_share_exactly_one_of_class_and_bias(intra_label: float, within_class: bool) -> None:
    method = lisa(intra_label=intra_label)
    for seed in range(5):
        batch, others = batches(method, seed)
        share, partner = method.pairs(batch, others)
        mixed = share < 1
        assert mixed.any()
        assert ((batch.targets == others.targets[partner]) == within_class)[mixed].all()
        assert ((batch.bias == others.bias[partner]) == (not within_class))[mixed].all()


def test_all_pairs_of_a_batch_are_of_one_kind_chosen_with_the_probability() -> None:
    method = lisa(intra_label=0.3)
    kinds = []
    for seed in range(300):
        batch, others = batches(method, seed)
        share, partner = method.pairs(batch, others)
        same = (batch.targets == others.targets[partner])[share < 1]
        assert same.all() or not same.any()
        kinds.append(bool(same[0]))
    assert sum(kinds) / 300 == pytest.approx(0.3, abs=0.08)


def test_every_partner_is_as_probable_and_nobody_else_is_one() -> None:
    eligible = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]).bool()
    draws = torch.rand(20_000, generator=generator(2))
    for row in eligible:
        found = torch.bincount(chosen(row.expand(20_000, 5), draws), minlength=5) / 20_000
        expected = row.float() / row.sum()
        torch.testing.assert_close(found, expected, rtol=0, atol=0.015)
        assert found[~row].sum() == 0


def test_the_largest_number_below_one_chooses_the_last_of_any_number() -> None:
    largest = torch.tensor(1 - 2**-24)
    for k in (1, 2, 3, 100, 129, 255, 256, 1000):
        assert chosen(torch.ones(1, k, dtype=torch.bool), largest[None]).tolist() == [k - 1]


def test_a_sample_without_a_partner_stays_as_it_is() -> None:
    method = lisa(intra_label=1.0)
    batch, others = batches(method)
    alone = others._replace(targets=torch.zeros(12, dtype=torch.int64), bias=torch.zeros(12, dtype=torch.int64))
    of_others = batch._replace(targets=torch.ones(12, dtype=torch.int64))
    share, _ = method.pairs(of_others, alone)
    assert share.tolist() == [1] * 12
    expected = scalar_ce(method.target(batch.images).detach(), of_others.targets)
    assert number(method.loss(of_others, alone)) == close(sum(expected) / 12)


def test_a_loss_takes_two_group_balanced_batches_with_chance() -> None:
    method = lisa(alpha=3)
    (phase,) = method.phases()
    assert phase.batches == (("group_balanced", "group_balanced"),)
    assert phase.steps[0].draws == 7
    shares: Tensor = method.pairs(*batches(method))[0]
    assert shares.shape == (12,)
