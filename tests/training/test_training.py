from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings

from benchmark.errors import TrainingError, UserError
from benchmark.training.loop import train
from benchmark.training.training import Training
from datasets import BiasedDataset
from methods import METHODS
from methods.base import Method, Phase
from methods.losses import cross_entropy
from methods.vanilla import Vanilla


class Twice(Vanilla):
    """Its two phases are called alike."""

    def phases(self) -> tuple[Phase, ...]:
        return super().phases() * 2


def test_phases_have_names_of_their_own(tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before anything is trained: a record tells curves by them."""
    monkeypatch.setitem(METHODS, "vanilla", Twice)
    with pytest.raises(TrainingError, match="Two phases of the method vanilla have one name"):
        Training(tiny, tiny_settings("vanilla"), seed=0)


def test_images_are_normalised_as_the_recipe_says(tiny: BiasedDataset) -> None:
    settings = tiny_settings("vanilla", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    training = Training(tiny, settings, seed=0)
    indices = torch.tensor([5, 0, 77])
    expected = (tiny.train.images[indices] / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array(
        [0.4, 0.5, 0.6]
    )[:, None, None]
    ((row, images),) = training.splits.train.batches(indices[None])
    batch = training.batches.batch(training.phase, row, images, torch.empty(0))
    assert np.allclose(batch.images.numpy(), expected, atol=1e-5)
    assert batch.targets.tolist() == tiny.train.targets[indices].tolist()


def test_epochs_and_updates_are_counted_as_declared(tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """203 images at 64 are 4 updates an epoch; BE's 6 updates are one epoch and a half."""
    training = Training(tiny, tiny_settings("be"), seed=0)
    updates: list[str] = []
    for phase in training.phases:
        for step in phase.steps:
            original = step.loss
            object.__setattr__(
                step, "loss", lambda batch, name=phase.name, loss=original: updates.append(name) or loss(batch)
            )
    train([training])
    assert updates.count("auxiliary 1") == updates.count("auxiliary 5") == 6
    assert updates.count("train") == 3 * 4
    assert len(training.progress.history) == training.total_epochs == 5 * 2 + 3


def test_updates_may_be_divided_into_epochs_shorter_than_a_pass(tiny: BiasedDataset) -> None:
    """AFR's second phase, of ten parts: as many updates are trained, and the rate falls no sooner than it would."""
    changes = {"epochs": 10, "learning_rate_decay": 0.5, "learning_rate": 0.8, "last_layer_updates": 26}
    rates: list[float] = []
    training = Training(tiny, tiny_settings("afr", **changes), 0, report=lambda entry: seen(entry["phase"]))

    def seen(phase: str) -> None:
        if phase == "last layer":
            rates.extend(float(group["lr"]) for optimizer in training.optimizers for group in optimizer.param_groups)

    train([training])
    (_, last) = training.phases
    assert training.batches.updates_per_pass(last) == 4
    entries = [entry for entry in training.progress.history if entry["phase"] == "last layer"]
    assert len(entries) == 13, "of two updates each"
    assert all("test" in entry for entry in entries)
    assert training.progress.samples_trained == (10 * 4 + 26) * 64
    assert rates == [0.8 * 0.5 ** (epoch // 2) for epoch in range(13)]


def test_the_learning_rate_falls_after_every_tenth_of_the_epochs(tiny: BiasedDataset) -> None:
    """In each phase anew; a phase that is shorter than the others falls as slowly as they do."""
    rates: dict[str, list[float]] = {}

    def watch(method: str) -> None:
        changes = {"epochs": 20, "learning_rate_decay": 0.5, "learning_rate": 0.8}
        training = Training(tiny, tiny_settings(method, **changes), 0, report=lambda entry: seen(entry["phase"]))
        rates.clear()

        def seen(phase: str) -> None:
            (group,) = training.optimizers[0].param_groups
            rates.setdefault(phase, []).append(float(group["lr"]))

        train([training])

    watch("vanilla")
    assert rates == {"train": [0.8 * 0.5 ** (epoch // 2) for epoch in range(20)]}
    watch("jtt")
    assert rates == {"identify": [0.8, 0.8], "train": [0.8 * 0.5 ** (epoch // 2) for epoch in range(20)]}


def test_a_loss_that_is_not_one_number_for_each_image_ends_the_run(
    tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[m, 1] less [m] is [m, m], whose mean is a number and means nothing."""
    monkeypatch.setattr(
        METHODS["focal"], "sample_loss", lambda _, logits, targets: logits[:, :1] - cross_entropy(logits, targets)
    )
    training = Training(tiny, tiny_settings("focal"), seed=0)
    with pytest.raises(TrainingError, match=r"sample_loss of Focal gives .* one number for each"):
        train([training])
    monkeypatch.setattr(METHODS["focal"], "sample_loss", lambda *_: None)  # the return was forgotten
    with pytest.raises(TrainingError, match=r"sample_loss of Focal gives None for 64 images: it must give one number"):
        train([Training(tiny, tiny_settings("focal"), seed=0)])


def test_a_loss_that_is_no_number_ends_the_run(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("vanilla", learning_rate=1e30), seed=0)
    with pytest.raises(TrainingError, match=r"nan|inf"):
        train([training])


def test_a_network_that_its_last_update_broke_ends_the_run(tiny: BiasedDataset, tmp_path: Path) -> None:
    """The loss of the only update is one of before it."""
    settings = tiny_settings("vanilla", learning_rate=1e30, epochs=1, batch_size=len(tiny.train))
    training = Training(tiny, settings, seed=0, checkpoint=tmp_path / "run.ckpt", checkpoint_seconds=0)
    with pytest.raises(TrainingError, match=r"^The target network's logits .* after epoch 1 of phase 'train'\.$"):
        train([training])
    assert training.progress.history == []
    assert list(tmp_path.iterdir()) == [], "nothing of it is kept"


def test_unknown_sampler_is_a_user_error(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("poisoner", target_sampler="class_balance"), seed=0)
    with pytest.raises(UserError, match="did you mean 'class_balanced'"):
        train([training])


def test_group_balance_needs_the_declaration(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("vanilla"), seed=0)
    with pytest.raises(ValueError, match="declares no use of bias labels"):
        training.batches.order(training.phase, "group_balanced", training.generator)


def test_group_balanced_batches_show_rare_groups_as_often(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("groupdro", batch_size=203), seed=0)
    orders = torch.cat(
        [training.batches.order(training.phase, "group_balanced", training.generator).flatten() for _ in range(200)]
    )
    drawn = torch.bincount(training.splits.train.groups[orders], minlength=16).double()
    present = torch.bincount(training.splits.train.groups, minlength=16) > 0
    assert (drawn[present] / drawn.sum()).std() < 0.005
    assert drawn[~present].sum() == 0


@pytest.mark.parametrize(("returned", "named"), [(None, "nothing"), ((), "nothing"), (Phase("train", (), 1), "Phase")])
def test_a_method_without_phases_is_a_sentence(
    tiny: BiasedDataset, returned: object, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vanilla, "phases", lambda self: returned)
    with pytest.raises(TrainingError, match=rf"^phases\(\) of the method vanilla returns {named}: "):
        Training(tiny, tiny_settings("vanilla"), seed=0)


def test_a_method_without_target_is_a_sentence(tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vanilla, "__init__", Method.__init__)
    with pytest.raises(TrainingError, match=r"^The method vanilla has no network to be tested: assign self\.target"):
        Training(tiny, tiny_settings("vanilla"), seed=0)


def test_unknown_network_is_a_user_error(tiny: BiasedDataset) -> None:
    with pytest.raises(UserError, match="Unknown network 'mpl'; did you mean 'mlp'"):
        Training(tiny, tiny_settings("vanilla", network="mpl"), seed=0)
