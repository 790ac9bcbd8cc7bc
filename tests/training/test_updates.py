"""Seeds in lockstep, and updates that are captured once and replayed, give the numbers of plain training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import tape
from factories.digits import tiny_settings
from torch import Tensor

from benchmark.errors import TrainingError
from benchmark.training import graphs, updates
from benchmark.training.loop import train
from benchmark.training.training import Training
from datasets import BiasedDataset
from methods import METHODS
from methods.base import Batch, Step

ALL = sorted(METHODS)
SEEDS = 3


def trainings(dataset: BiasedDataset, method: str, seeds: int = SEEDS, **changes: object) -> list[Training]:
    return [Training(dataset, tiny_settings(method, **changes), seed) for seed in range(seeds)]


def assert_same(first: Training, second: Training) -> None:
    """As near as batched matrix products may come in float64: they add up in another order."""
    assert [entry["phase"] for entry in first.progress.history] == [entry["phase"] for entry in second.progress.history]
    np.testing.assert_allclose(losses(first), losses(second), rtol=1e-9)
    for name, tensor in first.method.state_dict().items():
        torch.testing.assert_close(tensor, second.method.state_dict()[name], rtol=1e-9, atol=1e-9, msg=name)
    assert first.progress.history[-1]["test"] == second.progress.history[-1]["test"]


def losses(training: Training) -> list[float]:
    """The mean loss of each epoch, phase by phase."""
    return [entry["loss"] for entry in training.progress.history]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", ALL)
def test_seeds_in_lockstep_end_like_each_alone(tiny: BiasedDataset, method: str) -> None:
    alone, together = trainings(tiny, method), trainings(tiny, method)
    for training in alone:
        train([training])
    train(together)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert losses(together[0]) != pytest.approx(losses(together[1]), rel=1e-4), "seeds stay different"


@pytest.mark.parametrize("method", ALL)
def test_seeds_in_lockstep_have_the_losses_of_each_alone_in_float32(tiny: BiasedDataset, method: str) -> None:
    """One epoch. The losses of two seeds are 4e-5 apart or more, those of DebiAN, which makes much of little, 8e-3."""
    alone, together = (trainings(tiny, method, epochs=1) for _ in range(2))
    for training in alone:
        train([training])
    train(together)
    for one, other in zip(alone, together, strict=True):
        assert all(tensor.dtype is not torch.float64 for tensor in other.method.state_dict().values())
        np.testing.assert_allclose(losses(one), losses(other), rtol=1e-3 if method == "debian" else 1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("method", ALL)
def test_a_replayed_update_does_what_the_update_does(
    tiny: BiasedDataset, method: str, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A rate that falls must not be what it was when the update was captured.
    plain, replayed = (trainings(tiny, method, seeds, learning_rate_decay=0.8, batch_size=16) for _ in range(2))
    train(plain)
    replays: list[tuple[int, int]] = []  # phase and epoch

    def capture(update: Callable[[], None], optimizers: Sequence[torch.optim.Optimizer]) -> Callable[[], None]:
        state = [tensor for optimizer in optimizers for each in optimizer.state.values() for tensor in each.values()]
        for training in replayed:
            state += [*training.method.parameters(), *training.method.buffers()]
        replay = tape.capture(update, optimizers, [*state, update.__self__._total])  # type: ignore[attr-defined]
        return lambda: (replays.append(replayed[0].position), replay())[1]

    monkeypatch.setattr(graphs, "can_capture", lambda device: True)
    monkeypatch.setattr(graphs, "capture", capture)
    train(replayed)
    assert {number for number, _ in replays} == set(range(len(plain[0].phases)))
    for one, other in zip(plain, replayed, strict=True):
        assert other.progress.warnings == one.progress.warnings
        assert_same(one, other)


@pytest.mark.usefixtures("float64")
def test_an_update_that_waits_for_the_device_runs_without_a_graph(
    tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plain,), (training,) = trainings(tiny, "vanilla", 1), trainings(tiny, "vanilla", 1)
    train([plain])
    (phase,) = training.phases
    loss = phase.steps[0].loss
    looked: list[float] = []

    def looking(batch: Batch) -> Tensor:
        value = loss(batch)
        looked.append(value.item())
        return value

    training.phases = (replace(phase, steps=(Step(looking, phase.steps[0].trains),)),)
    monkeypatch.setattr(graphs, "can_capture", lambda device: True)
    monkeypatch.setattr(graphs, "capture", lambda update, optimizers: tape.capture(update, optimizers, []))
    train([training])
    assert len(looked) == 3 * 4
    assert_same(plain, training)
    (warning,) = training.progress.warnings
    assert "'train' runs without a CUDA graph" in warning


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda loss: loss.repeat(8), r"returns a tensor of shape \[8\]: it must return a tensor of no dimensions"),
        (lambda loss: None, "returns NoneType: it must return a tensor"),
        (lambda loss: 0.5, "returns float: it must return a tensor"),
        (lambda loss: loss.detach(), "returns a tensor without gradient"),
    ],
)
def test_a_loss_that_cannot_be_descended_is_a_sentence(
    tiny: BiasedDataset, spoil: Callable[[Tensor], object], message: str, seeds: int
) -> None:
    spoilt = trainings(tiny, "vanilla", seeds)
    for training in spoilt:
        (phase,) = training.phases
        (step,) = phase.steps
        loss = lambda batch, original=step.loss: spoil(original(batch))  # noqa: E731
        training.phases = (replace(phase, steps=(replace(step, loss=loss),)),)
    with pytest.raises(TrainingError, match=f"^A loss of phase 'train' {message}"):
        train(spoilt)


@pytest.mark.usefixtures("float64")
def test_seeds_that_were_interrupted_at_different_epochs_catch_up(tiny: BiasedDataset, tmp_path: Path) -> None:
    def resumed() -> list[Training]:
        return [
            Training(tiny, tiny_settings("poisoner"), seed, checkpoint=tmp_path / f"{seed}.ckpt", checkpoint_seconds=0)
            for seed in range(SEEDS)
        ]

    class Stop(Exception):
        pass

    def stop(entry: dict[str, Any]) -> None:
        raise Stop

    for training, stops in zip(resumed(), (0, 2, 4), strict=True):
        training.report = lambda entry, training=training, stops=stops: (
            len(training.progress.history) == stops and stop(entry)
        )
        if stops:
            with pytest.raises(Stop):
                train([training])
    together, alone = resumed(), trainings(tiny, "poisoner")
    train(together)
    for one, other in zip(alone, together, strict=True):
        train([one])
        assert_same(one, other)


def test_images_that_vary_or_are_convolved_are_no_small_update(tiny: BiasedDataset) -> None:
    assert updates.is_small(trainings(tiny, "vanilla", 1)[0])
    assert not updates.is_small(trainings(tiny, "vanilla", 1, flip=True)[0])


def test_seeds_whose_images_vary_take_turns(tiny: BiasedDataset) -> None:
    """In lockstep their images would stay as they are."""
    alone, together = (trainings(tiny, "vanilla", flip=True) for _ in range(2))
    for training in alone:
        train([training])
    train(together)
    for one, other in zip(alone, together, strict=True):
        assert one.progress.history == other.progress.history
