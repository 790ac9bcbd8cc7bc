"""What is measured of networks between two epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings

from benchmark.training.loader import DeviceSplit
from benchmark.training.loop import train
from benchmark.training.measure import count
from benchmark.training.training import Training
from datasets import BiasedDataset


def test_clean_predictions_do_not_depend_on_the_evaluation_batch(
    tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny, tiny_settings("vanilla"), seed=0)
    whole = training.splits.train.logits(training.method.target)
    monkeypatch.setattr("benchmark.training.loader.EVALUATION_BATCH", 7)
    parts = training.splits.train.logits(training.method.target)
    assert torch.allclose(whole, parts, atol=1e-6)
    assert training.method.target.training, "the mode is restored"


def test_networks_of_several_seeds_are_measured_at_once_as_each_alone(tiny: BiasedDataset) -> None:
    trainings = [Training(tiny, tiny_settings("lff"), seed) for seed in range(3)]
    alone = [Training(tiny, tiny_settings("lff"), seed) for seed in range(3)]
    for each in (*trainings, *alone):
        each.method.biased.eval()
    count([each.measurement for each in trainings], [each.wanted() for each in trainings])
    for one, other in zip(trainings, alone, strict=True):
        count([other.measurement], [other.wanted()])
        for role in ("target", "biased"):
            network, same = getattr(one.method, role), getattr(other.method, role)
            assert torch.allclose(one.measurement.predict(network), other.splits.train.logits(same), atol=1e-6)
            numbers, right = one.measurement.on_training(network)
            expected, same_right = other.measurement.on_training(same)
            assert np.array_equal(right, same_right)
            assert numbers == pytest.approx(expected, rel=1e-6)
        tested, expected = (each.measurement.on_test(each.method.target) for each in (one, other))
        assert np.array_equal(tested[1], expected[1])
        validated, expected = (each.measurement.on_validation(each.method.target) for each in (one, other))
        assert validated[0] == expected[0]
        assert np.array_equal(validated[1], expected[1])
        assert one.method.target.training
        assert not one.method.biased.training, "the modes are restored"


def test_curves_agree_with_a_recount(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("vanilla"), seed=0)
    train([training])
    predicted = training.splits.train.logits(training.method.target).argmax(1).numpy()
    right = predicted == tiny.train.targets
    aligned = tiny.train.bias == tiny.aligned_bias[tiny.train.targets]
    entry = training.progress.history[-1]["target"]
    assert entry["aligned_error"] == pytest.approx(100 * (1 - right[aligned].mean()), abs=1e-4)
    assert entry["conflicting_error"] == pytest.approx(100 * (1 - right[~aligned].mean()), abs=1e-4)
    assert entry["bias_acc"] == pytest.approx(50 * (right[aligned].mean() + 1 - right[~aligned].mean()), abs=1e-4)
    loss = torch.nn.functional.cross_entropy(
        training.splits.train.logits(training.method.target)[torch.from_numpy(aligned)],
        torch.from_numpy(tiny.train.targets[aligned]),
    )
    assert entry["aligned_loss"] == pytest.approx(float(loss), abs=1e-5)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_one_logit_that_is_no_finite_number_is_noticed_whether_or_not_it_is_the_labels(
    tiny: BiasedDataset, broken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny, tiny_settings("vanilla"), seed=0)
    measurement, target = training.measurement, training.method.target
    count([measurement], [training.wanted()])
    assert measurement.is_finite(target)
    whole = DeviceSplit.logits_of
    for place in (tiny.validation.targets[0], (tiny.validation.targets[0] + 1) % 4):

        def logits_of(split: DeviceSplit, networks: Sequence[torch.nn.Module], place: int = place) -> torch.Tensor:
            logits = whole(split, networks).clone()
            if split is training.splits.validation:
                logits[0, 0, place] = broken
            return logits

        monkeypatch.setattr(DeviceSplit, "logits_of", logits_of)
        count([measurement], [training.wanted()])
        assert not measurement.is_finite(target)
        assert measurement.is_finite(torch.nn.Identity()), "another network"


@pytest.mark.parametrize("method", ["vanilla", "jtt", "debian"])
def test_predictions_are_those_of_the_biased_network_at_the_end_and_outlive_a_kill(
    tiny: BiasedDataset, tmp_path: Path, method: str
) -> None:
    """DebiAN has no biased network: its target's are taken. JTT's biased network is trained in the first phase."""
    path = tmp_path / "run.ckpt"
    training = Training(tiny, tiny_settings(method), seed=0, checkpoint=path, checkpoint_seconds=0)
    train([training])
    network = training.method.target if method == "debian" else training.method.biased
    probability = training.splits.train.logits(network).softmax(1).numpy()
    predicted, score = training.predictions()
    assert np.array_equal(predicted, probability.argmax(1))
    assert np.array_equal(score, probability[np.arange(len(score)), tiny.train.targets])
    counts = training.progress.train_counts["biased" if method == "jtt" else "target"]
    assert (predicted == tiny.train.targets).sum() == np.sum(counts), "what the record counts as right"

    resumed = Training(tiny, tiny_settings(method), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    train([resumed])
    assert resumed.progress.samples_trained == training.progress.samples_trained, "the checkpoint held all epochs"
    assert all(np.array_equal(one, other) for one, other in zip(resumed.predictions(), (predicted, score), strict=True))
