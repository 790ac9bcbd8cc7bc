"""Losses that need chance: the loop's own draws are part of a run, those of a global generator end it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings
from torch import Tensor

from benchmark.errors import TrainingError
from benchmark.training.loop import train
from benchmark.training.training import EpochEntry, Training
from datasets import BiasedDataset
from methods import losses
from methods.base import Batch, Step


class Stop(Exception):
    pass


def mixing(dataset: BiasedDataset, seed: int, draws: int = 2, **options: object) -> Training:
    """Vanilla whose losses are weighted at random: two draws a sample."""
    training = Training(dataset, tiny_settings("vanilla"), seed, **options)  # type: ignore[arg-type]
    (phase,) = training.phases

    def loss(batch: Batch) -> Tensor:
        assert batch.draws is not None
        ce = losses.cross_entropy(training.method.target(batch.images), batch.targets)
        return (batch.draws.sum(1) * ce).mean()

    training.phases = (replace(phase, steps=(Step(loss, phase.steps[0].trains, draws),)),)
    return training


def weights(training: Training) -> Tensor:
    return training.method.target.classifier.weight.detach()


def test_draws_are_a_seeds_own_and_lie_between_0_and_1(tiny: BiasedDataset) -> None:
    one, again, other = (mixing(tiny, seed) for seed in (0, 0, 1))
    _, _, draws = one.begin_epoch()
    assert draws.shape == (4, 64, 2)
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1
    assert torch.equal(draws, again.begin_epoch()[2])
    assert not torch.equal(draws, other.begin_epoch()[2])


def test_a_resumed_run_draws_what_an_uninterrupted_one_does(tiny: BiasedDataset, tmp_path: Path) -> None:
    whole = mixing(tiny, 0)
    train([whole])

    def stop(entry: EpochEntry) -> None:
        raise Stop

    options = {"checkpoint": tmp_path / "run.ckpt", "checkpoint_seconds": 0}
    with pytest.raises(Stop):
        train([mixing(tiny, 0, report=stop, **options)])
    resumed = mixing(tiny, 0, **options)
    train([resumed])
    assert torch.equal(weights(whole), weights(resumed))


def test_a_method_without_draws_has_the_same_run_as_before_there_were_any(tiny: BiasedDataset) -> None:
    """Nothing is taken from the generator that orders and augmentation come from."""
    training = Training(tiny, tiny_settings("vanilla"), 0)
    before = torch.Generator().manual_seed(0)
    order, _, draws = training.begin_epoch()
    assert torch.equal(order.flatten()[:203], torch.randperm(203, generator=before))
    assert torch.equal(training.generator.get_state(), before.get_state())
    assert draws.shape == (4, 64, 0)


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(1), lambda: torch.randperm(3), lambda: torch.tensor(random.random()), np.random.rand],
    ids=["torch.rand", "torch.randperm", "random", "numpy"],
)
def test_drawing_from_a_global_generator_ends_the_run(tiny: BiasedDataset, draw: Callable[[], object]) -> None:
    training = Training(tiny, tiny_settings("vanilla"), 0)
    (phase,) = training.phases
    original = phase.steps[0]

    def loss(batch: Batch) -> Tensor:
        draw()
        return original.loss(batch)

    training.phases = (replace(phase, steps=(Step(loss, original.trains),)),)
    with pytest.raises(TrainingError, match=r"phase 'train' drew from a global generator, .* Step\(\.\.\., draws=k\)"):
        train([training])
    assert not training.progress.history
