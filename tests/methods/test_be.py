"""BiasEnsemble's vote and losses, against scalar references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from factories.methods import (
    LFF_BATCHES,
    TARGETS,
    UNEVEN,
    ScalarLfF,
    assert_descends_weighted_ce,
    build,
    close,
    generator,
    gradients,
    make_batch,
    mean,
    network_ce,
    number,
    scalar_ce,
)
from torch import Tensor


def vote(method: Any, logits: Iterable[Tensor]) -> list[bool]:
    """Every auxiliary network votes with these logits; returns the membership of D_A."""
    for network, output in zip(method.auxiliaries, logits, strict=True):
        method.vote(network, lambda asked, network=network, output=output: output if asked is network else None)
    return method.amplified.tolist()


def auxiliary_logits(targets: Sequence[int], models: int = 5) -> Tensor:
    """Outputs [models, n, 3] of auxiliary networks that lean towards the given labels."""
    logits = 1.5 * torch.randn(models, len(targets), 3, generator=generator(6))
    return logits + 1.5 * F.one_hot(torch.tensor(targets), 3)


def naive_amplified_set(logits: Tensor, targets: Sequence[int], confidence: float, votes: int) -> list[bool]:
    """D_A by vote; in the cases of these tests every class has a member, so that none is filled up."""
    ces = [scalar_ce(output, torch.tensor(targets)) for output in logits]
    members = [sum(math.exp(-ce[i]) > confidence for ce in ces) >= votes for i in range(len(targets))]
    assert {y for y, member in zip(targets, members, strict=True) if member} == set(targets)
    return members


@pytest.mark.parametrize(("confidence", "votes"), [(0.7, 1), (0.8, 1), (0.5, 3), (0.8, 3), (0.2, 5), (0.5, 5)])
def test_be_amplified_set_is_the_vote_of_scalar_reference(confidence: float, votes: int) -> None:
    targets = [0, 1, 2] * 20
    logits = auxiliary_logits(targets)
    expected = naive_amplified_set(logits, targets, confidence, votes)
    assert not all(expected)
    assert vote(build("be", targets, confidence=confidence, votes=votes), logits) == expected


def test_be_without_required_votes_amplifies_everything() -> None:
    targets = [0, 1, 2] * 20
    assert all(vote(build("be", targets, confidence=0.99, votes=0), auxiliary_logits(targets)))


def test_be_larger_confidence_never_enlarges_the_amplified_set() -> None:
    targets = [0, 1, 2] * 20
    logits = auxiliary_logits(targets)
    previous = [True] * 60
    for confidence in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        amplified = vote(build("be", targets, confidence=confidence), logits)
        # Asserts that no class runs empty: filling one up would add members.
        naive_amplified_set(logits, targets, confidence, votes=3)
        assert all(before or not now for now, before in zip(amplified, previous, strict=True))
        if confidence == 0:
            assert all(amplified)
        previous = amplified
    assert sum(previous) < 30


def test_be_class_without_member_keeps_its_surer_half() -> None:
    targets = [0] * 7 + [1] * 4 + [2] * 3
    logits = auxiliary_logits(targets)
    logits[:, 7:11, 1] += 100  # class 1 is certain for every network: it needs no filling
    total = [
        sum(math.exp(-ce) for ce in sample)
        for sample in zip(*(scalar_ce(output, torch.tensor(targets)) for output in logits), strict=True)
    ]
    expected = [False] * 7 + [True] * 4 + [False] * 3
    for members, kept in ((range(7), 4), (range(11, 14), 2)):
        for i in sorted(members, key=lambda i: -total[i])[:kept]:
            expected[i] = True
    with pytest.warns(UserWarning, match="No sample of the classes 0, 2 had 5 votes"):
        assert vote(build("be", targets, confidence=0.99, votes=5), logits) == expected


def test_be_auxiliary_networks_descend_gce_for_the_given_number_of_updates() -> None:
    method = build("be", TARGETS, models=3, auxiliary_updates=17, q=0.6)
    phases = method.phases()
    assert [phase.updates for phase in phases] == [17, 17, 17, None]
    batch = make_batch(method, range(10))
    for phase, network in zip(phases, method.auxiliaries, strict=False):
        (step,) = phase.steps
        assert step.trains == (network,)
        expected = mean((1 - math.exp(-0.6 * ce)) / 0.6 for ce in network_ce(network, batch))
        assert number(step.loss(batch)) == close(expected)


def test_be_biased_network_descends_ce_of_members_only_and_target_lff_of_all() -> None:
    method = build("be", UNEVEN, alpha=0.8)
    members = {0, 2, 3, 5, 6, 9}
    method.amplified.copy_(torch.tensor([i in members for i in range(len(UNEVEN))]))
    # W comes from all samples, also from those that the biased network never trains on.
    reference = ScalarLfF(UNEVEN, alpha=0.8)
    for seed, indices in enumerate(LFF_BATCHES):
        batch = make_batch(method, indices, seed=seed)
        biased, target = network_ce(method.biased, batch), network_ce(method.target, batch)
        weights = reference.update(indices, biased, target)
        loss = method.loss(batch)
        kept = [i in members for i in indices]
        expected = sum(ce for ce, member in zip(biased, kept, strict=True) if member) / sum(kept)
        expected += mean(w * ce for w, ce in zip(weights, target, strict=True))
        assert number(loss) == close(expected)
        assert_descends_weighted_ce(loss, method.biased, batch, [member / sum(kept) for member in kept])
        assert_descends_weighted_ce(loss, method.target, batch, [w / len(indices) for w in weights])


def test_be_batch_without_member_gives_the_biased_network_zero_not_nan() -> None:
    method = build("be", TARGETS)
    method.amplified.fill_(False)
    batch = make_batch(method, range(8))
    # All averages are first visits: W is what LfF gives, and the biased term adds nothing.
    weights = ScalarLfF(TARGETS, 0.7).update(
        range(8), network_ce(method.biased, batch), network_ce(method.target, batch)
    )
    loss = method.loss(batch)
    expected = mean(w * ce for w, ce in zip(weights, network_ce(method.target, batch), strict=True))
    assert number(loss) == close(expected)
    assert not gradients(loss, method.biased).any()
