"""The per-sample losses and their gradients, against plain scalar references."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from factories.methods import close, generator, scalar_ce
from torch import Tensor

from methods import losses


def random_logits(m: int = 30, num_classes: int = 5, seed: int = 1) -> tuple[Tensor, Tensor]:
    source = generator(seed)
    logits = 3 * torch.randn(m, num_classes, generator=source)
    return logits.requires_grad_(), torch.randint(num_classes, (m,), generator=source)


def ce_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.autograd.grad(F.cross_entropy(logits, targets, reduction="sum"), logits)[0]


def test_cross_entropy_equals_scalar_reference() -> None:
    logits, targets = random_logits()
    assert losses.cross_entropy(logits, targets).tolist() == close(scalar_ce(logits, targets))


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_gce_equals_scalar_reference(q: float) -> None:
    logits, targets = random_logits()
    expected = [(1 - math.exp(-ce) ** q) / q for ce in scalar_ce(logits, targets)]
    assert losses.generalized_cross_entropy(logits, targets, q).tolist() == close(expected)


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_gce_gradient_is_ce_gradient_times_p_to_the_q(q: float) -> None:
    logits, targets = random_logits()
    gradient = torch.autograd.grad(losses.generalized_cross_entropy(logits, targets, q).sum(), logits)[0]
    factor = torch.tensor([math.exp(-ce) ** q for ce in scalar_ce(logits, targets)])
    torch.testing.assert_close(gradient, factor[:, None] * ce_gradient(logits, targets), rtol=1e-4, atol=1e-7)


def test_gce_tends_to_ce_for_small_q() -> None:
    logits, targets = random_logits()
    assert losses.generalized_cross_entropy(logits, targets, 1e-4).tolist() == pytest.approx(
        scalar_ce(logits, targets), rel=1e-3
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_equals_scalar_reference(gamma: float) -> None:
    logits, targets = random_logits()
    expected = [(1 - math.exp(-ce)) ** gamma * ce for ce in scalar_ce(logits, targets)]
    assert losses.focal(logits, targets, gamma).tolist() == close(expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradient_flows_through_the_modulating_factor(gamma: float) -> None:
    logits, targets = random_logits()
    gradient = torch.autograd.grad(losses.focal(logits, targets, gamma).sum(), logits)[0]
    factors = []
    for ce in scalar_ce(logits, targets):
        p = math.exp(-ce)
        factors.append((1 - p) ** gamma + gamma * (1 - p) ** (gamma - 1) * p * ce)
    expected = torch.tensor(factors)[:, None] * ce_gradient(logits, targets)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("margin", [8.0, 15.0, 17.0, 50.0, 500.0])
def test_focal_gradient_is_finite_where_p_tends_to_one(gamma: float, margin: float) -> None:
    logits = torch.tensor([[margin, 0.0, 0.0]], requires_grad=True)
    loss = losses.focal(logits, torch.tensor([0]), gamma)
    gradient = torch.autograd.grad(loss.sum(), logits)[0]
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()
