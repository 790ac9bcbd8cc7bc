"""Registers a set of image files by the function that lists it, and builds its ``BiasedDataset``.

Such a dataset is one function, which reads the set's label files and returns a ``Listing``; the checks, the prepared
array and the name in the registry come from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.base import BiasedDataset, Split, register
from datasets.listing import Listing, complete, large_enough
from datasets.prepared import prepare, prepared_path, repeated

Lister = Callable[..., Listing]
"""``list(data_root, **data)`` with the keys of the task's ``data`` table except ``size`` and ``subset``."""


@dataclass(frozen=True)
class ImageSet:
    """What is known of a set before its files are looked for."""

    lister: Lister

    def listing(self, data_root: Path, *, size: int, subset: bool = False, **data: Any) -> Listing:
        """The complete listing of a task's ``data`` settings. Raises UserError."""
        return large_enough(complete(self.lister(data_root, **data), subset), size, subset)


IMAGE_SETS: dict[str, ImageSet] = {}


def register_images(name: str) -> Callable[[Lister], Lister]:
    """Decorator that makes a dataset of image files known by its listing."""

    def add(lister: Lister) -> Lister:
        image_set = IMAGE_SETS[name] = ImageSet(lister)

        def build(data_root: Path, *, size: int, **data: Any) -> BiasedDataset:
            return dataset(image_set.listing(data_root, size=size, **data), size)

        def outline(data_root: Path, *, size: int, **data: Any) -> BiasedDataset:
            listing = image_set.listing(data_root, size=size, **data)
            return _dataset(listing, np.empty((len(listing.files), 3, 0, 0), np.uint8))

        register(name, outline)(build)
        return lister

    return add


def dataset(listing: Listing, size: int) -> BiasedDataset:
    """The dataset of a listing, its images mapped from the prepared array, which is made where it lacks."""
    images, digest = prepare(listing, size)
    listing = replace(listing, notes=(*listing.notes, *repeated(listing, prepared_path(listing, size))))
    return _dataset(listing, images, digest)


def _dataset(listing: Listing, images: np.ndarray, digest: str | None = None) -> BiasedDataset:
    train, validation, test = (
        Split(images[part], listing.targets[part], listing.bias[part], listing.files[part]) for part in listing.splits
    )
    return BiasedDataset(
        name=listing.name,
        class_names=listing.class_names,
        bias_names=listing.bias_names,
        aligned_bias=listing.aligned_bias,
        told_by=listing.told_by,
        train=train,
        validation=validation,
        test=test,
        scored=listing.scored,
        notes=listing.notes,
        pixels=digest,
        fit=listing.fit.__name__,
    )
