"""A biased dataset, in memory or mapped from disk, and the registry of those the benchmark knows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmark.errors import UserError, unknown


@dataclass(frozen=True)
class Split:
    """Images with target and bias labels.

    images: uint8 [n, 3, H, W], possibly a memory map; targets, bias: int64 [n], bias −1 where it is unknown.
    ``files`` are the images' names in their set; empty where images do not come from files of their own.
    """

    images: np.ndarray
    targets: np.ndarray
    bias: np.ndarray
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> Split:
        """The images at these positions, int64 [k], in their order."""
        files = [self.files[row] for row in rows] if self.files else ()
        return Split(self.images[rows], self.targets[rows], self.bias[rows], files)


class Fingerprint(NamedTuple):
    """Digests of what is trained on and tested on, and of what epochs are chosen on."""

    data: str
    validation: str


ToldBy = Literal["train", "validation", "test", ""]
"""The split whose labels say which bias goes with each class; "" for none."""


@dataclass(frozen=True)
class BiasedDataset:
    """A classification task whose training images carry a spurious attribute, the bias.

    ``aligned_bias[y]`` is g(y), the bias value that goes with class y; a sample is aligned when its bias is
    g(target) and conflicting otherwise. Only test images need a bias label.

    Where no labels told that, by ``told_by``, g means nothing.

    ``scored``, bool [C, B], names the test groups that count for average and worst accuracy, where not all do.
    ``notes`` are sentences that a reader of the results must know, such as that images are missing.
    ``pixels`` is a digest of the images where it is known without reading them, ``fit`` how they were brought to their
    size, see ``prepared.FITS``.
    """

    name: str
    class_names: tuple[str, ...]
    bias_names: tuple[str, ...]
    aligned_bias: np.ndarray  # int64 [C]
    train: Split
    validation: Split
    test: Split
    told_by: ToldBy = "train"
    scored: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    pixels: str | None = None
    fit: str = "stretch"

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.train.images.shape[1:]

    def group_sizes(self, split: Split) -> np.ndarray:
        """Number of images of each (class, bias) group, int64 [C, B]; images of unknown bias are not counted."""
        return group_sizes(split.targets, split.bias, len(self.class_names), len(self.bias_names))

    @cached_property
    def validation_sizes(self) -> np.ndarray | None:
        """Numbers of validation images of each group, [C, B], or of each class, [C, 1], where some bias is unknown.

        None without validation images.
        """
        split = self.validation
        if not len(split):
            return None
        if (split.bias < 0).any():
            return np.bincount(split.targets, minlength=len(self.class_names))[:, None]
        return self.group_sizes(split)

    def fingerprint(self) -> Fingerprint:
        """Digests of every pixel and label, so that two records can be told to stem from the same data."""
        return Fingerprint(self._digest(self.train, self.test), self._digest(self.validation))

    def _digest(self, *splits: Split) -> str:
        digest = hashlib.sha256()
        digest.update((self.pixels or "").encode())
        for split in splits:
            for array in (split.targets, split.bias) if self.pixels else (split.images, split.targets, split.bias):
                digest.update(repr((array.shape, array.dtype.str)).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def balanced(dataset: BiasedDataset, balance: float) -> BiasedDataset:
    """The dataset with ``balance`` conflicting training samples per aligned one in each class (paper Fig. 5).

    Samples are removed, the same ones every time: conflicting ones to go below the natural ratio, aligned ones to
    go above it. Raises UserError where that cannot be done.
    """
    train = dataset.train
    if (train.bias < 0).any():
        raise UserError(f"balance needs the bias of every training image, which some of {dataset.name} lack.")
    aligned = train.bias == np.asarray(dataset.aligned_bias)[train.targets]
    rng = np.random.default_rng(0)
    kept = []
    for y, name in enumerate(dataset.class_names):
        sides = [np.flatnonzero((train.targets == y) & mask) for mask in (aligned, ~aligned)]
        many, few = len(sides[0]), len(sides[1])
        sizes = round(min(many, few / balance)) if balance > 0 else 0, round(min(few, many * balance))
        if min(sizes) < 1:
            raise UserError(
                f"balance is {balance}, which class '{name}' of {dataset.name} cannot have with {many:,} aligned and "
                f"{few:,} conflicting training images: choose another."
            )
        kept += [rng.permutation(side)[:size] for side, size in zip(sides, sizes, strict=True)]
    return replace(dataset, train=train.take(np.sort(np.concatenate(kept))))


def halved(split: Split) -> tuple[Split, Split]:
    """Two halves of a split that share its groups evenly, to within an image each: every other image of each.

    Images of unknown bias are a group of their class. Nothing but labels and their order decides, not even what the
    values are called, so that the halves are the same ones everywhere; the first has the odd image.
    """
    group = split.targets * (split.bias.max(initial=-1) + 2) + split.bias + 1
    _, first, member = np.unique(group, return_index=True, return_inverse=True)
    order = np.argsort(first[member], kind="stable")
    return split.take(np.sort(order[::2])), split.take(np.sort(order[1::2]))


def group_sizes(targets: np.ndarray, bias: np.ndarray, num_classes: int, num_biases: int) -> np.ndarray:
    """Number of samples of each (class, bias) group, int64 [C, B]; those of unknown bias (−1) are left out."""
    known = bias >= 0
    flat = targets[known] * num_biases + bias[known]
    return np.bincount(flat, minlength=num_classes * num_biases).reshape(num_classes, num_biases)


def associated_bias(sizes: np.ndarray) -> np.ndarray:
    """g of group sizes [C, B]: the bias value that each class holds most above chance, int64 [C].

    For two classes and two values this is the sign of their correlation, and never gives both classes the same
    value, as the plain majority within a class can.
    """
    return _above_chance(sizes).argmax(1)


EVIDENCE = 3.0


def tells_association(sizes: np.ndarray) -> bool:
    """Whether group sizes [C, B] say of every class which bias value goes with it, without a tie."""
    ranked = np.sort(_above_chance(sizes), axis=1)
    return bool((ranked[:, -1] - ranked[:, -2] > 1e-9).all())


def is_evident(sizes: np.ndarray) -> bool:
    """Whether group sizes [C, B] of a sample tell it of what was sampled from: the most of every class above chance by
    ``EVIDENCE`` standard errors (the standardised residuals of a contingency table).
    """
    total = max(sizes.sum(), 1)
    rows, columns = sizes.sum(1, keepdims=True) / total, sizes.sum(0, keepdims=True) / total
    errors = np.sqrt(total * rows * columns * (1 - rows) * (1 - columns))
    residuals = np.divide(_above_chance(sizes), errors, out=np.zeros(sizes.shape), where=errors > 0)
    return tells_association(sizes) and bool((residuals.max(1) >= EVIDENCE).all())


def _above_chance(sizes: np.ndarray) -> np.ndarray:
    return sizes - sizes.sum(1, keepdims=True) * sizes.sum(0, keepdims=True) / max(sizes.sum(), 1)


Builder = Callable[..., BiasedDataset]
"""``build(data_root: Path, **data)`` with the keys of the task's ``data`` table in recipes.toml."""

BUILDERS: dict[str, Builder] = {}
OUTLINES: dict[str, Builder] = {}


def register(name: str, outline: Builder | None = None) -> Callable[[Builder], Builder]:
    """Decorator that makes a builder known under ``name``. Raises ValueError for a name already taken.

    ``outline`` builds the same with or without its pixels, but neither downloads nor decodes: what is not there is a
    UserError. A builder that does neither needs none.
    """

    def add(builder: Builder) -> Builder:
        if name in BUILDERS:
            raise ValueError(f"Dataset '{name}' is registered twice.")
        BUILDERS[name] = builder
        OUTLINES[name] = outline or builder
        return builder

    return add


def load(builder: str, data_root: Path, balance: float = 0.0, **data: Any) -> BiasedDataset:
    """Build a dataset, ``balanced`` if that is asked for.

    Raises UserError when the builder is unknown, or its files are missing or damaged.
    """
    return _built(BUILDERS, builder, data_root, balance, **data)


def outline(builder: str, data_root: Path, balance: float = 0.0, **data: Any) -> BiasedDataset:
    """What ``load`` would give, perhaps with images of no pixels, from the files at hand. Raises UserError as that."""
    return _built(OUTLINES, builder, data_root, balance, **data)


def _built(
    builders: Mapping[str, Builder], builder: str, data_root: Path, balance: float, **data: Any
) -> BiasedDataset:
    if builder not in builders:
        raise unknown("dataset", builder, builders)
    dataset = builders[builder](data_root, **data)
    if balance:
        dataset = balanced(dataset, balance)
    present = np.bincount(dataset.train.targets, minlength=len(dataset.class_names))
    if (present == 0).any():
        absent = dataset.class_names[int(present.argmin())]
        raise UserError(f"Dataset '{dataset.name}' has no training image of class '{absent}': add some.")
    tested = dataset.group_sizes(dataset.test)
    if not (tested if dataset.scored is None else tested[dataset.scored]).any():
        raise UserError(
            f"Dataset '{dataset.name}' has no test image of the groups that accuracy is taken over: add some."
        )
    return dataset
