"""The networks after the epoch that a rule chooses, as training leaves them and as a checkpoint carries them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import digits
from factories.digits import tiny_settings
from torch import Tensor

from benchmark.plan.run import Run
from benchmark.rules import LAST, RULES, Rule
from benchmark.training.loop import train
from benchmark.training.recording import make_record
from benchmark.training.snapshots import Snapshot
from benchmark.training.training import Training
from datasets import BiasedDataset
from datasets.base import Fingerprint
from methods.base import Predict
from methods.vanilla import Vanilla

ALL = tuple(RULES.values())


@pytest.fixture
def data() -> BiasedDataset:
    """With validation images of all groups, which every rule can look at."""
    return replace(digits.tiny(), validation=digits.make_split(160, 4, 0.0, 3))


def trained(dataset: BiasedDataset, method: str = "vanilla", seed: int = 0, **more: object) -> Training:
    training = Training(dataset, tiny_settings(method, epochs=6), seed, keep=ALL, **more)  # type: ignore[arg-type]
    train([training])
    return training


def right(training: Training, snapshot: Snapshot) -> int:
    """Right answers on the test images of the target with these weights."""
    target = training.method.target
    target.load_state_dict(
        {name.removeprefix("target."): each for name, each in snapshot["tensors"].items() if name.startswith("target.")}
    )
    split = training.splits.test
    return int((split.logits(target).argmax(1) == split.targets).sum())


@pytest.mark.parametrize("method", ["vanilla", "lff", "jtt", "dfr", "echoes"])
def test_they_answer_as_the_record_says_of_the_epoch_that_its_rule_chooses(data: BiasedDataset, method: str) -> None:
    """Rules of records look at all epochs at once; here each epoch is looked at when it ends."""
    epochs = set()
    for seed in range(4):
        training = trained(data, method, seed)
        record = make_record(Run(training.settings, seed), training, Fingerprint("data", "validation"))
        assert training.snapshots.taken.keys() == RULES.keys()
        for name, snapshot in training.snapshots.taken.items():
            rule = RULES[name]
            assert snapshot["epoch"] == record.epoch(rule)
            assert right(training, snapshot) == record.correct(rule).sum()  # type: ignore[union-attr]
            epochs.add(snapshot["epoch"])
    assert len(epochs) > 1, "some rule chose another epoch than the last"


def test_a_rule_that_cannot_look_chooses_nothing(data: BiasedDataset) -> None:
    without = replace(data, validation=data.validation.take(np.zeros(0, np.int64)))
    assert trained(without).snapshots.taken.keys() == {"last", "test_average"}


def test_they_are_taken_before_a_hook_changes_what_was_measured(
    data: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained(data).snapshots.taken["last"]["tensors"]
    phases = Vanilla.phases

    def spoiling(self: Vanilla) -> object:
        (phase,) = phases(self)

        def end(predict: Predict) -> None:
            for parameter in self.target.parameters():
                parameter.zero_()

        object.__setattr__(phase, "end", end)
        return (phase,)

    monkeypatch.setattr(Vanilla, "phases", spoiling)
    spoilt = trained(data)
    assert not any(parameter.any() for parameter in spoilt.method.target.parameters())
    assert same(spoilt.snapshots.taken["last"]["tensors"], plain)


class Stop(Exception):
    pass


def stopped(dataset: BiasedDataset, path: Path, epoch: int, keep: Sequence[Rule]) -> None:
    """A training that was ended by force after so many epochs; its checkpoint is at ``path``."""

    def stop(entry: object) -> None:
        if len(training.progress.history) == epoch:
            raise Stop

    settings = tiny_settings("lff", epochs=6)
    training = Training(dataset, settings, 0, checkpoint=path, checkpoint_seconds=0, report=stop, keep=keep)
    with pytest.raises(Stop):
        train([training])


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("epoch", [1, 4, 6])
def test_a_resumed_training_ends_with_the_same_ones(data: BiasedDataset, tmp_path: Path, epoch: int) -> None:
    expected = trained(data, "lff").snapshots.taken
    stopped(data, tmp_path / "run.ckpt", epoch, ALL)
    found = trained(data, "lff", checkpoint=tmp_path / "run.ckpt", checkpoint_seconds=1e9).snapshots.taken
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name]["epoch"] == expected[name]["epoch"]
        assert same(found[name]["tensors"], expected[name]["tensors"])


def test_epochs_before_anybody_asked_are_not_there(data: BiasedDataset, tmp_path: Path) -> None:
    """The training goes on all the same, and the last epoch is still to come."""
    stopped(data, tmp_path / "run.ckpt", 5, (LAST,))
    resumed = trained(data, "lff", checkpoint=tmp_path / "run.ckpt", checkpoint_seconds=1e9)
    assert not resumed.progress.warnings
    record = make_record(Run(resumed.settings, 0), resumed, Fingerprint("data", "validation"))
    early = {rule.name for rule in ALL if (record.epoch(rule) or 0) <= 5}
    assert early
    assert resumed.snapshots.taken.keys() == RULES.keys() - early


@pytest.mark.parametrize("damage", ["number", "shape", "epoch", "list"])
def test_a_checkpoint_with_damaged_ones_is_set_aside(data: BiasedDataset, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run.ckpt"
    stopped(data, path, 4, ALL)
    state = torch.load(path, weights_only=True)
    tensors = state["snapshots"]["last"]["tensors"]
    if damage == "number":
        tensors["target.classifier.bias"][0] = float("nan")
    elif damage == "shape":
        tensors["target.classifier.bias"] = torch.zeros(3)
    elif damage == "epoch":
        state["snapshots"]["last"]["epoch"] = "4"
    else:
        state["snapshots"] = []
    torch.save(state, path)
    again = trained(data, "lff", checkpoint=path, checkpoint_seconds=1e9)
    assert "cannot be used" in again.progress.warnings[0]
    assert len(again.progress.history) == 6
