"""Batches of a split on the device, and their augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.noise import noise, noise_settings
from torchvision.transforms.v2.functional import resized_crop

import networks
from benchmark.training import loader
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


@pytest.mark.parametrize("scale", [0.08, 0.5, 0.95])
def test_resized_crops_lie_within_the_image_and_have_the_areas_and_ratios_that_are_stated(scale: float) -> None:
    augmentation = Augmentation({"flip": True, "crop_scale": scale})
    draws = augmentation.draw(100, 64, torch.Generator().manual_seed(0)).flatten(0, 1)
    flip, top, left, height, width = draws.unbind(1)
    assert set(flip.tolist()) == {0, 1}
    assert draws.min() >= 0
    assert (top + height).max() <= 1 + 1e-6
    assert (left + width).max() <= 1 + 1e-6
    area, ratio = height * width, width / height
    assert scale - 1e-6 <= area.min() < scale + 0.01 * (1 - scale)
    assert 1 - 0.01 * (1 - scale) < area.max() <= 1 + 1e-6
    assert area.mean() == pytest.approx((1 + scale) / 2, abs=0.02)
    assert ratio.min() >= 3 / 4 - 1e-6
    assert ratio.max() <= 4 / 3 + 1e-6
    assert ratio.log().mean() == pytest.approx(0, abs=0.01)
    if scale <= 0.5:
        assert ratio.max() > 1.3
        corners = top[height < 0.99] / (1 - height[height < 0.99])
        assert corners.mean() == pytest.approx(0.5, abs=0.02)


def test_a_resized_crop_is_the_box_enlarged() -> None:
    """Against torchvision, which takes whole pixels; its borders are smoothed with what lies outside of the box."""
    augmentation = Augmentation({"flip": True, "crop_scale": 0.1})
    images = torch.from_numpy(noise(4, 32).images)
    draws = torch.tensor([[0, 4, 8, 16, 20], [1, 0, 0, 32, 32], [0, 0, 0, 32, 32], [1, 10, 3, 8, 10]]) / 32
    draws[:, 0] *= 32
    changed = augmentation.apply(images, draws)
    assert torch.allclose(changed[2], images[2].float(), atol=1e-3)
    assert torch.allclose(changed[1], images[1].flip(2).float(), atol=1e-3)
    for number, (flip, *box) in enumerate((draws * 32).int().tolist()):
        expected = resized_crop(images[number].float(), *box, [32, 32], antialias=False)
        expected = expected.flip(2) if flip else expected
        assert torch.allclose(changed[number, :, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], atol=1e-2), number


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
