"""A loss that takes several batches: each is of its sampler, whole, and the same however the loop goes about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings
from torch import Tensor

from benchmark.training import loader
from benchmark.training.loop import train
from benchmark.training.training import Training
from datasets import BiasedDataset
from methods import losses
from methods.base import Batch, Step

CLASS = 2


def comparing(
    dataset: BiasedDataset, seed: int = 0, taken: list[tuple[Batch, ...]] | None = None, **changes: object
) -> Training:
    """A phase of two steps, of one batch and of three; ``taken`` gets all batches that losses take."""
    training = Training(dataset, tiny_settings("groupdro", **changes), seed)
    method, (phase,) = training.method, training.phases
    of_one_class = torch.nn.Buffer((method.all_targets == CLASS).float())
    method.sample_weights = of_one_class

    def loss(*batches: Batch) -> Tensor:
        if taken is not None:
            taken.append(tuple(each._replace(images=each.images.clone()) for each in batches))
        ce = [losses.cross_entropy(method.target(each.images), each.targets) for each in batches]
        return sum((number * each.mean() for number, each in enumerate(ce, start=1)), torch.zeros(()))

    steps = (
        Step(loss, (method.target,)),
        Step(loss, (method.target,), draws=2, samplers=("weighted", "shuffled", "group_balanced")),
    )
    training.phases = (replace(phase, steps=steps, sampler="shuffled"),)
    return training


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_each_is_of_its_sampler_and_keeps_its_images(
    tiny: BiasedDataset, streamed: bool, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed:
        monkeypatch.setattr(loader, "free_memory", lambda device: 1000)
    taken: list[tuple[Batch, ...]] = []
    training = comparing(tiny, taken=taken, epochs=1, flip=flip)
    assert training.splits.train.resident != streamed
    train([training])
    assert [len(batches) for batches in taken] == [1, 3] * 4
    firsts, (weighted, shuffled, balanced) = [each[0] for each in taken[::2]], zip(*taken[1::2], strict=True)
    for order in (firsts, shuffled):
        assert set(torch.cat([each.indices for each in order]).tolist()) == set(range(203)), "a pass each"
    assert not torch.equal(firsts[0].indices, shuffled[0].indices), "and not the same one"
    assert all((each.targets == CLASS).all() for each in weighted)
    groups = torch.bincount(torch.cat([4 * each.targets + each.bias for each in balanced]))
    assert groups[groups > 0].min() > 5, "a group is rare among the 203"
    for batches in taken:
        for each in batches:
            own = torch.from_numpy(np.asarray(tiny.train.images))[each.indices]
            looks = [training.splits.train.normalise(image) for image in (own, own.flip(3))]
            same = torch.stack([(each.images == look).flatten(1).all(1) for look in looks])
            assert same.any(0).all(), "the images of its own samples"
            assert flip == (not same[0].all())
    assert [each.draws is None for each in taken[0]] == [True]
    assert [each.draws.shape for each in taken[1] if each.draws is not None] == [(64, 2)] * 3
    assert len({each.draws.sum().item() for each in taken[1] if each.draws is not None}) == 3


@pytest.mark.usefixtures("float64")
def test_seeds_in_lockstep_end_like_each_alone(tiny: BiasedDataset) -> None:
    alone, together = ([comparing(tiny, seed) for seed in range(2)] for _ in range(2))
    for training in alone:
        train([training])
    train(together)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(
            [entry["loss"] for entry in one.progress.history],
            [entry["loss"] for entry in other.progress.history],
            rtol=1e-9,
        )
        assert one.progress.history[-1]["test"] == other.progress.history[-1]["test"]
