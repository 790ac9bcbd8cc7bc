"""Echoes' weights over rounds and its loss, against scalar references."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
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
    predicting,
)

from methods.echoes import balanced_inverse


def naive_balanced_inverse(weights: Sequence[float], targets: Sequence[int]) -> list[float]:
    """The authors' form, multiplying by the product of all class totals: needs the range of float64."""
    inverse = [1 / (w + 1e-8) for w in weights]
    totals = {c: sum(u for u, y in zip(inverse, targets, strict=True) if y == c) for c in set(targets)}
    product = math.prod(totals.values())
    scaled = [u * (product / totals[y]) for u, y in zip(inverse, targets, strict=True)]
    return [u / (max(scaled) + 1e-8) for u in scaled]


def test_echoes_target_weights_equal_the_authors_product_formula_where_float32_overflows() -> None:
    targets = torch.arange(10).repeat_interleave(torch.tensor([5, 8, 13, 21, 34, 5, 8, 13, 21, 34]))
    weights = 0.5 ** torch.randint(26, (len(targets),), generator=generator(10)).float()
    totals = torch.zeros(10).index_add_(0, targets, 1 / weights)
    assert torch.isinf(totals.prod())
    found = balanced_inverse(weights, targets, 10)
    expected = naive_balanced_inverse(weights.tolist(), targets.tolist())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def echoes_rounds(method: Any, rounds: int = 6) -> Iterator[list[bool]]:
    """Random predictions of several rounds, given to the method; yields which samples they got wrong.

    Sample 0 is always right.
    """
    source = generator(11)
    for _ in range(rounds):
        logits = torch.randn(len(method.all_targets), method.num_classes, generator=source)
        logits[torch.arange(len(logits)), method.all_targets] += 1.5
        logits[0, method.all_targets[0]] += 100
        method.reweight(lambda network, logits=logits: logits)
        yield (logits.argmax(1) != method.all_targets).tolist()


def test_echoes_weights_follow_scalar_reference_over_rounds() -> None:
    targets = [0, 1, 1, 2, 2, 2] * 6
    method = build("echoes", targets, decay=0.4, error_threshold=0.35)
    v = [1.0] * len(targets)
    rates = []
    for wrong in echoes_rounds(method):
        for members in members_by_class(targets):
            rates.append(mean(wrong[i] for i in members))
            for i in members:
                if wrong[i] and rates[-1] < 0.35:
                    v[i] *= 0.4
        v = [w / (max(v) + 1e-8) for w in v]
        assert method.biased_weights.tolist() == close(v)
        np.testing.assert_allclose(method.target_weights.numpy(), naive_balanced_inverse(v, targets), rtol=1e-4)
    # Both sides of the threshold occurred.
    assert min(rates) < 0.35 <= max(rates)


def test_echoes_biased_weights_never_exceed_one_nor_grow() -> None:
    method = build("echoes", [0, 1, 2, 3] * 20)
    before = method.biased_weights.clone()
    for _ in echoes_rounds(method):
        assert method.biased_weights.max() <= 1
        # A sample that was never wrong keeps weight 1, so that normalising raises no other.
        assert method.biased_weights[0] == 1
        assert (method.biased_weights <= before).all()
        before = method.biased_weights.clone()
    assert before.min() < 0.2


def test_echoes_biased_weights_are_rescaled_when_no_sample_was_always_right() -> None:
    method = build("echoes", [0, 0, 0, 0], num_classes=2, decay=0.5, error_threshold=1.1)
    method.reweight(predicting([1, 1, 0, 0], 2))
    assert method.biased_weights.tolist() == close([0.5, 0.5, 1.0, 1.0])
    method.reweight(predicting([1, 0, 1, 1], 2))
    assert method.biased_weights.tolist() == close([0.5, 1.0, 1.0, 1.0])


def test_echoes_target_weights_have_maximum_one_and_equal_class_totals() -> None:
    targets = torch.tensor([0, 1, 1, 2, 2, 2] * 6)
    method = build("echoes", targets.tolist())
    for _ in echoes_rounds(method):
        u = method.target_weights
        assert float(u.max()) == close(1)
        totals = [float(u[targets == c].sum()) for c in range(3)]
        assert totals == close([totals[0]] * 3)


def test_echoes_errors_decay_only_in_classes_below_the_threshold_and_for_good() -> None:
    targets = [0] * 4 + [1] * 4 + [2] * 4
    # Error rates 1/4, 2/4 and 3/4: a rate equal to the threshold is not below it.
    predicted = [1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 2]
    method = build("echoes", targets, decay=0.5, error_threshold=0.5)
    method.reweight(predicting(predicted, 3))
    assert method.biased_weights.tolist() == close([0.5] + [1.0] * 11)
    method.reweight(predicting(predicted, 3))
    assert method.biased_weights.tolist() == close([0.25] + [1.0] * 11)
    method.reweight(predicting(targets, 3))
    assert method.biased_weights.tolist() == close([0.25] + [1.0] * 11)


def test_echoes_weights_stay_finite_after_very_many_rounds() -> None:
    targets = [c for c in range(10) for _ in range(6)]
    method = build("echoes", targets)
    for _ in range(200):
        method.reweight(predicting([9 - c if k == 0 else c for c in range(10) for k in range(6)], 10))
    assert torch.isfinite(method.target_weights).all()
    assert float(method.target_weights.max()) == close(1)


def test_echoes_target_receives_zero_gradient_in_the_first_round_only() -> None:
    method = build("echoes", TARGETS)
    batch = make_batch(method, range(12))
    loss = method.loss(batch)
    assert not gradients(loss, method.target).any()
    assert gradients(loss, method.biased).any()
    method.reweight(predicting(TARGETS, 3))
    assert gradients(method.loss(batch), method.target).any()


def test_echoes_loss_and_gradients_follow_scalar_reference() -> None:
    method = build("echoes", TARGETS, target_factor=30.0, error_threshold=1.1)
    list(echoes_rounds(method))
    indices = range(1, 18)
    batch = make_batch(method, indices)
    v = [method.biased_weights.tolist()[i] for i in indices]
    u = [method.target_weights.tolist()[i] for i in indices]
    assert len(set(v)) > 2
    biased, target = network_ce(method.biased, batch), network_ce(method.target, batch)
    expected = mean(w * ce for w, ce in zip(v, biased, strict=True))
    expected += 30 * mean(w * ce for w, ce in zip(u, target, strict=True))
    loss = method.loss(batch)
    assert number(loss) == close(expected)
    assert_descends_weighted_ce(loss, method.biased, batch, [w / len(v) for w in v])
    assert_descends_weighted_ce(loss, method.target, batch, [30 * w / len(u) for w in u])


def test_echoes_reweights_after_every_epoch_by_the_biased_network() -> None:
    method = build("echoes", TARGETS)
    (phase,) = method.phases()
    asked = []
    assert phase.end_epoch is not None
    phase.end_epoch(lambda network: asked.append(network) or torch.zeros(len(TARGETS), 3))
    assert asked == [method.biased]
