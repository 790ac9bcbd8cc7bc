"""Losses and weights of every method, against plain scalar references and the properties that define them.

The references are loops over Python floats written from the methods' formulas; they share nothing with the code
under test but the logits of the networks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import recipes
from benchmark.networks import Network, mlp
from methods import METHODS, get, losses
from methods.base import Batch, Method, Phase, TrainingSet
from methods.bias_labels import bias_as_class
from methods.debian import classifier_weights, discovery_loss
from methods.echoes import balanced_inverse
from methods.poisoner import gifl_multiplier

IMAGE_SHAPE = (3, 2, 2)
close = partial(pytest.approx, rel=1e-5, abs=1e-6)


# ------------------------------------------------------------------------------------------ helpers


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sharp_mlp(num_classes: int) -> Network:
    """A tiny network whose probabilities differ between samples, as those of a trained one do."""
    network = mlp(IMAGE_SHAPE, num_classes)
    with torch.no_grad():
        network.classifier.weight.mul_(60)
    return network


def build(
    name: str,
    targets: Sequence[int],
    bias: Sequence[int] | None = None,
    num_classes: int | None = None,
    num_biases: int = 2,
    **overrides: Any,
) -> Any:
    """A method with its default hyper-parameters, unless overridden, on a training set with these labels."""
    torch.manual_seed(0)
    classes = num_classes or max(targets) + 1
    data = TrainingSet(
        targets=torch.tensor(targets),
        bias=None if bias is None else torch.tensor(bias),
        aligned_bias=None if bias is None else torch.arange(classes) % num_biases,
        num_classes=classes,
        num_biases=num_biases,
    )
    return get(name)(data, lambda: sharp_mlp(classes), 2, **recipes.options(name) | overrides)


def make_batch(method: Method, indices: Iterable[int], bias: Sequence[int] | None = None, seed: int = 0) -> Batch:
    """Random images for these training samples; ``bias`` is that of the whole training set."""
    chosen = torch.tensor(list(indices))
    images = torch.randn(len(chosen), *IMAGE_SHAPE, generator=generator(seed))
    return Batch(images, method.all_targets[chosen], chosen, None if bias is None else torch.tensor(bias)[chosen])


def scalar_ce(logits: Tensor, targets: Tensor) -> list[float]:
    """−log p_y of every sample."""
    values = []
    for row, y in zip(logits.tolist(), targets.tolist(), strict=True):
        top = max(row)
        values.append(top + math.log(sum(math.exp(x - top) for x in row)) - row[y])
    return values


def network_ce(network: nn.Module, batch: Batch) -> list[float]:
    with torch.no_grad():
        return scalar_ce(network(batch.images), batch.targets)


def number(loss: Tensor) -> float:
    return loss.item()


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def predicting(classes: Sequence[int], num_classes: int) -> Any:
    """A ``Predict`` whose networks are sure of these classes."""
    return lambda network: 9.0 * F.one_hot(torch.tensor(classes), num_classes).float()


def gradients(loss: Tensor, network: nn.Module) -> Tensor:
    """All gradients of the network in one vector."""
    parts = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def assert_descends_weighted_ce(loss: Tensor, network: nn.Module, batch: Batch, weights: Sequence[float]) -> None:
    """The loss has the gradient of Σ weight·CE with constant weights: none of it flows through the weights."""
    ce = F.cross_entropy(network(batch.images), batch.targets, reduction="none")
    expected = gradients((torch.tensor(weights, dtype=torch.float32) * ce).sum(), network)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradients(loss, network), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


# ------------------------------------------------------------------------------------ every method

TARGETS = [0, 1, 2] * 8
BIAS = [0, 1, 0, 1, 1, 0] * 4


def build_any(name: str) -> Method:
    return build(name, TARGETS, BIAS if get(name).uses_bias_labels else None)


def steps_through(method: Method) -> Iterator[tuple[Phase, Tensor, tuple[nn.Module, ...]]]:
    """The loss of each step of each phase, in order, with the hooks called in between as the common loop does."""
    for phase in method.phases():
        for step in phase.steps:
            batch = make_batch(method, range(len(TARGETS)), BIAS if method.uses_bias_labels else None)
            yield phase, step.loss(batch), step.trains
        for hook in (phase.end_epoch, phase.end):
            if hook is not None:
                images = torch.randn(len(TARGETS), *IMAGE_SHAPE, generator=generator(5))
                with torch.no_grad():
                    hook(lambda network, images=images: network(images))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_step_gives_gradients_to_exactly_the_networks_it_trains(name: str) -> None:
    method = build_any(name)
    for phase, loss, trained in steps_through(method):
        assert loss.shape == ()
        assert torch.isfinite(loss), phase.name
        method.zero_grad(set_to_none=True)
        loss.backward()
        reached = {parameter for parameter in method.parameters() if parameter.grad is not None}
        assert reached == {parameter for network in trained for parameter in network.parameters()}, phase.name


@pytest.mark.parametrize("name", sorted(METHODS))
def test_target_network_is_trained_in_the_last_phase(name: str) -> None:
    method = build_any(name)
    assert any(method.target in step.trains for step in method.phases()[-1].steps)


@pytest.mark.parametrize("name", ["lff", "jtt", "debian", "echoes", "be", "poisoner"])
def test_networks_are_initialised_independently(name: str) -> None:
    method = build_any(name)
    networks = [module for module in method.modules() if isinstance(module, Network)]
    assert len(networks) == {"be": 7}.get(name, 2)
    first_weights = [network.features[1].weight for network in networks]
    for i, one in enumerate(first_weights):
        assert not any(torch.equal(one, other) for other in first_weights[:i])


@pytest.mark.parametrize("name", sorted(METHODS))
def test_clean_labels_are_never_modified(name: str) -> None:
    method = build_any(name)
    for _, loss, _ in steps_through(method):
        loss.backward()
    assert method.all_targets.tolist() == TARGETS


# ---------------------------------------------------------------------- per-sample losses and ERM


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


@pytest.mark.parametrize(
    ("name", "options", "per_sample"),
    [
        ("vanilla", {}, lambda ce: ce),
        ("focal", {"gamma": 1.5}, lambda ce: (1 - math.exp(-ce)) ** 1.5 * ce),
        ("gce", {"q": 0.4}, lambda ce: (1 - math.exp(-0.4 * ce)) / 0.4),
    ],
)
def test_single_network_methods_descend_the_batch_mean_of_their_loss(name: str, options: dict, per_sample: Any) -> None:
    method = build(name, TARGETS, **options)
    batch = make_batch(method, range(2, 19))
    assert number(method.loss(batch)) == close(mean(map(per_sample, network_ce(method.target, batch))))


# --------------------------------------------------------------------------------------------- LfF


def difficulty(method: Any, indices: Sequence[int], biased: Sequence[float], target: Sequence[float]) -> list[float]:
    batch = make_batch(method, indices)
    return method.relative_difficulty(batch, torch.tensor(biased), torch.tensor(target)).tolist()


class ScalarLfF:
    """The weights W of LfF, one sample at a time."""

    def __init__(self, targets: Sequence[int], alpha: float) -> None:
        self.targets, self.alpha = targets, alpha
        self.averages: list[dict[int, float]] = [{}, {}]

    def update(self, indices: Sequence[int], biased: Sequence[float], target: Sequence[float]) -> list[float]:
        for averages, ces in zip(self.averages, (biased, target), strict=True):
            for i, ce in zip(indices, ces, strict=True):
                averages[i] = self.alpha * averages[i] + (1 - self.alpha) * ce if i in averages else ce
        weights = []
        for i in indices:
            b, t = (
                averages[i] / max(averages.get(j, 0.0) for j, y in enumerate(self.targets) if y == self.targets[i])
                for averages in self.averages
            )
            weights.append(b / (b + t + 1e-8))
        return weights


UNEVEN = [0, 2, 1, 0, 2, 2, 0, 2, 2, 1, 0, 2]
LFF_BATCHES = ([0, 1, 2, 5, 9], [3, 4, 0, 1, 11], [2, 6, 7, 8, 10, 0], [5, 1, 9, 3], list(range(12)))


def test_lff_loss_and_its_gradients_follow_scalar_reference_over_batches() -> None:
    method = build("lff", UNEVEN, q=0.6, alpha=0.8)
    reference = ScalarLfF(UNEVEN, alpha=0.8)
    for seed, indices in enumerate(LFF_BATCHES):
        m = len(indices)
        batch = make_batch(method, indices, seed=seed)
        biased, target = network_ce(method.biased, batch), network_ce(method.target, batch)
        weights = reference.update(indices, biased, target)
        loss = method.loss(batch)
        gce = mean((1 - math.exp(-0.6 * ce)) / 0.6 for ce in biased)
        assert number(loss) == close(gce + mean(w * ce for w, ce in zip(weights, target, strict=True)))
        assert_descends_weighted_ce(loss, method.biased, batch, [math.exp(-0.6 * ce) / m for ce in biased])
        assert_descends_weighted_ce(loss, method.target, batch, [w / m for w in weights])


def test_lff_weights_follow_scalar_reference() -> None:
    method = build("lff", UNEVEN)
    reference = ScalarLfF(UNEVEN, alpha=0.7)
    source = generator(3)
    for indices in LFF_BATCHES:
        biased, target = (4 * torch.rand(2, len(indices), generator=source)).tolist()
        assert difficulty(method, indices, biased, target) == close(reference.update(indices, biased, target))


def test_lff_first_visit_takes_the_raw_loss_and_later_visits_average() -> None:
    method = build("lff", [0, 0, 1])
    # Sample 0 has the largest loss of its class, so sample 1's normalised averages are its ratios to it.
    difficulty(method, [0, 1], [4.0, 1.0], [2.0, 1.5])
    assert difficulty(method, [0], [8.0], [2.0]) == close([0.5])
    # β: 0.7·4 + 0.3·8 = 5.2 against a raw first loss of 1 moved to 0.7·1 + 0.3·3 = 1.6; δ: 2 against 1.5.
    expected = (1.6 / 5.2) / (1.6 / 5.2 + 1.5 / 2.0)
    assert difficulty(method, [1], [3.0], [1.5]) == close([expected])


def test_lff_class_maximum_is_over_all_samples_of_the_class_and_of_no_other() -> None:
    method = build("lff", [0, 0, 0, 1, 1])
    difficulty(method, [0, 3], [10.0, 1000.0], [1.0, 1000.0])
    # Sample 0 is not in this batch and still sets the maximum of β; unvisited sample 2 counts as 0.
    assert difficulty(method, [1], [5.0], [4.0]) == close([0.5 / (0.5 + 1.0)])


def test_lff_class_maximum_falls_when_the_largest_average_falls() -> None:
    method = build("lff", [0, 0], alpha=0.5)
    difficulty(method, [0, 1], [8.0, 2.0], [1.0, 1.0])
    difficulty(method, [0], [0.0], [1.0])
    # The average of sample 0 fell from 8 to 4; a running maximum would still divide by 8.
    assert difficulty(method, [1], [2.0], [1.0]) == close([0.5 / 1.5])


def test_lff_equal_averages_give_one_half() -> None:
    method = build("lff", UNEVEN)
    for indices in LFF_BATCHES:
        ce = (0.01 + 5 * torch.rand(len(indices), generator=generator(4))).tolist()
        assert difficulty(method, indices, ce, ce) == close([0.5] * len(indices))


def test_lff_weights_stay_in_unit_interval_for_extreme_losses() -> None:
    method = build("lff", UNEVEN)
    extremes = torch.tensor([0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e4])
    for seed in range(20):
        biased, target = extremes[torch.randint(len(extremes), (2, 12), generator=generator(seed))].tolist()
        weights = difficulty(method, range(12), biased, target)
        assert all(0 <= w <= 1 for w in weights)


# ---------------------------------------------------------------------------------------------- BE


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


# --------------------------------------------------------------------------------------------- JTT


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


# ------------------------------------------------------------------------------------------ DebiAN


def soft_means(share: Sequence[float], fit: Sequence[float], members: Sequence[int]) -> tuple[float, float]:
    """The soft group means t̄⁺ and t̄⁻ of one class."""
    first = sum(share[i] * fit[i] for i in members) / (sum(share[i] for i in members) + 1e-6)
    second = sum((1 - share[i]) * fit[i] for i in members) / (sum(1 - share[i] for i in members) + 1e-6)
    return first, second


def members_by_class(labels: Sequence[int]) -> list[list[int]]:
    """Positions of the samples of each class that is present."""
    return [[i for i, y in enumerate(labels) if y == c] for c in sorted(set(labels))]


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


# ------------------------------------------------------------------------------------------ Echoes


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


# ---------------------------------------------------------------------------------------- GroupDRO

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


# --------------------------------------------------------------------------------- Poisoner, stage I


def naive_dissimilarity(representations: Tensor, labels: Sequence[int]) -> list[float]:
    """Eq. 4 as it is printed: a double loop over the pairs of the batch."""
    z = []
    for h in representations.tolist():
        norm = math.sqrt(sum(x * x for x in h))
        z.append([x / norm for x in h])
    scores = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        similarity = {a: sum(x * y for x, y in zip(z[i], z[a], strict=True)) for a in others}
        peers = [j for j in others if labels[j] == labels[i]]
        denominator = sum(math.exp(similarity[a]) for a in others)
        terms = [math.log(math.exp(similarity[j]) / denominator) for j in peers]
        scores.append(-sum(terms) / len(peers) if peers else -math.inf)
    return scores


def representations_of(m: int, seed: int = 0, width: int = 8) -> Tensor:
    """Non-negative, as after a ReLU, and of very different norms."""
    source = generator(seed)
    return (
        torch.rand(m, width, generator=source) ** 3
        * torch.logspace(-2, 2, m)[torch.randperm(m, generator=source)][:, None]
    )


def wrong_logits(m: int, num_classes: int, predicted: int) -> Tensor:
    return 5.0 * F.one_hot(torch.full((m,), predicted), num_classes).float()


@pytest.mark.parametrize("seed", range(3))
def test_dissimilarity_equals_naive_double_loop(seed: int) -> None:
    labels = torch.randint(4, (25,), generator=generator(seed))
    labels[7] = 9  # alone with its label
    representations = representations_of(25, seed)
    expected = naive_dissimilarity(representations, labels.tolist())
    assert expected[7] == -math.inf
    assert losses.contrastive_dissimilarity(representations, labels).tolist() == close(expected)


def test_dissimilarity_of_a_zero_representation_is_finite() -> None:
    representations = representations_of(10)
    representations[3] = 0
    scores = losses.contrastive_dissimilarity(representations, torch.arange(10) % 2)
    assert torch.isfinite(scores).all()
    # All its similarities are 0: the sum has nine ones, and the attraction is nil.
    assert float(scores[3]) == close(math.log(9))


@pytest.mark.parametrize("percentile", [5.0, 10.0, 50.0, 100.0])
def test_sample_alone_with_its_label_is_never_flagged(percentile: float) -> None:
    targets = [0, 1] * 20 + [2]
    method = build("poisoner", targets, num_classes=4, percentile=percentile)
    # The lonely sample is as unlike all others as can be.
    representations = representations_of(41)
    representations[:, 0] = 0
    representations[40] = torch.tensor([1.0] + [0.0] * 7)
    labels = method.poison(torch.arange(41), representations, wrong_logits(41, 4, 3))
    assert labels[40] == 2
    assert (labels == 3).any()


def test_batch_without_any_peers_is_left_alone() -> None:
    method = build("poisoner", list(range(6)), percentile=50.0)
    labels = method.poison(torch.arange(6), representations_of(6), wrong_logits(6, 6, 0))
    assert labels.tolist() == list(range(6))


@pytest.mark.parametrize(("percentile", "flagged"), [(5.0, 13), (10.0, 26)])
def test_number_flagged_in_a_batch_of_256(percentile: float, flagged: int) -> None:
    targets = [0, 1, 2, 3] * 64
    method = build("poisoner", targets, num_classes=5, percentile=percentile)
    labels = method.poison(torch.arange(256), representations_of(256), wrong_logits(256, 5, 4))
    assert int((labels == 4).sum()) == flagged
    assert int((labels != torch.tensor(targets)).sum()) == flagged


def test_the_samples_flagged_are_those_of_largest_dissimilarity() -> None:
    targets = [0, 1, 2, 3] * 64
    method = build("poisoner", targets, num_classes=5, percentile=10.0)
    representations = representations_of(256)
    labels = method.poison(torch.arange(256), representations, wrong_logits(256, 5, 4))
    scores = naive_dissimilarity(representations, targets)
    largest = sorted(range(256), key=lambda i: -scores[i])[:26]
    assert set((labels == 4).nonzero().squeeze(1).tolist()) == set(largest)


def naive_poison(representations: Tensor, labels: Sequence[int], logits: Tensor, percentile: float) -> list[int]:
    scores = naive_dissimilarity(representations, labels)
    threshold = np.percentile(scores, 100 - percentile)
    predicted = [row.index(max(row)) for row in logits.tolist()]
    return [p if d > threshold else y for d, p, y in zip(scores, predicted, labels, strict=True)]


def test_poisoned_labels_accumulate_as_in_naive_reference() -> None:
    targets = [0, 1, 2] * 20
    method = build("poisoner", targets, percentile=20.0)
    store = list(targets)
    for seed in range(8):
        indices = torch.randperm(60, generator=generator(seed))[:36]
        representations = representations_of(36, seed)
        logits = torch.randn(36, 3, generator=generator(seed))
        # The labels that define a sample's peers are those poisoned so far.
        expected = naive_poison(representations, [store[i] for i in indices], logits, 20.0)
        for i, label in zip(indices.tolist(), expected, strict=True):
            store[i] = label
        assert method.poison(indices, representations, logits).tolist() == expected
        assert method.labels.tolist() == store
    assert sum(label != y for label, y in zip(store, targets, strict=True)) > 10


def test_poisoned_loss_is_the_mean_ce_against_the_labels_just_poisoned() -> None:
    targets = [0, 1, 2] * 10
    method = build("poisoner", targets, percentile=30.0)
    store = list(targets)
    for seed in range(3):
        batch = make_batch(method, range(5, 28), seed=seed)
        with torch.no_grad():
            representations = method.biased.features(batch.images)
            logits = method.biased.classifier(representations)
        labels = naive_poison(representations, store[5:28], logits, 30.0)
        store[5:28] = labels
        loss = method.poisoned_loss(batch)
        assert number(loss) == close(mean(scalar_ce(logits, torch.tensor(labels))))
        poisoned = batch._replace(targets=torch.tensor(labels))
        assert_descends_weighted_ce(loss, method.biased, poisoned, [1 / 23] * 23)
    assert method.labels.tolist() == store != targets


def test_zero_percentile_changes_no_label() -> None:
    targets = [0, 1, 2, 3] * 16
    method = build("poisoner", targets, num_classes=5, percentile=0.0)
    for seed in range(5):
        indices = torch.randperm(64, generator=generator(seed))[:40]
        labels = method.poison(indices, representations_of(40, seed), wrong_logits(40, 5, 4))
        assert labels.tolist() == [targets[i] for i in indices]
    assert method.labels.tolist() == targets


@pytest.mark.parametrize("percentile", [5.0, 50.0, 100.0])
def test_poisoning_a_correctly_predicted_sample_changes_nothing(percentile: float) -> None:
    targets = torch.arange(64) % 4
    method = build("poisoner", targets.tolist(), percentile=percentile)
    logits = 5.0 * F.one_hot(targets, 4).float()
    # Half of the batch is predicted as labelled, the other half as class 0.
    logits[32:] = wrong_logits(32, 4, 0)
    labels = method.poison(torch.arange(64), representations_of(64), logits)
    assert labels[:32].tolist() == targets[:32].tolist()
    assert labels[32:].tolist() != targets[32:].tolist()


def test_poisoning_leaves_clean_labels_batch_and_training_set_as_they_are() -> None:
    targets = torch.arange(30) % 3
    data = TrainingSet(targets=targets, bias=None, aligned_bias=None, num_classes=4, num_biases=2)
    torch.manual_seed(0)
    options = recipes.options("poisoner") | {"percentile": 100.0}
    method: Any = get("poisoner")(data, lambda: sharp_mlp(4), 2, **options)
    with torch.no_grad():
        method.biased.classifier.bias[3] += 1e3  # predicts a class that no sample has
    batch = make_batch(method, range(30))
    method.poisoned_loss(batch)
    assert int((method.labels == 3).sum()) == 29
    for clean in (targets, method.all_targets, batch.targets):
        assert clean.tolist() == [0, 1, 2] * 10


def test_poisoned_label_may_return_to_the_clean_one() -> None:
    targets = [0, 1] * 10
    method = build("poisoner", targets, num_classes=3, percentile=100.0)
    everyone = torch.arange(20)
    method.poison(everyone, representations_of(20), wrong_logits(20, 3, 2))
    poisoned = method.labels.tolist()
    assert poisoned.count(2) == 19
    method.poison(everyone, representations_of(20, 1), 5.0 * F.one_hot(torch.tensor(targets), 3).float())
    assert sum(label != y for label, y in zip(method.labels.tolist(), targets, strict=True)) <= 1


# -------------------------------------------------------------------------------- Poisoner, stage II

# Predictions of a biased network that misses samples 2, 6, 7 and 11 of [0, 1, 2] * 4.
CLEAN = [0, 1, 2] * 4
SEEN = [0, 1, 0, 0, 1, 2, 1, 2, 2, 0, 1, 1]
MISSED = {2, 6, 7, 11}


def split_poisoner(**overrides: Any) -> Any:
    method = build("poisoner", CLEAN, **overrides)
    # Labels are poisoned by now; stage II must not read them.
    method.labels.copy_(torch.tensor(SEEN))
    method.split(predicting(SEEN, 3))
    return method


def test_split_compares_the_biased_networks_final_prediction_with_clean_labels() -> None:
    method = build("poisoner", CLEAN)
    # Poisoned labels must not matter: were they compared, everything would be aligned.
    method.labels.copy_(torch.tensor(SEEN))
    asked = []
    predict = predicting(SEEN, 3)
    method.split(lambda network: asked.append(network) or predict(network))
    assert asked == [method.biased]
    assert method.aligned.tolist() == [i not in MISSED for i in range(12)]


@pytest.mark.parametrize("conflict_factor", [1.0, 1.25, 1.5])
@pytest.mark.parametrize("missed", [1, 4, 11])
def test_sample_weights_follow_eq_8_and_sum_to_one_plus_lambda_times_n(conflict_factor: float, missed: int) -> None:
    method = build("poisoner", CLEAN, conflict_factor=conflict_factor)
    method.split(predicting([(y + (i < missed)) % 3 for i, y in enumerate(CLEAN)], 3))
    expected = [conflict_factor * 12 / missed if i < missed else 12 / (12 - missed) for i in range(12)]
    assert method.weights.tolist() == close(expected)
    assert float(method.weights.sum()) == close((1 + conflict_factor) * 12)


def eq_11_coefficients(method: Any, batch: Batch, gamma: float, conflict_factor: float) -> list[float]:
    """w_i·β·(1 − p̄)^−γ/m of every sample, Eq. 8, 10 and 11 without any simplification."""
    fit = [math.exp(-ce) for ce in network_ce(method.target, batch)]
    missed = [i in MISSED for i in batch.indices.tolist()]
    mean_aligned = mean(p for p, conflicting in zip(fit, missed, strict=True) if not conflicting)
    mean_conflicting = mean(p for p, conflicting in zip(fit, missed, strict=True) if conflicting)
    beta = (1 - mean_conflicting) ** gamma
    coefficients = []
    for conflicting in missed:
        weight = conflict_factor * 12 / 4 if conflicting else 12 / 8
        inverse_focal = (1 - (mean_conflicting if conflicting else mean_aligned)) ** -gamma
        coefficients.append(weight * beta * inverse_focal / len(missed))
    return coefficients


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("indices", [range(12), [2, 3, 6, 8, 9]], ids=["full", "partial"])
def test_target_loss_and_gradients_equal_unsimplified_gifl_times_beta(gamma: float, indices: Sequence[int]) -> None:
    method = split_poisoner(gamma=gamma, conflict_factor=1.4, multiplier_cap=1e9)
    batch = make_batch(method, indices)
    coefficients = eq_11_coefficients(method, batch, gamma, 1.4)
    ce = network_ce(method.target, batch)
    loss = method.target_loss(batch)
    assert number(loss) == close(sum(c * each for c, each in zip(coefficients, ce, strict=True)))
    # The means p̄ are constants for back-propagation.
    assert_descends_weighted_ce(loss, method.target, batch, coefficients)


def test_zero_gamma_gives_plain_weighted_ce() -> None:
    method = split_poisoner(gamma=0.0, conflict_factor=1.5)
    weights = [1.5 * 12 / 4 if i in MISSED else 12 / 8 for i in range(12)]
    for seed in range(3):
        batch = make_batch(method, range(12), seed=seed)
        ce = network_ce(method.target, batch)
        assert number(method.target_loss(batch)) == close(mean(w * each for w, each in zip(weights, ce, strict=True)))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_equal_group_means_give_plain_weighted_ce(gamma: float) -> None:
    method = split_poisoner(gamma=gamma, conflict_factor=1.5)
    # No class preference: every sample has p_y = 1/3, hence both means are equal.
    with torch.no_grad():
        method.target.classifier.weight.zero_()
        method.target.classifier.bias.zero_()
    batch = make_batch(method, range(12))
    assert number(method.target_loss(batch)) == close((1 + 1.5) * math.log(3))
    # Equal means of different values.
    fit = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.5])
    aligned = torch.tensor([True, True, False, False, True])
    assert float(method.multiplier(fit, aligned)) == close(1)


def test_multiplier_keeps_the_last_mean_of_a_group_missing_from_the_batch() -> None:
    method = split_poisoner(gamma=1.0, multiplier_cap=1e9)
    aligned = torch.tensor([True, True, False])

    def kappa(fit: list[float], aligned: Tensor) -> float:
        return float(method.multiplier(torch.tensor(fit), aligned))

    assert kappa([0.2, 0.4, 0.6], aligned) == close((1 - 0.6) / (1 - 0.3))
    assert kappa([0.5, 0.7], aligned[:2]) == close((1 - 0.6) / (1 - 0.6))
    assert kappa([0.8], aligned[2:]) == close((1 - 0.8) / (1 - 0.6))
    assert kappa([0.1, 0.1], aligned[:2]) == close((1 - 0.8) / (1 - 0.1))


def test_multiplier_averages_means_over_batches_with_momentum() -> None:
    method = split_poisoner(gamma=1.0, fit_momentum=0.9, multiplier_cap=1e9)
    means = [1 / 3, 1 / 3]
    source = generator(12)
    for aligned in ([True, False, True], [True, True, True], [False, False, True]):
        fit = torch.rand(3, generator=source).tolist()
        for group, flag in enumerate((True, False)):
            members = [p for p, a in zip(fit, aligned, strict=True) if a == flag]
            if members:
                means[group] = 0.9 * means[group] + 0.1 * mean(members)
        found = float(method.multiplier(torch.tensor(fit), torch.tensor(aligned)))
        assert found == close((1 - means[1]) / (1 - means[0]))


@pytest.mark.parametrize("cap", [1.0, 10.0])
def test_multiplier_is_capped(cap: float) -> None:
    fits = [torch.tensor(x) for x in (0.0, 0.3, 0.9, 0.999, 1.0)]
    found = [float(gifl_multiplier(a, c, 1.0, cap)) for a in fits for c in fits]
    assert max(found) == cap
    # Where κ lies below the cap it is untouched.
    assert float(gifl_multiplier(fits[1], fits[2], 1.0, cap)) == close((1 - 0.9) / (1 - 0.3))


def test_multiplier_is_finite_and_positive_where_a_group_is_fitted_completely() -> None:
    one, some = torch.tensor(1.0), torch.tensor(0.5)
    assert float(gifl_multiplier(one, some, 1.0, 1e9)) == pytest.approx(0.5 / 1e-4)
    assert float(gifl_multiplier(some, one, 1.0, 1e9)) == pytest.approx(1e-4 / 0.5)


def test_aligned_group_loses_weight_while_conflicting_group_is_fitted_better() -> None:
    better, worse = torch.tensor(0.8), torch.tensor(0.4)
    assert float(gifl_multiplier(worse, better, 1.0, 1e9)) < 1
    assert float(gifl_multiplier(better, worse, 1.0, 1e9)) > 1


@pytest.mark.parametrize("predicted", [CLEAN, [(y + 1) % 3 for y in CLEAN]], ids=["all aligned", "all conflicting"])
def test_one_group_warns_and_falls_back_to_plain_training(predicted: list[int]) -> None:
    method = build("poisoner", CLEAN)
    with pytest.warns(UserWarning, match="only one group"):
        method.split(predicting(predicted, 3))
    for seed in range(3):
        batch = make_batch(method, range(12), seed=seed)
        assert number(method.target_loss(batch)) == close(mean(network_ce(method.target, batch)))


def test_two_groups_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_poisoner()


def test_poisoner_warms_up_on_clean_labels_within_the_first_stage() -> None:
    method = build("poisoner", CLEAN, warmup_epochs=1)
    warm_up, poison, train = method.phases()
    assert (warm_up.epochs, poison.epochs, train.epochs) == (1, 1, 2)
    assert (warm_up.sampler, poison.sampler) == ("class_balanced", "class_balanced")
    batch = make_batch(method, range(len(CLEAN)))
    (step,) = warm_up.steps
    assert step.trains == (method.biased,)
    assert number(step.loss(batch)) == close(mean(scalar_ce(method.biased(batch.images), batch.targets)))
    assert method.labels.tolist() == list(CLEAN)


def test_poisoner_may_balance_its_batches_by_current_labels() -> None:
    targets = [0] * 30 + [1] * 10
    method = build("poisoner", targets, strata="poisoned")
    poison = method.phases()[0]
    assert poison.sampler == "weighted"
    assert method.sample_weights[0] * 30 == pytest.approx(method.sample_weights[30] * 10), "clean at the start"
    method.labels[:20] = 1
    poison.end_epoch(lambda network: torch.zeros(40, 2))
    weights = method.sample_weights.tolist()
    assert weights == pytest.approx([1 / 30] * 20 + [1 / 10] * 10 + [1 / 30] * 10)


def test_known_poisoning_relabels_exactly_the_conflicting_samples_as_predicted() -> None:
    targets, bias = [0, 1, 2] * 4, [0, 1, 2, 1, 1, 0, 0, 0, 2, 2, 1, 2]
    method = build("known_poisoning", targets, bias, num_biases=3)
    store = list(targets)
    for seed in range(3):
        batch = make_batch(method, range(2, 11), bias, seed)
        with torch.no_grad():
            logits = method.target(batch.images)
        for place, i in enumerate(range(2, 11)):
            if bias[i] != targets[i]:
                store[i] = int(logits[place].argmax())
        loss = method.loss(batch)
        assert number(loss) == close(mean(scalar_ce(logits, torch.tensor(store[2:11]))))
        assert method.labels.tolist() == store
    assert method.all_targets.tolist() == targets
    assert method.summary()["labels_poisoned"] == sum(a != b for a, b in zip(store, targets, strict=True))


def test_bias_labels_train_on_the_class_that_goes_with_the_bias() -> None:
    targets, bias, aligned_bias = (torch.tensor(each) for each in ([0, 0, 1, 1, 2], [2, 0, 0, 3, 1], [1, 2, 0]))
    # Bias 1 goes with class 0, 2 with 1, 0 with 2; bias 3 with none.
    assert bias_as_class(targets, bias, aligned_bias).tolist() == [1, 2, 2, 1, 0]
    method = build("bias_labels", [0, 1, 0, 1], [0, 1, 1, 0])
    batch = make_batch(method, range(4), [0, 1, 1, 0])
    expected = scalar_ce(method.target(batch.images), torch.tensor([0, 1, 1, 0]))
    assert number(method.loss(batch)) == close(mean(expected))


@pytest.mark.parametrize("sampler", ["shuffled", "class_balanced"])
def test_poisoner_poisons_class_balanced_batches_then_trains_the_target_as_asked(sampler: str) -> None:
    method = build("poisoner", CLEAN, target_sampler=sampler)
    poison, train = method.phases()
    assert (poison.sampler, train.sampler) == ("class_balanced", sampler)
    assert poison.end == method.split
