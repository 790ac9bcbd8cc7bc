"""Poisoner's two stages, against the paper's equations as printed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories.methods import (
    assert_descends_weighted_ce,
    build,
    close,
    generator,
    make_batch,
    mean,
    network_ce,
    number,
    predicting,
    scalar_ce,
    sharp_mlp,
)
from torch import Tensor

from benchmark.plan.recipes import load
from methods import get, losses
from methods.base import Batch, TrainingSet

# ------------------------------------------------------------------------------------------ stage I


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
    options = load().options("poisoner") | {"percentile": 100.0}
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


# ----------------------------------------------------------------------------------------- stage II

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
    method = split_poisoner(gamma=gamma, conflict_factor=1.4, multiplier_cap=1e9, differentiated="neither")
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
    assert [float(each) for each in method.multipliers(fit, aligned)] == close([1, 1])


def test_multiplier_keeps_the_last_mean_of_a_group_missing_from_the_batch() -> None:
    method = split_poisoner(gamma=1.0, multiplier_cap=1e9)
    aligned = torch.tensor([True, True, False])

    def kappa(fit: list[float], aligned: Tensor) -> float:
        return float(method.multipliers(torch.tensor(fit), aligned)[0])

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
        found = float(method.multipliers(torch.tensor(fit), torch.tensor(aligned))[0])
        assert found == close((1 - means[1]) / (1 - means[0]))


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


@pytest.mark.parametrize("sampler", ["shuffled", "class_balanced"])
def test_poisoner_poisons_class_balanced_batches_then_trains_the_target_as_asked(sampler: str) -> None:
    method = build("poisoner", CLEAN, target_sampler=sampler)
    poison, train = method.phases()
    assert (poison.sampler, train.sampler) == ("class_balanced", sampler)
    assert poison.end == method.split
