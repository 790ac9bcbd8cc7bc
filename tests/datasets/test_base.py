"""A dataset's fingerprint, its balance, the halves of a split, and the registry."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories.images import write_folder

import datasets
from benchmark.errors import UserError
from datasets import BiasedDataset, Split, balanced
from datasets.base import halved
from datasets.folder import labels_digest


def test_fingerprint_notices_a_single_pixel_and_a_single_label(tiny: BiasedDataset) -> None:
    images, bias = tiny.test.images.copy(), tiny.test.bias.copy()
    images[7, 1, 0, 1] ^= 1
    bias[3] = (bias[3] + 1) % 4
    prints = {
        each.fingerprint()
        for each in (
            tiny,
            replace(tiny, test=replace(tiny.test, images=images)),
            replace(tiny, test=replace(tiny.test, bias=bias)),
        )
    }
    assert len(prints) == 3


def test_balance_removes_conflicting_or_aligned_samples_class_by_class(tiny: BiasedDataset) -> None:
    before = tiny.group_sizes(tiny.train)
    aligned, conflicting = before.diagonal(), before.sum(1) - before.diagonal()
    for balance in (0.05, 0.1, 1.0):
        found = balanced(tiny, balance)
        sizes = found.group_sizes(found.train)
        kept = sizes.diagonal(), sizes.sum(1) - sizes.diagonal()
        for many, few, all_many, all_few in zip(*kept, aligned, conflicting, strict=True):
            assert (many, few) == (
                (all_many, round(all_many * balance))
                if all_few >= all_many * balance
                else (round(all_few / balance), all_few)
            )
        assert np.array_equal(found.train.targets, balanced(tiny, balance).train.targets), "the same ones every time"
        images = {
            image.tobytes(): (y, b)
            for image, y, b in zip(tiny.train.images, tiny.train.targets, tiny.train.bias, strict=True)
        }
        for image, y, b in zip(found.train.images, found.train.targets, found.train.bias, strict=True):
            assert images[image.tobytes()] == (y, b)
        assert found.test is tiny.test
        assert found.fingerprint() != tiny.fingerprint()


@pytest.mark.parametrize("balance", [-0.5, 0.001, 1000.0])
def test_a_balance_that_leaves_a_class_without_either_kind_is_refused(tiny: BiasedDataset, balance: float) -> None:
    with pytest.raises(UserError, match=f"balance is {balance}, which class 'a' of tiny cannot have with"):
        balanced(tiny, balance)


def test_balance_needs_bias_labels(tiny: BiasedDataset) -> None:
    unknown = tiny.train.bias.copy()
    unknown[3] = -1
    with pytest.raises(UserError, match="balance needs the bias of every training image, which some of tiny lack"):
        balanced(replace(tiny, train=replace(tiny.train, bias=unknown)), 0.5)


def test_unknown_dataset_lists_the_known() -> None:
    with pytest.raises(UserError, match="did you mean 'colored_mnist'"):
        datasets.load("colored_mnits", Path("unused"))


def test_a_class_that_a_part_of_the_data_has_no_training_images_of(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    for image in (folder / "train").glob("1*"):
        image.unlink()
    with pytest.raises(UserError, match="no training image of class 'tern'"):
        datasets.load("folder", tmp_path, folder="my_birds", labels=labels_digest(folder), size=32, subset=True)


def groups(split: Split) -> list[tuple[int, int]]:
    return list(zip(split.targets.tolist(), split.bias.tolist(), strict=True))


def test_halves_share_every_group_evenly_and_hold_every_image_once(tiny: BiasedDataset) -> None:
    unknown = tiny.train.bias.copy()
    unknown[::3] = -1
    for split in (tiny.train, replace(tiny.train, bias=unknown), tiny.validation.take(np.arange(0))):
        first, second = halved(split)
        assert 0 <= len(first) - len(second) <= 1
        together = [*map(bytes, first.images), *map(bytes, second.images)]
        assert sorted(together) == sorted(map(bytes, split.images))
        counts = Counter(groups(first)), Counter(groups(second))
        assert all(abs(counts[0][group] - counts[1][group]) <= 1 for group in groups(split))


def test_halves_depend_on_neither_the_names_of_bias_values_nor_on_chance(tiny: BiasedDataset) -> None:
    expected = halved(tiny.train)[0]
    np.random.default_rng().random()
    renamed = halved(replace(tiny.train, bias=np.array([2, 0, 3, 1])[tiny.train.bias]))[0]
    assert np.array_equal(expected.images, renamed.images)
    files = [f"{number}.png" for number in range(len(tiny.train))]
    named = halved(replace(tiny.train, files=files))[0]
    rows = [int(name.removesuffix(".png")) for name in named.files]
    assert np.array_equal(tiny.train.images[rows], expected.images)
    assert rows == sorted(rows)
