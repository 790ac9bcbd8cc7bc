"""Seeds in lockstep, and updates that are captured once and replayed, give the numbers of plain training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tape
import torch
from conftest import tiny_settings
from torch import Tensor

from benchmark import plan, recipes, updates
from benchmark.errors import TrainingError
from benchmark.plan import Run
from benchmark.records import Store
from benchmark.training import Training, train
from benchmark.worker import Worker
from datasets import BiasedDataset
from methods import METHODS
from methods.base import Batch, Step

ALL = sorted(METHODS)
SEEDS = 3


def trainings(dataset: BiasedDataset, method: str, seeds: int = SEEDS, **changes: object) -> list[Training]:
    return [Training(dataset, tiny_settings(method, **changes), seed) for seed in range(seeds)]


def assert_same(first: Training, second: Training) -> None:
    """As near as batched matrix products may come in float64: they add up in another order."""
    assert [entry["phase"] for entry in first.history] == [entry["phase"] for entry in second.history]
    np.testing.assert_allclose(losses(first), losses(second), rtol=1e-9)
    for name, tensor in first.method.state_dict().items():
        torch.testing.assert_close(tensor, second.method.state_dict()[name], rtol=1e-9, atol=1e-9, msg=name)
    assert first.last == second.last


def losses(training: Training) -> list[float]:
    """The mean loss of each epoch, phase by phase."""
    return [entry["loss"] for entry in training.history]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", ALL)
def test_seeds_in_lockstep_end_like_each_alone(tiny: BiasedDataset, method: str) -> None:
    alone, together = trainings(tiny, method), trainings(tiny, method)
    for training in alone:
        training.run()
    train(together)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert losses(together[0]) != pytest.approx(losses(together[1]), rel=1e-4), "seeds stay different"


@pytest.mark.parametrize("method", ALL)
def test_seeds_in_lockstep_have_the_losses_of_each_alone_in_float32(tiny: BiasedDataset, method: str) -> None:
    """One epoch. The losses of two seeds are 4e-5 apart or more, those of DebiAN, which makes much of little, 8e-3."""
    alone, together = (trainings(tiny, method, epochs=1) for _ in range(2))
    for training in alone:
        training.run()
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
    plain, replayed = (trainings(tiny, method, seeds, learning_rate_decay=0.8) for _ in range(2))
    train(plain)
    replays: list[int] = []

    def capture(update: Callable[[], None], optimizers: Sequence[torch.optim.Optimizer]) -> Callable[[], None]:
        state = [tensor for optimizer in optimizers for each in optimizer.state.values() for tensor in each.values()]
        for training in replayed:
            state += [*training.method.parameters(), *training.method.buffers()]
        replay = tape.capture(update, optimizers, [*state, update.__self__._total])  # type: ignore[attr-defined]
        return lambda: (replays.append(1), replay())[1]

    monkeypatch.setattr(updates, "can_capture", lambda device: True)
    monkeypatch.setattr(updates, "capture", capture)
    train(replayed)
    assert replays
    for one, other in zip(plain, replayed, strict=True):
        assert other.warnings == one.warnings
        assert_same(one, other)


@pytest.mark.usefixtures("float64")
def test_an_update_that_waits_for_the_device_runs_without_a_graph(
    tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plain,), (training,) = trainings(tiny, "vanilla", 1), trainings(tiny, "vanilla", 1)
    plain.run()
    (phase,) = training.phases
    loss = phase.steps[0].loss
    looked: list[float] = []

    def looking(batch: Batch) -> Tensor:
        value = loss(batch)
        looked.append(value.item())
        return value

    training.phases = (replace(phase, steps=(Step(looking, phase.steps[0].trains),)),)
    monkeypatch.setattr(updates, "can_capture", lambda device: True)
    monkeypatch.setattr(updates, "capture", lambda update, optimizers: tape.capture(update, optimizers, []))
    training.run()
    assert len(looked) == 3 * 4
    assert_same(plain, training)
    (warning,) = training.warnings
    assert "'train' runs without a CUDA graph" in warning


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
        training.report = lambda entry, training=training, stops=stops: len(training.history) == stops and stop(entry)
        if stops:
            with pytest.raises(Stop):
                training.run()
    together, alone = resumed(), trainings(tiny, "poisoner")
    train(together)
    for one, other in zip(alone, together, strict=True):
        one.run()
        assert_same(one, other)


def test_images_that_vary_or_are_convolved_are_no_small_update(tiny: BiasedDataset) -> None:
    assert updates.is_small(trainings(tiny, "vanilla", 1)[0])
    assert not updates.is_small(trainings(tiny, "vanilla", 1, flip=True)[0])


def test_seeds_whose_images_vary_take_turns(tiny: BiasedDataset) -> None:
    """In lockstep their images would stay as they are."""
    alone, together = (trainings(tiny, "vanilla", flip=True) for _ in range(2))
    for training in alone:
        training.run()
    train(together)
    for one, other in zip(alone, together, strict=True):
        assert one.history == other.history


@pytest.fixture
def runs() -> list[Run]:
    settings = recipes.resolve("colored_digits", "vanilla", (plan.recipes.parse_override("epochs=2"),))
    return [Run(settings, seed) for seed in range(5)]


def worker(tmp_path: Path, seeds_at_once: int) -> Worker:
    return Worker(Store(tmp_path), Path("unused"), torch.device("cpu"), seeds_at_once=seeds_at_once)


def test_a_worker_computes_with_no_number_that_slows_a_cpu_down(tmp_path: Path) -> None:
    worker(tmp_path, 1)
    assert torch.tensor(1e-39).mul(0.5).item() == 0


def test_a_worker_trains_seeds_together_and_records_each(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, together = worker(tmp_path / "alone", 1), worker(tmp_path / "together", 3)
    other = Run(recipes.resolve("colored_digits", "gce", (recipes.parse_override("epochs=2"),)), 0)
    mixed = [runs[0], other, *runs[1:]]
    assert [[run.seed for run in each] for each in together.together(mixed)] == [[0, 1, 2], [3, 4], [0]]
    assert alone.together(mixed) == [[run] for run in mixed], "seed by seed, so that a table fills evenly"
    assert alone.work(runs) == together.work(runs) == ["done"] * 5
    assert "seeds 0, 1, 2" in capsys.readouterr().out
    for run in runs:
        one, several = alone.store.load(run), together.store.load(run)
        assert one
        assert several
        assert one["test"] == several["test"]
        assert "seeds_at_once" not in one["provenance"]
        assert several["provenance"]["seeds_at_once"] == (3 if run.seed < 3 else 2)
    assert not list(tmp_path.glob("**/*.claim"))


def test_one_seed_that_fails_does_not_take_the_others_with_it(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = updates.Updates.epoch

    def diverges(self: updates.Updates) -> list[float]:
        if any(training.generator.initial_seed() == 1 for training in self.trainings):
            raise TrainingError("The loss became nan.")
        return original(self)

    monkeypatch.setattr(updates.Updates, "epoch", diverges)
    several = worker(tmp_path, 5)
    assert several.work(runs) == ["done", "failed", "done", "done", "done"]
    assert [several.store.has(run) for run in runs] == [True, False, True, True, True]


def test_a_seed_that_another_worker_has_is_left_to_it(runs: list[Run], tmp_path: Path) -> None:
    from benchmark import claims

    several = worker(tmp_path, 5)
    held = claims.acquire(several.store.record_path(runs[2]))
    assert held
    assert list(several.execute(runs).values()).count("done") == 4
    held.release()
    assert not several.store.has(runs[2])
