"""Colored MNIST: counts of the real digits, and files found, downloaded or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from factories.images import no_download, write_mnist

import datasets
from benchmark.errors import UserError
from datasets import colored_mnist


@pytest.mark.parametrize(
    ("ratio", "aligned", "conflicting", "cell"), [(0.99, 59_402, 598, (6, 8)), (0.98, 58_801, 1_199, (12, 15))]
)
def test_counts_of_the_real_digits(
    data_root: Path, ratio: float, aligned: int, conflicting: int, cell: tuple[int, int]
) -> None:
    dataset = datasets.load("colored_mnist", data_root, ratio=ratio, severity=4, validation=0, validation_ratio=0.1)
    sizes = dataset.group_sizes(dataset.train)
    off_diagonal = sizes[~np.eye(10, dtype=bool)]
    assert (np.trace(sizes), off_diagonal.sum()) == (aligned, conflicting)
    assert (off_diagonal.min(), off_diagonal.max()) == cell
    test = dataset.group_sizes(dataset.test)
    assert (test.min(), test.max(), np.trace(test), test.sum()) == (89, 114, 1_000, 10_000)


def test_held_out_digits_are_coloured_as_asked_for_and_change_nothing_else(data_root: Path) -> None:
    evenly, alike = (
        datasets.load("colored_mnist", data_root, ratio=0.98, severity=4, validation=5000, validation_ratio=ratio)
        for ratio in (0.1, 0.98)
    )
    assert (len(evenly.train), len(evenly.validation), len(evenly.test)) == (55_000, 5_000, 10_000)
    for split in (evenly.train, alike.train, alike.validation):
        assert np.trace(alike.group_sizes(split)) / len(split) == pytest.approx(0.98, abs=0.001)
    held_out = evenly.group_sizes(evenly.validation)
    assert held_out.min() >= 40, "every group that is tested can be validated"
    assert np.ptp(held_out / held_out.sum(1, keepdims=True)) < 0.005
    assert np.array_equal(evenly.train.images, alike.train.images)
    assert np.array_equal(evenly.test.images, alike.test.images)
    one, other = evenly.fingerprint(), alike.fingerprint()
    assert one.data == other.data
    assert one.validation != other.validation


@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist/raw", "mnist", "."])
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_files_are_found_where_people_keep_them(tmp_path: Path, folder: str, suffix: str) -> None:
    root = tmp_path / "root"
    arrays = write_mnist(root / folder if folder != "." else root, suffix)
    found = colored_mnist.find_or_download(root)
    assert set(found) == set(arrays)
    name = "t10k-images-idx3-ubyte"
    assert (colored_mnist.read_idx(found[name], colored_mnist.FILES[name]) == arrays[name]).all()


def test_missing_digits_that_cannot_be_downloaded_name_the_files_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_download(monkeypatch)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz.*MNIST.raw.*--data-root"):
        colored_mnist.find_or_download(tmp_path)


def test_missing_digits_are_downloaded_with_their_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "mirror"
    write_mnist(source)
    asked = []

    def download(url: str, root: str, filename: str, md5: str) -> None:
        asked.append((filename, len(md5)))
        if "s3" in url:
            raise OSError("first mirror is down")
        Path(root).mkdir(parents=True, exist_ok=True)
        shutil.copy(source / filename, root)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    assert len(colored_mnist.find_or_download(tmp_path / "data")) == 4
    assert all(length == 32 for _, length in asked)


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("damage", ["truncated", "empty", "other"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, damage: str) -> None:
    write_mnist(tmp_path / "mnist", suffix)
    path = tmp_path / "mnist" / f"train-labels-idx1-ubyte{suffix}"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "other": b"<html>" * 99}[damage])
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte.*delete it"):
        datasets.load("colored_mnist", tmp_path, ratio=0.99, severity=4, validation=0, validation_ratio=0.1)
