"""AFR against its authors' formulas, one sample at a time, and what of the training set each of its phases sees."""

from __future__ import annotations

import math

import pytest
import torch
from factories.digits import tiny_settings
from factories.methods import BIAS, TARGETS, UNEVEN, build, close, generator, make_batch, scalar_ce
from torch import Tensor

from benchmark.training.training import Training
from benchmark.training.updates import Updates
from datasets import BiasedDataset
from methods.afr import afr_weights


def official_weights(logits: Tensor, targets: list[int], gamma: float) -> list[float]:
    """get_exp_weights, rebalance_weights and normalize_weights of the authors' code (losses, utils)."""
    weights = []
    for row, y in zip(logits.tolist(), targets, strict=True):
        fit = math.exp(row[y]) / sum(map(math.exp, row))
        weights.append(math.exp(-gamma * fit) * len(targets) / targets.count(y))
    return [each / sum(weights) for each in weights]


@pytest.mark.parametrize("gamma", [0.0, 1.44, 10.0])
def test_weights(gamma: float) -> None:
    logits = 3 * torch.randn(len(UNEVEN), 3, generator=generator(2))
    found = afr_weights(logits, torch.tensor(UNEVEN), gamma)
    assert found.tolist() == close(official_weights(logits, UNEVEN, gamma))
    assert found.sum().item() == close(1.0)


@pytest.mark.usefixtures("float64")
def test_the_second_phase_descends_the_authors_loss_in_expectation() -> None:
    """Σ w·CE + λ·(‖W − W₀‖² + ‖b − b₀‖²), as take_step has it: batches are drawn with probability w."""
    method = build("afr", TARGETS, BIAS, gamma=2.0, pull=0.3)
    logits = torch.randn(len(TARGETS), 3, generator=generator(2))
    layer = method.target.classifier
    first = [parameter.detach().clone() for parameter in layer.parameters()]
    with torch.no_grad():
        method.reweight(lambda network, split="train": logits)
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(3)))
    rows = method.held_out.nonzero().squeeze(1).tolist()
    weights = official_weights(logits[rows], [TARGETS[row] for row in rows], 2.0)
    assert method.sample_weights[rows].tolist() == close(weights)
    assert method.sample_weights.sum().item() == close(1.0), "nothing else is drawn"
    batch = make_batch(method, rows)
    ce = scalar_ce(method.target(batch.images), batch.targets)
    moved = sum((new - old).square().sum().item() for new, old in zip(layer.parameters(), first, strict=True))
    expected = sum(w * each for w, each in zip(weights, ce, strict=True)) + 0.3 * moved
    single = [
        method.last_layer_loss(batch._replace(images=batch.images[[i]], targets=batch.targets[[i]]))
        for i in range(len(rows))
    ]
    assert sum(w * each.item() for w, each in zip(weights, single, strict=True)) == close(expected)


def test_what_is_held_out_trains_the_last_layer_and_nothing_else(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("afr"), seed=0)
    method = training.method
    assert method.held_out.sum() == round(0.2 * 203)
    assert not torch.equal(method.held_out, Training(tiny, tiny_settings("afr"), seed=1).method.held_out)
    drawn = []
    for index, phase in enumerate(training.phases):
        training.go_to(index)
        order = torch.cat(
            [training.batches.order(phase, phase.sampler, training.generator).flatten() for _ in range(20)]
        )
        drawn.append(torch.bincount(order, minlength=203) > 0)
        Updates([training]).epoch()
        training.measurement.forget()
        training.call(phase.end)
    assert not (drawn[0] & method.held_out).any()
    assert drawn[0].sum() == 203 - 41
    assert not (drawn[1] & ~method.held_out).any()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_neither_part_is_ever_empty(share: float) -> None:
    assert int(build("afr", TARGETS, held_out=share).held_out.sum()) == (1 if share == 0 else len(TARGETS) - 1)
