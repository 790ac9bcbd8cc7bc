"""JTT's error set, weights and losses."""

from __future__ import annotations

import warnings

import pytest
import torch
from factories.methods import TARGETS, build, close, generator, make_batch, mean, network_ce, number, predicting


def test_jtt_error_samples_count_one_plus_upsampling() -> None:
    method = build("jtt", [0, 1, 2, 0, 1], upsampling=20.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.upsample_errors(predicting([0, 2, 2, 1, 1], 3))
    assert method.sample_weights.tolist() == [1, 21, 1, 21, 1]


def test_jtt_without_upsampling_weighs_all_samples_equally() -> None:
    method = build("jtt", [0, 1, 2, 0, 1], upsampling=0.0)
    method.upsample_errors(predicting([0, 2, 2, 1, 1], 3))
    assert method.sample_weights.tolist() == [1] * 5


def test_jtt_empty_error_set_weighs_all_samples_equally_and_warns() -> None:
    method = build("jtt", [0, 1, 2, 0, 1])
    with pytest.warns(UserWarning, match="error set is empty"):
        method.upsample_errors(predicting([0, 1, 2, 0, 1], 3))
    assert method.sample_weights.tolist() == [1] * 5


def test_jtt_error_set_does_not_depend_on_the_order_of_the_samples() -> None:
    targets = [0, 1, 2] * 10
    logits = torch.randn(30, 3, generator=generator(8))
    order = torch.randperm(30, generator=generator(9))
    straight = build("jtt", targets)
    straight.upsample_errors(lambda network: logits)
    permuted = build("jtt", [targets[i] for i in order])
    permuted.upsample_errors(lambda network: logits[order])
    assert 1 < len(straight.sample_weights.unique()) < 30
    assert permuted.sample_weights.tolist() == straight.sample_weights[order].tolist()


def test_jtt_asks_the_identification_network_and_draws_by_weight_afterwards() -> None:
    method = build("jtt", [0, 1, 2], identification_epochs=3)
    identify, train = method.phases()
    assert identify.epochs == 3
    assert train.sampler == "weighted"
    asked = []
    assert identify.end is not None
    identify.end(lambda network: asked.append(network) or torch.zeros(3, 3))
    assert asked == [method.biased]


def test_jtt_both_stages_descend_plain_ce() -> None:
    method = build("jtt", TARGETS)
    method.upsample_errors(predicting([0] * len(TARGETS), 3))
    batch = make_batch(method, range(3, 17))
    assert number(method.identification_loss(batch)) == close(mean(network_ce(method.biased, batch)))
    # The upsampling is the sampler's: a factor in the loss as well would count errors twice.
    assert number(method.target_loss(batch)) == close(mean(network_ce(method.target, batch)))
