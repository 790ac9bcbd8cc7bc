"""What every registered method must do. A new method is picked up from the registry and tested here as it is."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings

from benchmark.plan.recipes import load
from benchmark.plan.uses import MARKS
from benchmark.training import loop
from benchmark.training.batches import Batches
from benchmark.training.training import EpochEntry, Training
from benchmark.training.updates import Updates
from datasets import BiasedDataset, Split
from methods import METHODS
from methods.base import Batch, Method

ALL = sorted(METHODS)


class Stop(Exception):
    pass


def train(
    dataset: BiasedDataset, method: str, checkpoint: Path | None = None, stop_after: int | None = None
) -> Training:
    """Train to the end, or stop without warning after so many epochs."""
    training = Training(dataset, tiny_settings(method), seed=3, checkpoint=checkpoint, checkpoint_seconds=0)

    def report(entry: EpochEntry) -> None:
        if len(training.progress.history) == stop_after:
            raise Stop

    training.report = report
    loop.train([training])
    return training


def numbers(training: Training) -> dict[str, Any]:
    return {
        "history": training.progress.history,
        "train_counts": training.progress.train_counts,
        "summary": training.method.summary(),
        "warnings": training.progress.warnings,
        "state": {key: value.tolist() for key, value in training.method.state_dict().items()},
    }


@pytest.mark.parametrize("method", ALL)
def test_every_phase_trains_its_networks_and_only_those(tiny: BiasedDataset, method: str) -> None:
    """The end of a phase, too, leaves alone what no later phase trains: another may start from what it sets."""
    training = Training(tiny, tiny_settings(method), seed=0)
    parameters = dict(training.method.named_parameters())

    def changed(before: dict[str, torch.Tensor]) -> set[str]:
        return {name for name, old in before.items() if not torch.equal(old, parameters[name])}

    def snapshot() -> dict[str, torch.Tensor]:
        return {name: each.detach().clone() for name, each in parameters.items()}

    trained = [
        {id(parameter) for step in phase.steps for net in step.trains for parameter in net.parameters()}
        for phase in training.phases
    ]
    names = [{name for name, each in parameters.items() if id(each) in of_phase} for of_phase in trained]
    for index, phase in enumerate(training.phases):
        training.go_to(index)
        before = snapshot()
        # Twice, as Echoes' target network rightly stands still in the first epoch.
        for _ in range(2):
            Updates([training]).epoch()
            training.call(phase.end_epoch)
        assert changed(before) == names[index]
        before = snapshot()
        training.call(phase.end)
        assert changed(before) <= set().union(*names[index + 1 :])


@pytest.mark.parametrize("method", ALL)
def test_it_learns_and_measures(tiny: BiasedDataset, method: str) -> None:
    training = Training(tiny, tiny_settings(method, epochs=25, learning_rate=5e-3), seed=0)
    loop.train([training])
    assert len(training.progress.history) == training.total_epochs
    if training.method.biased is not training.method.target:  # a biased model need not do well on unbiased data
        assert sum(training.progress.history[-1]["test"]) > 0.4 * len(tiny.test)  # chance is 0.25
    if training.method.biased is not None:
        role = "target" if training.method.biased is training.method.target else "biased"
        assert sum(map(sum, training.progress.train_counts[role])) > 0.4 * len(tiny.train)


@pytest.mark.parametrize("method", ALL)
def test_resuming_at_any_epoch_changes_no_number(tiny: BiasedDataset, method: str, tmp_path: Path) -> None:
    expected = numbers(train(tiny, method))
    checkpoint = tmp_path / "run.ckpt"
    for stop_after in range(1, len(expected["history"]) + 1):
        with pytest.raises(Stop):
            train(tiny, method, checkpoint, stop_after)
    assert numbers(train(tiny, method, checkpoint)) == expected


@pytest.mark.parametrize("method", ALL)
def test_labels_and_validation_images_are_withheld_unless_declared(
    tiny: BiasedDataset, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, given = METHODS[method], list[Batch]()
    original = Batches.batch

    def spy(self: Batches, *drawn: Any) -> Batch:
        batch = original(self, *drawn)
        given.append(batch)
        return batch

    monkeypatch.setattr(Batches, "batch", spy)
    training = train(tiny, method)
    declared = {"train": kind.uses_bias_labels, "validation": kind.uses_validation_bias}
    assert given
    assert all((batch.bias is not None) == declared[batch.split] for batch in given)
    if not kind.uses_validation:
        assert {batch.split for batch in given} == {"train"}
        with pytest.raises(ValueError, match="looks at them, and does not declare it"):
            training.call(lambda predict: predict(training.method.target, "validation"))
    assert load().uses(method) == {each for each in MARKS if getattr(kind, each)}


def permuted(split: Split, *names: str) -> Split:
    """The split with these of its arrays in another order than the rest."""
    order = np.random.default_rng(5).permutation(len(split))
    return replace(split, **{name: getattr(split, name)[order] for name in names})


@pytest.mark.parametrize("method", ALL)
def test_training_does_not_depend_on_what_is_withheld(tiny: BiasedDataset, method: str) -> None:
    """The strongest proof: other labels or images, the same weights; only a method that may see them differs."""
    kind = METHODS[method]
    expected = train(tiny, method).method.target.state_dict()

    def same_with(**splits: Split) -> bool:
        found = train(replace(tiny, **splits), method).method.target.state_dict()
        return all(torch.equal(value, found[name]) for name, value in expected.items())

    assert same_with(train=permuted(tiny.train, "bias")) != kind.uses_bias_labels
    assert same_with(validation=permuted(tiny.validation, "images")) != kind.uses_validation
    if kind.uses_validation_bias or not kind.uses_validation:  # else it decides which half the method gets
        assert same_with(validation=permuted(tiny.validation, "bias")) != kind.uses_validation_bias
    test = permuted(tiny.test, "images", "bias")
    assert same_with(test=test)


@pytest.mark.parametrize("method", ALL)
def test_a_seed_means_the_same_run_and_another_seed_another(tiny: BiasedDataset, method: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed())  # whatever the global generator holds must not matter
        training = Training(tiny, tiny_settings(method, epochs=1), seed=seed)
        loop.train([training])
        return training.method.target.classifier.weight.detach()

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("method", ALL)
def test_networks_of_one_method_start_from_different_weights(tiny: BiasedDataset, method: str) -> None:
    module = Training(tiny, tiny_settings(method), seed=0).method
    first_layers = [parameter for name, parameter in module.named_parameters() if name.endswith("features.1.weight")]
    for i, one in enumerate(first_layers):
        assert not any(torch.equal(one, other) for other in first_layers[i + 1 :])


@pytest.mark.parametrize("method", ALL)
def test_the_recipe_states_every_hyper_parameter(method: str) -> None:
    parameters = inspect.signature(METHODS[method].__init__).parameters.values()
    keywords = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords == set(load().options(method))
    assert all(each.default is inspect.Parameter.empty for each in parameters), "defaults belong into recipes.toml"


@pytest.mark.parametrize("method", ALL)
def test_everything_it_remembers_is_in_its_state(tiny: BiasedDataset, method: str) -> None:
    """Tensors outside parameters and buffers would be lost with the first checkpoint."""

    def loose(module: torch.nn.Module) -> list[str]:
        return [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]

    trained: Method = train(tiny, method).method
    assert [name for module in trained.modules() for name in loose(module)] == []
    assert trained.__doc__
