"""Training a convolutional network on images that are flipped and cropped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.noise import noise, noise_dataset, noise_settings
from torch import nn

from benchmark.training import loader
from benchmark.training.loop import train
from benchmark.training.training import Training


class Killed(Exception):
    pass


@pytest.mark.parametrize(("method", "epochs"), [("vanilla", 3), ("poisoner", 1)])
def test_a_killed_run_with_augmentation_resumes_bit_by_bit(tmp_path: Path, method: str, epochs: int) -> None:
    chosen = noise_settings(method, epochs=epochs)
    assert chosen["flip"]
    assert chosen["crop_padding"] == 4
    whole = Training(noise_dataset(), chosen, seed=3)
    train([whole])

    def kill(_: object) -> None:
        raise Killed

    checkpoint = tmp_path / "run.ckpt"
    for _ in range(min(epochs, 2)):
        training = Training(noise_dataset(), chosen, 3, "cpu", checkpoint, checkpoint_seconds=0, report=kill)
        with pytest.raises(Killed):
            train([training])
    resumed = Training(noise_dataset(), chosen, 3, "cpu", checkpoint)
    train([resumed])
    assert resumed.progress.history == whole.progress.history
    for name, value in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name], value), name


def test_augmentation_and_seed_change_the_numbers() -> None:
    losses = set()
    for changes, seed in (({}, 0), ({}, 1), ({"flip": False, "crop_padding": 0}, 0)):
        training = Training(noise_dataset(), noise_settings(epochs=1, **changes), seed)
        train([training])
        losses.add(training.progress.history[0]["loss"])
    assert len(losses) == 3


def test_convolutional_methods_are_channels_last_and_in_full_precision_on_the_cpu() -> None:
    training = Training(noise_dataset(), noise_settings(), seed=0)
    weight = next(each for each in training.method.modules() if isinstance(each, nn.Conv2d)).weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.from_numpy(noise(4).images)
    batch = training.batches.batch(training.phase, torch.arange(4), images, torch.zeros(4, 3, dtype=torch.int64))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    computed: list[torch.dtype] = []
    for module in training.method.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, given, out: computed.append(out.dtype))
    assert training.method.target(batch.images).dtype == torch.float32
    assert set(computed) == {torch.float32}


def test_a_network_in_bf16_gives_float32_to_losses() -> None:
    """Both of its parts compute in bf16, and what a method gets of them, and computes from it, is float32."""
    training = Training(noise_dataset(), noise_settings(), seed=0)
    target = training.method.target
    images = torch.from_numpy(noise(8).images).float() / 255
    exact = target(images)
    target.compute_in(torch.bfloat16, "cpu")
    seen: list[torch.dtype] = []
    target.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    representations = target.features(images)
    logits = target(images)
    assert [representations.dtype, logits.dtype, *seen] == [torch.float32] * 3
    assert (representations @ representations.T).dtype == torch.float32
    # Rounded to eight bits within, hence near and not the same.
    assert 0 < (logits - exact).norm() / exact.norm() < 0.3


def test_unknown_bias_is_left_out_of_group_counts() -> None:
    data = noise_dataset()
    unknown = replace(data, train=replace(data.train, bias=np.where(np.arange(40) < 30, -1, data.train.bias)))
    assert unknown.group_sizes(unknown.train).sum() == 10
    training = Training(unknown, noise_settings(epochs=1), seed=0)
    train([training])
    assert np.sum(training.progress.train_counts["target"]) <= 10
    assert training.progress.history[0]["target"]["bias_acc"] is not None
    whole = Training(data, noise_settings(epochs=1), seed=0)
    train([whole])
    assert whole.progress.history[-1]["test"] == training.progress.history[-1]["test"]


def test_a_streamed_run_ends_like_a_resident_one(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Training(noise_dataset(), noise_settings("debian", epochs=1), seed=0)
    train([resident])
    monkeypatch.setattr(loader, "free_memory", lambda device: 1000)
    streamed = Training(noise_dataset(), noise_settings("debian", epochs=1), seed=0)
    assert not streamed.splits.train.resident
    train([streamed])
    assert streamed.progress.history == resident.progress.history
    assert streamed.progress.history[-1]["test"] == resident.progress.history[-1]["test"]
