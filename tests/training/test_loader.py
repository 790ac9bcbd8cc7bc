"""Batches of a split on the device, and their augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.noise import noise, noise_settings

from benchmark.training import loader, networks
from benchmark.training.loader import Augmentation, DeviceSplit


def test_augmentation_is_flip_and_crop_of_the_padded_image() -> None:
    augmentation = Augmentation({"flip": True, "crop_padding": 3})
    images = torch.from_numpy(noise(64, 32).images)
    draws = augmentation.draw(2, 64, torch.Generator().manual_seed(0))[1]
    changed = augmentation.apply(images, draws)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)))
    for image, (flip, top, left), got in zip(padded, draws.tolist(), changed.numpy(), strict=True):
        crop = image[:, top : top + 32, left : left + 32]
        assert np.array_equal(got, crop[:, :, ::-1] if flip else crop)
    assert set(draws[:, 0].tolist()) == {0, 1}
    assert set(draws[:, 1:].flatten().tolist()) == set(range(7))


def test_without_augmentation_nothing_is_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    augmentation = Augmentation({})
    images = torch.from_numpy(noise(4).images)
    assert augmentation.apply(images, augmentation.draw(1, 4, generator)[0]) is images
    assert torch.equal(generator.get_state(), before)


def test_streamed_batches_are_the_resident_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = noise(50)
    np.save(tmp_path / "images.npy", split.images)
    mapped = replace(split, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    resident = DeviceSplit(split, 2, noise_settings(), torch.device("cpu"))
    monkeypatch.setattr(loader, "free_memory", lambda device: 1000)
    monkeypatch.setattr(loader, "EVALUATION_BATCH", 16)
    streamed = DeviceSplit(mapped, 2, noise_settings(), torch.device("cpu"))
    assert resident.resident
    assert not streamed.resident
    order = torch.randperm(50)[:48].view(6, 8)
    pairs = zip(resident.batches(order), streamed.batches(order), order, strict=True)
    for (indices, images), (same_indices, same_images), row in pairs:
        assert torch.equal(indices, row)
        assert torch.equal(same_indices, row)
        assert torch.equal(images, same_images)
    assert list(streamed.batches(order[:0])) == []
    network = networks.build("resnet18", (3, 32, 32), 2, pretrained=False, stem="standard")
    assert torch.equal(resident.logits(network), streamed.logits(network))


def test_a_reader_that_fails_in_its_thread_fails_the_run() -> None:
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises((IndexError, RuntimeError)):
        list(loader._stream(images, torch.tensor([[0, 9]]), torch.device("cpu")))
