"""Phases on the half of the validation images that a method declares, and phases that train a part of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings
from factories.noise import noise_dataset, noise_settings
from torch import Tensor

import methods
from benchmark.plan.run import Run
from benchmark.rules import RULES
from benchmark.training.loop import train
from benchmark.training.recording import make_record
from benchmark.training.training import Training
from benchmark.training.updates import Updates
from datasets import BiasedDataset
from datasets.base import halved
from methods import losses
from methods.base import Batch, Phase, Predict, Step
from methods.vanilla import Vanilla


class OnValidation(Vanilla):
    """Plain training, then its last layer on validation images; remembers what it was given."""

    uses_validation = True
    of_half: Any = "shuffled"  # the sampler of its second phase

    def __init__(self, data: Any, new_network: Any, epochs: int) -> None:
        super().__init__(data, new_network, epochs)
        self.data = data
        self.batches: list[Batch] = []
        self.sample_weights = torch.arange(20.0)

    def phases(self) -> tuple[Phase, ...]:
        step = Step(self.listen, (self.target.classifier,))
        on_validation = Phase("last layer", (step,), self.epochs, sampler=self.of_half, split="validation")
        return (*super().phases(), on_validation)

    def listen(self, batch: Batch) -> Tensor:
        self.batches.append(batch._replace(images=batch.images.clone()))
        return self.loss(batch)

    def loss(self, batch: Batch) -> Tensor:
        return losses.cross_entropy(self.target(batch.images), batch.targets).mean()


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A training of ``OnValidation`` with attributes of its class changed, under the name of plain training."""

    def make(dataset: BiasedDataset, settings: dict[str, Any], **changes: object) -> Training:
        monkeypatch.setitem(methods.METHODS, "vanilla", type("OnValidation", (OnValidation,), changes))
        return Training(dataset, settings, seed=0)

    return make


@pytest.mark.parametrize("sampler", ["shuffled", "class_balanced", "group_balanced", "weighted"])
def test_batches_come_from_the_half_that_no_epoch_is_selected_on(
    tiny: BiasedDataset, trainer: Any, sampler: str
) -> None:
    training = trainer(
        tiny, tiny_settings("vanilla", batch_size=8), of_half=sampler, uses_validation_bias=sampler == "group_balanced"
    )
    train([training])
    given, kept = halved(tiny.validation)
    assert len(training.dataset.validation) == len(given) == 20
    assert np.array_equal(training.dataset.validation.images, kept.images)
    assert len(training.method.batches) == 3 * 3, "an epoch is as long as its split"
    drawn = torch.zeros(20)
    for batch in training.method.batches:
        rows = batch.indices
        assert batch.split == "validation"
        assert batch.targets.tolist() == given.targets[rows].tolist()
        assert torch.allclose((batch.images + 1) * 127.5, torch.from_numpy(given.images[rows]).float(), atol=1e-3)
        assert (batch.bias is None) == (sampler != "group_balanced")
        assert batch.bias is None or batch.bias.tolist() == given.bias[rows].tolist()
        drawn += torch.bincount(rows, minlength=20)
    assert drawn[0] == 0 or sampler != "weighted"
    assert drawn.min() >= 3 or sampler != "shuffled"


def test_every_group_of_the_half_is_drawn_as_often(tiny: BiasedDataset, trainer: Any) -> None:
    training = trainer(tiny, tiny_settings("vanilla", epochs=600), of_half="group_balanced", uses_validation_bias=True)
    training.go_to(1)
    drawn = torch.cat(
        [training.batches.order(training.phase, "group_balanced", training.generator).flatten() for _ in range(600)]
    )
    groups = torch.from_numpy(training.given.targets * 4 + training.given.bias)
    share = torch.bincount(groups[drawn], minlength=16)[torch.bincount(groups, minlength=16) > 0] / len(drawn)
    assert share == pytest.approx(torch.full_like(share, 1 / len(share)), abs=0.01)


def test_a_batch_is_no_larger_than_the_half(tiny: BiasedDataset, trainer: Any) -> None:
    training = trainer(tiny, tiny_settings("vanilla"))
    train([training])
    assert [len(batch.indices) for batch in training.method.batches] == [20, 20, 20]
    assert training.progress.samples_trained == 3 * 4 * 64 + 3 * 20


def test_what_is_not_declared_is_withheld(tiny: BiasedDataset, trainer: Any) -> None:
    settings = tiny_settings("vanilla")
    training = trainer(tiny, settings)
    assert training.method.data.validation_targets.tolist() == halved(tiny.validation)[0].targets.tolist()
    assert training.method.data.validation_bias is None
    assert trainer(tiny, settings, uses_validation_bias=True).method.data.validation_bias is not None
    with pytest.raises(ValueError, match="balances groups, but its method declares no use of bias labels"):
        train([trainer(tiny, settings, of_half="group_balanced", uses_bias_labels=True)])
    undeclared = trainer(tiny, settings, uses_validation=False)
    assert undeclared.method.data.validation_targets is None
    with pytest.raises(ValueError, match="trains on validation images, or looks at them, and does not declare it"):
        train([undeclared])
    with pytest.raises(ValueError, match="declare uses_validation, too"):
        methods.register("careless")(type("Careless", (Vanilla,), {"uses_validation_bias": True}))


def test_weights_of_another_split_are_refused(tiny: BiasedDataset, trainer: Any) -> None:
    training = trainer(tiny, tiny_settings("vanilla"), of_half="weighted")
    training.method.sample_weights = torch.ones(203)
    with pytest.raises(ValueError, match="'last layer' has 203 weights for 20 images"):
        train([training])


def test_hooks_get_predictions_and_features_of_both_splits(tiny: BiasedDataset, trainer: Any) -> None:
    training = trainer(tiny, tiny_settings("vanilla"))
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(predict: Predict) -> None:
        target = training.method.target
        for split in ("train", "validation"):
            found[split] = predict(target, split), predict(target.features, split)

    training.call(hook)
    for name, images in (("train", tiny.train.images), ("validation", halved(tiny.validation)[0].images)):
        with torch.no_grad():
            features = training.method.target.features(torch.from_numpy(images).float() / 127.5 - 1)
            expected = training.method.target.classifier(features), features
        for each, like in zip(found[name], expected, strict=True):
            torch.testing.assert_close(each, like, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_of_a_network_whose_last_layer_is_trained_nothing_else_moves(trainer: Any, split: str) -> None:
    """Not even the statistics of its batch normalisation, and whether or not the loss holds back the gradient."""
    training = trainer(noise_dataset(), noise_settings())
    training.phases = (Phase("last layer", (Step(training.method.loss, (training.method.target.classifier,)),), 1),)
    if split == "validation":
        training.phases = (training.method.phases()[1],)
    training.go_to(0)
    before = {name: value.clone() for name, value in training.method.target.state_dict().items()}
    assert any("running_mean" in name for name in before)
    Updates([training]).epoch()
    after = training.method.target.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert training.measured(training.phase).keys() == {"target"}


def test_epochs_of_an_earlier_phase_are_not_selected(tiny: BiasedDataset, trainer: Any) -> None:
    """What the last phase starts from may look better on validation images than all that it makes of it."""
    training = trainer(tiny, tiny_settings("vanilla", learning_rate=5e-3, epochs=6))

    def spoil(predict: Predict) -> None:
        training.method.target.classifier.weight.neg_()

    first, last = training.phases
    training.phases = (Phase(first.name, first.steps, first.epochs, end=spoil), last)
    train([training])
    accuracy = {
        name: [each["target"]["validation_acc"] for each in training.progress.history if each["phase"] == name]
        for name in ("train", "last layer")
    }
    assert max(accuracy["train"]) > max(accuracy["last layer"])
    record = make_record(Run(tiny_settings("vanilla"), 0), training, tiny.fingerprint())
    assert record.answers.epochs == list(range(1, 1 + len(accuracy["last layer"])))
    assert record.epoch(RULES["validation"]) == 1 + int(np.argmax(accuracy["last layer"]))


def test_the_record_says_what_the_method_saw(tiny: BiasedDataset) -> None:
    for method, uses in (("vanilla", set()), ("dfr", {"uses_validation", "uses_validation_bias"})):
        run = Run(tiny_settings(method, epochs=1), 0)
        training = Training(tiny, run.settings, run.seed)
        train([training])
        record = make_record(run, training, tiny.fingerprint())
        assert record.uses == uses
        notes = [each for each in record.provenance.data_notes if "half of the validation images" in each]
        assert len(notes) == bool(uses)
        assert all(each.startswith("DFR trains on half") for each in notes)
