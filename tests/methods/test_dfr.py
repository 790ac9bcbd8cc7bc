"""DFR's second phase has the optimum of its authors' logistic regression, and the features of their scaler."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories.digits import tiny_settings
from factories.methods import BIAS, IMAGE_SHAPE, TARGETS, build, close, make_batch, network_ce
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from benchmark.training.loop import train
from benchmark.training.training import Training
from datasets import BiasedDataset
from methods.base import Batch, Network, TrainingSet
from methods.dfr import DFR

WIDTH = 6


def on_vectors(features: Tensor, targets: Tensor, bias: Tensor, **options: float) -> DFR:
    """DFR for images that are their own features, given all of them as validation images, after its first phase."""
    data = TrainingSet(targets, None, None, 2, 2, targets, bias)
    torch.manual_seed(0)
    method = DFR(
        data,
        lambda: Network(nn.Flatten(), nn.Linear(features.shape[1], 2)),
        1,
        last_layer_updates=1,
        **{"inverse_regularisation": 0.1, "rate_factor": 100.0} | options,
    )
    with torch.no_grad():
        method.standardise(lambda network, split="train": network(features))
    return method


def vectors(*sizes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features on very different scales, one of them dead, of so many samples of each of 2 × 2 groups."""
    generator = torch.Generator().manual_seed(1)
    group = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    targets, bias = group // 2, group % 2
    noise = torch.randn(len(group), WIDTH, generator=generator)
    noise[:, 0] += targets
    noise[:, 1] += 2 * bias + targets / 2
    noise[:, -1] = 0
    return noise * torch.tensor([1.0, 30.0, 0.01, 5.0, 1.0, 1.0]) + 2, targets, bias


def official(features: np.ndarray, targets: np.ndarray, inverse: float, weights: np.ndarray) -> np.ndarray:
    """The decision function [n] of the authors' dfr_on_validation_eval on all of these samples.

    A large ``intercept_scaling`` leaves the intercept out of the penalty, which liblinear takes for a weight.
    """
    inputs = StandardScaler().fit_transform(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of scikit-learn know the penalty by the ratio alone
        model = LogisticRegression(
            penalty="l1", l1_ratio=1, C=inverse, solver="liblinear", intercept_scaling=1e3, tol=1e-8, max_iter=10_000
        )
        return model.fit(inputs, targets, weights).decision_function(inputs)


def minimise(method: DFR, features: Tensor, targets: Tensor, bias: Tensor) -> float:
    """Full batches to the optimum; returns its loss."""
    batch = Batch(features, targets, torch.arange(len(targets)), bias, split="validation")
    parameters = list(method.target.classifier.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.998)
    for _ in range(4000):
        optimizer.zero_grad()
        loss = method.last_layer_loss(batch)
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("inverse", [0.05, 0.1, 1.0])
def test_its_optimum_is_that_of_the_authors_regression(inverse: float) -> None:
    """On groups of one size, where their balanced subset is everything."""
    features, targets, bias = vectors(40, 40, 40, 40)
    features = features.double()
    method = on_vectors(features, targets, bias, inverse_regularisation=inverse)
    minimise(method, features, targets, bias)
    logits = method.target(features).detach()
    expected = official(features.numpy(), targets.numpy(), inverse, np.ones(len(targets)))
    assert (logits[:, 1] - logits[:, 0]).numpy() == pytest.approx(expected, abs=5e-3)
    assert expected.std() > 0.1


@pytest.mark.usefixtures("float64")
def test_the_rate_factor_changes_no_optimum() -> None:
    features, targets, bias = vectors(30, 50, 20, 40)
    features = features.double()
    one, other = (on_vectors(features, targets, bias, rate_factor=each) for each in (50.0, 200.0))
    losses = [minimise(each, features, targets, bias) for each in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    torch.testing.assert_close(one.target(features).softmax(1), other.target(features).softmax(1), atol=1e-3, rtol=0)


def test_features_are_those_of_the_authors_scaler_and_answers_stay() -> None:
    features, targets, bias = vectors(30, 50, 20, 40)
    torch.manual_seed(0)
    before = nn.Linear(WIDTH, 2)(features)
    method = on_vectors(features, targets, bias)
    expected = StandardScaler().fit_transform(features.double().numpy())
    assert method.target.features(features).numpy() == pytest.approx(expected, abs=1e-3)
    torch.testing.assert_close(method.target(features), before, rtol=1e-3, atol=1e-3)


def test_the_penalty_is_relative_to_the_balanced_subset() -> None:
    """Four of six groups are present, the smallest of 4: their balanced subset is of 16 images."""
    assert np.bincount(np.array(TARGETS) * 2 + BIAS, minlength=6).tolist() == [4, 4, 0, 8, 8, 0]
    method = build("dfr", TARGETS, BIAS, inverse_regularisation=0.5, rate_factor=10.0)
    batch = make_batch(method, [0, 3, 1, 2, 9], BIAS)
    ce, weights = network_ce(method.target, batch), method.target.classifier.weight.flatten().tolist()
    penalty = 10 * sum(map(abs, weights)) / (0.5 * 16)
    assert method.last_layer_loss(batch).item() == close(sum(ce) / len(ce) + penalty)
    assert method.summary() == {"smallest_validation_group": 4, "missing_validation_groups": 2}
    images = torch.rand(24, *IMAGE_SHAPE)
    with torch.no_grad(), pytest.warns(UserWarning, match="no validation image of 2 groups"):
        method.standardise(lambda network, split="train": network(images))


def test_it_does_better_than_plain_training_on_groups_that_are_rare(tiny: BiasedDataset) -> None:
    """Its features are those of plain training: same seed, same first phase."""
    settings = {"epochs": 30, "learning_rate": 2e-3}
    plain = Training(tiny, tiny_settings("vanilla", **settings), 0)
    training = Training(tiny, tiny_settings("dfr", **settings, last_layer_updates=100), 0)
    train([plain])
    train([training])
    losses = {each: [entry["loss"] for entry in each.progress.history if entry["phase"] == "train"] for each in
              (plain, training)}  # fmt: skip
    assert losses[plain] == losses[training]
    for name, value in plain.method.target.features.state_dict().items():
        assert torch.equal(value, training.method.target.features[0].state_dict()[name])
    logits = training.measurement.predict(training.method.target, "validation")
    assert F.cross_entropy(logits, torch.from_numpy(training.given.targets)) < np.log(4)
