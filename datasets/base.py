"""A biased dataset in memory, and the registry of those the benchmark knows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UserError, unknown


@dataclass(frozen=True)
class Split:
    """Images with target and bias labels.

    images: uint8 [n, 3, H, W]; targets, bias: int64 [n].
    """

    images: np.ndarray
    targets: np.ndarray
    bias: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class BiasedDataset:
    """A classification task whose training images carry a spurious attribute, the bias.

    ``aligned_bias[y]`` is g(y), the bias value that goes with class y; a sample is aligned when its bias is
    g(target) and conflicting otherwise.
    """

    name: str
    class_names: tuple[str, ...]
    bias_names: tuple[str, ...]
    aligned_bias: np.ndarray  # int64 [C]
    train: Split
    validation: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.train.images.shape[1:]

    def group_sizes(self, split: Split) -> np.ndarray:
        """Number of images of each (class, bias) group, int64 [C, B]."""
        shape = (len(self.class_names), len(self.bias_names))
        flat = split.targets * shape[1] + split.bias
        return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)

    def fingerprint(self) -> str:
        """Digest of every pixel and label, so that two records can be told to stem from the same data."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for array in (split.images, split.targets, split.bias):
                digest.update(repr((array.shape, array.dtype.str)).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


Builder = Callable[..., BiasedDataset]
"""``build(data_root: Path, **data)`` with the keys of the task's ``data`` table in recipes.toml."""

BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator that makes a builder known under ``name``. Raises ValueError for a name already taken."""

    def add(builder: Builder) -> Builder:
        if name in BUILDERS:
            raise ValueError(f"Dataset '{name}' is registered twice.")
        BUILDERS[name] = builder
        return builder

    return add


def load(builder: str, data_root: Path, **data: Any) -> BiasedDataset:
    """Build a dataset. Raises UserError when the builder is unknown or its files are missing or damaged."""
    if builder not in BUILDERS:
        raise unknown("dataset", builder, BUILDERS)
    dataset = BUILDERS[builder](data_root, **data)
    if (dataset.group_sizes(dataset.train).sum(1) == 0).any():
        raise UserError(f"Dataset '{dataset.name}' has a class without any training image.")
    return dataset
