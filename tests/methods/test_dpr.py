"""DPR's sampling weights and losses, against a scalar reference."""

from __future__ import annotations

import math

import pytest
import torch
from factories.methods import (
    TARGETS,
    assert_descends_weighted_ce,
    build,
    close,
    generator,
    make_batch,
    mean,
    network_ce,
    number,
)

from benchmark.training import samplers
from methods.dpr import disagreement


def scalar_disagreement(row: list[float], y: int, temperature: float) -> float:
    powers = [math.exp(x / temperature) for x in row]
    return max(1 - powers[y] / sum(powers), 1e-8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_weights_are_one_minus_the_label_s_probability_at_the_temperature(temperature: float) -> None:
    logits = 3 * torch.randn(50, 4, generator=generator(1))
    targets = torch.randint(4, (50,), generator=generator(2))
    expected = [
        scalar_disagreement(row, y, temperature) for row, y in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    assert disagreement(logits, targets, temperature).tolist() == close(expected)


def test_a_sample_that_the_biased_network_is_sure_of_can_still_be_drawn() -> None:
    logits = torch.tensor([[0.0, 500.0], [500.0, 0.0]])
    assert disagreement(logits, torch.tensor([1, 1]), 1.0).tolist() == pytest.approx([1e-8, 1.0])


def test_the_end_of_the_first_stage_sets_weights_and_starts_the_target_from_the_biased_network() -> None:
    method = build("dpr", [0, 1, 2, 0], temperature=2.0)
    bias, train = method.phases()
    assert (bias.epochs, bias.sampler, train.epochs, train.sampler) == (2, "shuffled", 2, "weighted")
    logits = torch.tensor([[2.0, 0.0, 0.0], [1.0, 3.0, -1.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    asked = []
    assert bias.end is not None
    bias.end(lambda network: asked.append(network) or logits)  # type: ignore[func-returns-value]
    assert asked == [method.biased]
    expected = [scalar_disagreement(row, y, 2.0) for row, y in zip(logits.tolist(), [0, 1, 2, 0], strict=True)]
    assert method.sample_weights.tolist() == close(expected)
    for one, other in zip(method.biased.parameters(), method.target.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one is not other
    assert method.summary()["effective_samples"] == close(sum(expected) ** 2 / sum(w * w for w in expected))
    drawn = samplers.weighted(method.sample_weights.repeat(5000), 100, generator(0)) % 4
    share = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    assert share.tolist() == pytest.approx([w / sum(expected) for w in expected], abs=0.01)


def test_the_biased_network_descends_gce_and_the_target_plain_ce() -> None:
    method = build("dpr", TARGETS, q=0.6)
    method.sample_weights.copy_(torch.rand(len(TARGETS), generator=generator(3)))
    batch = make_batch(method, range(3, 17))
    biased = network_ce(method.biased, batch)
    loss = method.biased_loss(batch)
    assert number(loss) == close(mean((1 - math.exp(-0.6 * ce)) / 0.6 for ce in biased))
    assert_descends_weighted_ce(loss, method.biased, batch, [math.exp(-0.6 * ce) / 14 for ce in biased])
    # The resampling is the sampler's: a factor in the loss as well would count disagreement twice.
    assert number(method.target_loss(batch)) == close(mean(network_ce(method.target, batch)))
