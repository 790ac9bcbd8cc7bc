from __future__ import annotations

import pytest
import torch

from benchmark.training import samplers


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("n", "m"), [(10, 3), (12, 3), (5, 5), (203, 64), (7, 6)])
def test_shuffled_visits_all_in_full_batches_without_repeats_inside_one(n: int, m: int) -> None:
    order = samplers.shuffled(n, m, seeded())
    assert order.shape == (-(-n // m), m)
    assert set(order.flatten().tolist()) == set(range(n))
    assert all(len(set(batch)) == m for batch in order.tolist())


def test_shuffled_differs_from_epoch_to_epoch() -> None:
    generator = seeded()
    assert not torch.equal(samplers.shuffled(100, 10, generator), samplers.shuffled(100, 10, generator))


def test_weighted_draws_in_proportion_and_never_what_weighs_nothing() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 6.0, 0.0]).repeat(10_000)
    drawn = samplers.weighted(weights, 100, seeded())
    assert drawn.shape == (600, 100)
    share = torch.bincount(drawn.flatten() % 6, minlength=6) / drawn.numel()
    assert torch.allclose(share, torch.tensor([0.0, 0.1, 0.3, 0.0, 0.6, 0.0]), atol=0.01)
    assert share[[0, 3, 5]].sum() == 0


def test_weighted_never_leaves_the_range_at_the_end_of_the_scale() -> None:
    weights = torch.zeros(1000)
    weights[-1] = 1e-30
    assert (samplers.weighted(weights, 50, seeded()) == 999).all()


@pytest.mark.parametrize(("sizes", "m"), [((500, 30, 60), 12), ((500, 30, 60), 16), ((41, 80), 7), ((9, 9, 9, 9), 10)])
def test_class_balanced_strata_are_even_and_without_repeats(sizes: tuple[int, ...], m: int) -> None:
    targets = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = samplers.class_balanced(targets, len(sizes), m, seeded())
    assert order.shape == (-(-len(targets) // m), m)
    for batch in order:
        assert len(set(batch.tolist())) == m
        counts = torch.bincount(targets[batch], minlength=len(sizes))
        assert counts.max() - counts.min() <= 1
    total = torch.bincount(targets[order.flatten()], minlength=len(sizes)).double()
    assert total.max() - total.min() <= len(sizes), "the extra places must go round"


def test_class_balanced_spreads_over_all_members_of_a_class() -> None:
    targets = torch.tensor([0] * 50 + [1] * 450)
    order = samplers.class_balanced(targets, 2, 20, seeded())  # 25 batches, 250 places for each class
    visits = torch.bincount(order.flatten(), minlength=500)
    assert (visits[:50] == 5).all()
    assert visits[50:].max() == 1


def test_class_balanced_repeats_only_what_is_too_few() -> None:
    targets = torch.tensor([0] * 3 + [1] * 97)
    order = samplers.class_balanced(targets, 2, 20, seeded())
    assert ((targets[order] == 0).sum(1) == 10).all()
    assert all(len(set(batch[targets[batch] == 1].tolist())) == 10 for batch in order)


def test_class_balanced_needs_every_class() -> None:
    with pytest.raises(ValueError, match="every class"):
        samplers.class_balanced(torch.tensor([0, 0, 2]), 3, 3, seeded())
