"""Optimisers and schedules are those of PyTorch and of their formulas, in runs that are killed and resumed, too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from factories.digits import tiny_settings
from factories.noise import noise_dataset, noise_settings
from factories.records import make_run
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.training.loop import train
from benchmark.training.optimizers import rate
from benchmark.training.training import Training
from datasets import BiasedDataset

ADAM = {"optimizer": "adam", "weight_decay": 0.1}
ADAMW = {"optimizer": "adamw", "weight_decay": 0.1}
SGD = {"optimizer": "sgd", "weight_decay": 0.1, "learning_rate": 0.1}
MOMENTUM = SGD | {"momentum": 0.9}
KINDS = [ADAM, ADAMW, SGD, MOMENTUM]


def named(value: Any) -> str | None:
    return value["optimizer"] + "-momentum" * ("momentum" in value) if isinstance(value, dict) else None


# Optimisers


def by_hand(training: Training, changes: dict[str, Any]) -> list[Tensor]:
    """Parameters after a plain loop of PyTorch's: one optimiser that takes a number, one parameter at a time."""
    network, train = training.method.target, training.dataset.train
    options = {"lr": changes.get("learning_rate", 1e-3), "weight_decay": 0.1, "foreach": False, "fused": False}
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    more = {"momentum": changes["momentum"]} if "momentum" in changes else {}
    optimizer = kinds[changes["optimizer"]](network.parameters(), **options, **more)
    images, targets = (torch.from_numpy(each) for each in (train.images, train.targets))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        order = torch.randperm(len(targets), generator=generator)
        for rows in torch.cat((order, order[: -len(order) % 64])).split(64):
            optimizer.zero_grad()
            cross_entropy(network((images[rows] / 255 - 0.5) / 0.5), targets[rows]).backward()
            optimizer.step()
    return list(network.parameters())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("changes", KINDS, ids=named)
def test_an_optimiser_makes_the_steps_of_pytorchs_own_loop(tiny: BiasedDataset, changes: dict[str, Any]) -> None:
    training, other = (Training(tiny, tiny_settings("vanilla", **changes), 0) for _ in range(2))
    before = [each.detach().clone() for each in training.method.target.parameters()]
    train([training])
    expected = by_hand(other, changes)
    for found, each, old in zip(training.method.target.parameters(), expected, before, strict=True):
        torch.testing.assert_close(found, each, rtol=1e-9, atol=1e-11)
        assert (found - old).abs().max() > 1e-4


def test_kinds_of_optimisers_differ(tiny: BiasedDataset) -> None:
    ends = []
    for changes in KINDS:
        training = Training(tiny, tiny_settings("vanilla", **changes), 0)
        train([training])
        ends.append(training.progress.history[-1]["loss"])
    assert len(set(ends)) == len(KINDS)


# Schedules


def rates(epochs: int, **settings: Any) -> list[float]:
    given = {"epochs": epochs, "learning_rate": 0.8, "learning_rate_decay": 0.5} | settings
    return [rate(given, epoch, epochs) for epoch in range(epochs)]


def test_each_schedule_follows_its_formula() -> None:
    assert rates(20, schedule="tenths") == [0.8 * 0.5 ** (epoch // 2) for epoch in range(20)]
    assert rates(8, schedule="step") == [0.8] * 4 + [0.4] * 2 + [0.2] * 2
    assert rates(3, schedule="step") == [0.8, 0.8, 0.4], "three quarters of three epochs end within the last"
    assert rates(7, schedule="cosine") == [0.4 * (1 + math.cos(math.pi * epoch / 7)) for epoch in range(7)]


def test_schedules_are_those_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8)
    for found, scheduler in (
        (rates(12, schedule="cosine"), torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)),
        (rates(12, schedule="step"), torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 9], 0.5)),
    ):
        expected = []
        for _ in range(12):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["initial_lr"] = 0.8
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["tenths", "step", "cosine"])
def test_a_phase_longer_than_the_others_has_a_schedule_of_its_own_length(schedule: str) -> None:
    short = {"epochs": 5, "learning_rate": 0.8, "learning_rate_decay": 0.5, "schedule": schedule}
    assert [rate(short, epoch, 20) for epoch in range(20)] == rates(20, schedule=schedule)
    assert [rate(short, epoch, 3) for epoch in range(3)] == rates(5, schedule=schedule)[:3], "a shorter one is cut off"


def watched(trainings: list[Training]) -> dict[str, list[float]]:
    """The rate of each update of the first training, by phase."""
    found: dict[str, list[float]] = {}
    first = trainings[0]
    original = first.warm_up

    def warm_up(update: int) -> None:
        original(update)
        found.setdefault(first.phase.name, []).append(float(first.optimizers[-1].param_groups[0]["lr"]))

    first.warm_up = warm_up  # type: ignore[method-assign]
    train(trainings)
    return found


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_rate_rises_update_by_update_in_every_phase(tiny: BiasedDataset, seeds: int) -> None:
    """Six epochs of 4 updates; a warm-up of a quarter of the epochs is 6 updates, and ends within the second."""
    settings = tiny_settings("jtt", epochs=6, learning_rate=0.7, warmup=0.25, schedule="cosine")
    found = watched([Training(tiny, settings, seed) for seed in range(seeds)])
    full = [0.35 * (1 + math.cos(math.pi * epoch / 6)) for epoch in range(6)]
    expected = [full[update // 4] * min(1, (update + 1) / 7) for update in range(24)]
    assert found["train"] == pytest.approx(expected)
    assert found["identify"] == pytest.approx(expected[:8])


def test_steps_of_one_update_have_one_rate(tiny: BiasedDataset) -> None:
    """LfF makes two steps with each batch."""
    found = watched([Training(tiny, tiny_settings("lff", epochs=1, learning_rate=1.0, warmup=1.0), 0)])
    assert list(found.values()) == [pytest.approx([0.2, 0.4, 0.6, 0.8])]


# Killed and resumed


class Stop(Exception):
    pass


def stop(entry: object) -> None:
    raise Stop


@pytest.mark.parametrize(
    ("changes", "convolutional"), [*((each, False) for each in KINDS), (MOMENTUM, True)], ids=named
)
def test_a_resumed_run_ends_bit_by_bit_like_an_uninterrupted_one(
    tiny: BiasedDataset, tmp_path: Path, changes: dict[str, Any], convolutional: bool
) -> None:
    more = changes | {"schedule": "cosine", "warmup": 0.5, "epochs": 3}
    if convolutional:
        dataset = noise_dataset()
        settings = noise_settings(**more, crop_padding=0, crop_scale=0.3)
    else:
        dataset, settings = tiny, tiny_settings("vanilla", **more)
    whole = Training(dataset, settings, 0)
    train([whole])
    options: dict[str, Any] = {"checkpoint": tmp_path / "run.ckpt", "checkpoint_seconds": 0}
    for _ in range(2):
        with pytest.raises(Stop):
            train([Training(dataset, settings, 0, report=stop, **options)])
    resumed = Training(dataset, settings, 0, **options)
    train([resumed])
    assert not resumed.progress.warnings
    assert resumed.progress.history == whole.progress.history
    for name, value in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name], value), name


# Names of the same numbers


def digest(*changes: str, task: str = "cmnist_99") -> str:
    return make_run(task, "vanilla", *changes).digest


def test_a_run_without_these_settings_keeps_its_hash() -> None:
    stated = ("optimizer=adam", "momentum=0", "schedule=tenths", "warmup=0", "crop_scale=1")
    assert digest(*stated) == digest()
    settings = make_run().settings
    before = {key: value for key, value in settings.items() if key not in [each.partition("=")[0] for each in stated]}
    assert type(make_run())(before, 0).digest == digest()


def test_the_same_numbers_have_one_hash_and_others_another() -> None:
    assert (
        digest("schedule=constant")
        == digest("learning_rate_decay=1")
        == digest("schedule=step", "learning_rate_decay=1")
    )
    assert digest("schedule=cosine", "learning_rate_decay=1") == digest("schedule=cosine")
    assert digest("optimizer=adamw") == digest(), "without weight decay"
    different = [
        (), ("schedule=cosine",), ("schedule=step",), ("schedule=constant",), ("warmup=0.1",), ("crop_scale=0.5",),
        ("optimizer=sgd",), ("optimizer=sgd", "momentum=0.9"), ("weight_decay=0.1",),
        ("optimizer=adamw", "weight_decay=0.1"),
    ]  # fmt: skip
    assert len({digest(*each) for each in different}) == len(different)


@pytest.mark.parametrize("other", ["schedule=cosine", "schedule=constant"])
def test_a_factor_that_a_schedule_has_none_of_is_refused(other: str) -> None:
    with pytest.raises(UserError, match=f"learning_rate_decay has no effect with {other}"):
        make_run("cmnist_99", "vanilla", other, "learning_rate_decay=0.65")


@pytest.mark.parametrize("texts", [("schedule=cosine",), ("schedule=step",), ("optimizer=sgd", "momentum=0.5")])
def test_changes_that_a_stored_run_is_named_by(texts: tuple[str, ...]) -> None:
    changes = load().changes(make_run("cmnist_99", "vanilla", *texts).settings)
    assert {str(each) for each in changes} == set(texts)


def test_adamw_without_weight_decay_is_adam(tiny: BiasedDataset) -> None:
    """Hence one hash."""
    ends = []
    for kind in ("adam", "adamw"):
        training = Training(tiny, tiny_settings("vanilla", optimizer=kind, weight_decay=0.0), 0)
        train([training])
        ends.append(training.progress.history)
    assert ends[0] == ends[1]
