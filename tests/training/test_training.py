from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_settings

from benchmark.errors import TrainingError, UserError
from benchmark.training import Training
from datasets import BiasedDataset
from methods import METHODS
from methods.base import Phase
from methods.losses import cross_entropy


def test_images_are_normalised_as_the_recipe_says(tiny: BiasedDataset) -> None:
    settings = tiny_settings("vanilla", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    training = Training(tiny, settings, seed=0)
    indices = torch.tensor([5, 0, 77])
    expected = (tiny.train.images[indices] / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array(
        [0.4, 0.5, 0.6]
    )[:, None, None]
    ((row, images),) = training.train.batches(indices[None])
    batch = training.batch(row, images, torch.empty(0))
    assert np.allclose(batch.images.numpy(), expected, atol=1e-5)
    assert batch.targets.tolist() == tiny.train.targets[indices].tolist()


def test_clean_predictions_do_not_depend_on_the_evaluation_batch(
    tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny, tiny_settings("vanilla"), seed=0)
    whole = training.train.logits(training.method.target)
    monkeypatch.setattr("benchmark.loader.EVALUATION_BATCH", 7)
    parts = training.train.logits(training.method.target)
    assert torch.allclose(whole, parts, atol=1e-6)
    assert training.method.target.training, "the mode is restored"


def test_curves_agree_with_a_recount(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("vanilla"), seed=0)
    training.run()
    predicted = training.train.logits(training.method.target).argmax(1).numpy()
    right = predicted == tiny.train.targets
    aligned = tiny.train.bias == tiny.aligned_bias[tiny.train.targets]
    entry = training.history[-1]["target"]
    assert entry["aligned_error"] == pytest.approx(100 * (1 - right[aligned].mean()), abs=1e-4)
    assert entry["conflicting_error"] == pytest.approx(100 * (1 - right[~aligned].mean()), abs=1e-4)
    assert entry["bias_acc"] == pytest.approx(50 * (right[aligned].mean() + 1 - right[~aligned].mean()), abs=1e-4)
    loss = torch.nn.functional.cross_entropy(
        training.train.logits(training.method.target)[torch.from_numpy(aligned)],
        torch.from_numpy(tiny.train.targets[aligned]),
    )
    assert entry["aligned_loss"] == pytest.approx(float(loss), abs=1e-5)


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
    training.run()
    assert updates.count("auxiliary 1") == updates.count("auxiliary 5") == 6
    assert updates.count("train") == 3 * 4
    assert len(training.history) == training.total_epochs == 5 * 2 + 3


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

        training.run()

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
    with pytest.raises(TrainingError, match=r"sample_loss of Focal gives .* one for each"):
        training.run()


def test_a_loss_that_is_no_number_ends_the_run(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("vanilla", learning_rate=1e30), seed=0)
    with pytest.raises(TrainingError, match=r"nan|inf"):
        training.run()


def test_a_checkpoint_of_another_version_is_set_aside(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    Training(tiny, tiny_settings("vanilla"), seed=0, checkpoint=path, checkpoint_seconds=0).run()
    other = Training(tiny, tiny_settings("gce", epochs=1), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    other.method.register_buffer("new_in_this_version", torch.zeros(3))
    other.run()
    assert len(other.history) == 1
    assert "cannot be used" in other.warnings[0]


def test_a_checkpoint_that_has_the_learning_rate_as_a_number_is_continued(tiny: BiasedDataset, tmp_path: Path) -> None:
    """Older versions wrote it so."""

    class Stop(Exception):
        pass

    def stop(entry: dict[str, object]) -> None:
        raise Stop

    path = tmp_path / "run.ckpt"
    settings = tiny_settings("vanilla", learning_rate_decay=0.5)
    expected = Training(tiny, settings, seed=0)
    expected.run()
    with pytest.raises(Stop):
        Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=0, report=stop).run()
    state = torch.load(path, weights_only=True)
    (group,) = state["optimizers"][0]["param_groups"]
    group["lr"] = float(group["lr"])
    torch.save(state, path)
    again = Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=1e9)
    again.run()
    assert again.history == expected.history


def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_over(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    expected = Training(tiny, tiny_settings("lff"), seed=0, checkpoint=path, checkpoint_seconds=0)
    expected.run()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    again = Training(tiny, tiny_settings("lff"), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    again.run()
    assert again.history == expected.history
    assert (tmp_path / "run.ckpt.corrupt").stat().st_size == len(content) // 2
    assert "cannot be used" in again.warnings[0]


def test_checkpoints_are_written_no_more_often_than_asked(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    Training(tiny, tiny_settings("vanilla"), seed=0, checkpoint=path, checkpoint_seconds=1e9).run()
    assert not path.exists()


def test_unknown_sampler_is_a_user_error(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("poisoner", target_sampler="class_balance"), seed=0)
    with pytest.raises(UserError, match="did you mean 'class_balanced'"):
        training.run()


def test_group_balance_needs_the_declaration(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("vanilla"), seed=0)
    with pytest.raises(ValueError, match="declares no use of bias labels"):
        training._order(Phase("cheat", (), 1, sampler="group_balanced"))


def test_group_balanced_batches_show_rare_groups_as_often(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("groupdro", batch_size=203), seed=0)
    orders = torch.cat([training._order(training.phases[0]).flatten() for _ in range(200)])
    drawn = torch.bincount(training.train.groups[orders], minlength=16).double()
    present = torch.bincount(training.train.groups, minlength=16) > 0
    assert (drawn[present] / drawn.sum()).std() < 0.005
    assert drawn[~present].sum() == 0


def test_unknown_network_is_a_user_error(tiny: BiasedDataset) -> None:
    with pytest.raises(UserError, match="Unknown network 'mpl'; did you mean 'mlp'"):
        Training(tiny, tiny_settings("vanilla", network="mpl"), seed=0)


@pytest.mark.parametrize("method", ["vanilla", "jtt", "debian"])
def test_predictions_are_those_of_the_biased_network_at_the_end_and_outlive_a_kill(
    tiny: BiasedDataset, tmp_path: Path, method: str
) -> None:
    """DebiAN has no biased network: its target's are taken. JTT's biased network is trained in the first phase."""
    path = tmp_path / "run.ckpt"
    training = Training(tiny, tiny_settings(method), seed=0, checkpoint=path, checkpoint_seconds=0)
    training.run()
    network = training.method.target if method == "debian" else training.method.biased
    probability = training.train.logits(network).softmax(1).numpy()
    predicted, score = training.predictions()
    assert np.array_equal(predicted, probability.argmax(1))
    assert np.array_equal(score, probability[np.arange(len(score)), tiny.train.targets])
    counts = training.train_counts["biased" if method == "jtt" else "target"]
    assert (predicted == tiny.train.targets).sum() == np.sum(counts), "what the record counts as right"

    resumed = Training(tiny, tiny_settings(method), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    resumed.run()
    assert resumed.samples_trained == training.samples_trained, "the checkpoint held all epochs"
    assert all(np.array_equal(one, other) for one, other in zip(resumed.predictions(), (predicted, score), strict=True))
