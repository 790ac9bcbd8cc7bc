"""The loop that most published code trains with, to measure against: image files, a DataLoader, plain Adam.

It stands in for the official repositories, written as they are: a Dataset opens one file at a time with PIL,
torchvision's transforms make tensors of it, and every step waits for its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmark.plan.run import Settings


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """One image file a sample."""

    def __init__(self, paths: list[Path], targets: list[int], transform: Callable[[Image.Image], Tensor]) -> None:
        self.paths = paths
        self.targets = targets
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.paths[index]).convert("RGB")), self.targets[index]


def write_images(folder: Path, n: int, size: int) -> list[Path]:
    """Smooth noise as files: PNG for digits of 28 pixels, as the LfF code writes them, JPEG for larger images.

    They have the final size: what decoding and shrinking larger photographs costs is left out.
    """
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.{'png' if size == 28 else 'jpg'}" for number in range(n)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (size // 7, size // 7, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(path)
    return paths


def file_epoch(
    network: nn.Module,
    paths: list[Path],
    targets: list[int],
    size: int,
    settings: Settings,
    batch_size: int,
    workers: int,
    device: torch.device,
) -> Callable[[], None]:
    """One epoch over the files. Workers live on between epochs, so that starting them is not part of any."""
    varied = [transforms.RandomHorizontalFlip()] if settings.get("flip") else []
    if padding := settings.get("crop_padding"):
        varied.append(transforms.RandomCrop(size, padding))
    normalise = transforms.Normalize(settings["mean"], settings["std"])
    loader = DataLoader(
        ImageFiles(paths, targets, transforms.Compose([*varied, transforms.ToTensor(), normalise])),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings["learning_rate"])

    def epoch() -> None:
        total = 0.0
        for images, labels in loader:
            loss = criterion(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch
