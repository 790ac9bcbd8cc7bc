"""Shared fixtures: small datasets that need no files, and the development images where a machine has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.plan import recipes
from benchmark.plan.run import Settings
from datasets import BiasedDataset, Split


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Sums of floats depend on how they are split; one thread is also the fastest for such small networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_root() -> Path:
    root = os.environ.get("BENCHMARK_DATA_ROOT")
    if not root:
        pytest.skip("BENCHMARK_DATA_ROOT does not name a folder with the datasets")
    return Path(root)


def make_split(n: int, num_classes: int, aligned: float, seed: int) -> Split:
    """Images whose first channel shows the target faintly and whose second shows the bias plainly."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % num_classes
    other = rng.integers(0, num_classes, n)
    bias = np.where(rng.random(n) < aligned, targets, other)
    images = rng.integers(0, 60, (n, 3, 2, 4), dtype=np.uint8)
    images[:, 0].reshape(n, -1)[np.arange(n), targets] += 60
    images[:, 1].reshape(n, -1)[np.arange(n), bias] += 190
    return Split(images, targets, bias)


@pytest.fixture
def tiny() -> BiasedDataset:
    """4 classes × 4 bias values, 203 training images: no multiple of a batch or of the classes."""
    names = tuple("abcd")
    return BiasedDataset(
        name="tiny",
        class_names=names,
        bias_names=names,
        aligned_bias=np.arange(4),
        train=make_split(203, 4, 0.8, 0),
        validation=make_split(40, 4, 0.8, 1),
        test=make_split(160, 4, 0.0, 2),
    )


def tiny_settings(method: str, **changes: object) -> Settings:
    """The digits' recipe cut down to a few short epochs, too few for the learning rate to fall."""
    settings = recipes.load().resolve("colored_digits", method)
    settings |= {"epochs": 3, "batch_size": 64, "learning_rate_decay": 1.0}
    if method == "be":
        settings["options"]["auxiliary_updates"] = 6
    for key, value in changes.items():
        place = settings["options"] if key in settings["options"] else settings
        place[key] = value
    return settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="store the rendered tables as the golden ones")
