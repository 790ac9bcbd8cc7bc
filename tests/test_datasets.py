from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import datasets
from benchmark.errors import UserError
from datasets import BiasedDataset, balanced, colored_mnist, coloring


def write_mnist(folder: Path, suffix: str = ".gz") -> dict[str, np.ndarray]:
    """The four MNIST files with random content of the right size."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    arrays = {}
    for name, shape in colored_mnist.FILES.items():
        array = rng.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8)
        header = bytes((0, 0, 8, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)
        content = header + array.tobytes()
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content, 0) if suffix else content)
        arrays[name] = array
    return arrays


def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)


# ------------------------------------------------------------------------------------------- colouring


def test_shares_of_a_class_are_exact_and_need_no_random_draw() -> None:
    targets = np.random.default_rng(0).integers(0, 10, 20_000)
    colors = coloring.assign_colors(targets, 0.97)
    assert (colors == coloring.assign_colors(targets, 0.97)).all()
    for c in range(10):
        counts = np.bincount(colors[targets == c], minlength=10)
        size = counts.sum()
        assert abs(counts[c] - 0.97 * size) <= 1
        others = np.delete(counts, c)
        assert abs(others - 0.03 * size / 9).max() <= 1


def test_pixels_are_the_grey_value_times_one_colour_an_image() -> None:
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (500, 5, 5), dtype=np.uint8)
    grey[:, 0, 0] = 255
    targets = np.arange(500) % 10
    colors = np.arange(500) // 50
    split = coloring.tint_split(grey, targets, colors, severity=4, rng=rng)
    tint = split.images[:, :, 0, 0] / 255
    assert np.abs(split.images - grey[:, None] * tint[:, :, None, None]).max() <= 1
    assert (split.images[np.broadcast_to(grey[:, None] == 0, split.images.shape)] == 0).all()
    for color in range(10):
        drawn = tint[colors == color]
        assert np.abs(drawn.mean(0) - coloring.COLORS[color]).max() < 0.01
        assert drawn.std(0).max() < 0.01, "severity 4 is a deviation of 0.005"


@pytest.mark.parametrize(
    ("data", "message"), [({"ratio": 1.5, "severity": 4}, "ratio"), ({"ratio": 0.9, "severity": 7}, "severity")]
)
def test_settings_out_of_range_are_refused(data: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        datasets.load("colored_digits", Path("unused"), **data)


def test_colored_digits_meets_every_colour_in_every_class() -> None:
    dataset = datasets.load("colored_digits", Path("unused"), ratio=0.9, severity=4)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) / 10 == 1797
    assert dataset.group_sizes(dataset.train).min() >= 1
    aligned = dataset.train.bias == dataset.aligned_bias[dataset.train.targets]
    assert aligned.mean() == pytest.approx(0.9, abs=0.01)
    assert (dataset.group_sizes(dataset.test) == dataset.group_sizes(dataset.test)[:, :1]).all()


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


# --------------------------------------------------------------------------------------- Colored MNIST


@pytest.mark.parametrize(
    ("ratio", "aligned", "conflicting", "cell"), [(0.99, 59_402, 598, (6, 8)), (0.98, 58_801, 1_199, (12, 15))]
)
def test_counts_of_the_real_digits(
    data_root: Path, ratio: float, aligned: int, conflicting: int, cell: tuple[int, int]
) -> None:
    dataset = datasets.load("colored_mnist", data_root, ratio=ratio, severity=4, validation=0)
    sizes = dataset.group_sizes(dataset.train)
    off_diagonal = sizes[~np.eye(10, dtype=bool)]
    assert (np.trace(sizes), off_diagonal.sum()) == (aligned, conflicting)
    assert (off_diagonal.min(), off_diagonal.max()) == cell
    test = dataset.group_sizes(dataset.test)
    assert (test.min(), test.max(), np.trace(test), test.sum()) == (89, 114, 1_000, 10_000)


def test_held_out_digits_keep_the_ratio(data_root: Path) -> None:
    dataset = datasets.load("colored_mnist", data_root, ratio=0.98, severity=4, validation=5000)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (55_000, 5_000, 10_000)
    for split in (dataset.train, dataset.validation):
        assert np.trace(dataset.group_sizes(split)) / len(split) == pytest.approx(0.98, abs=0.001)


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
        datasets.load("colored_mnist", tmp_path, ratio=0.99, severity=4, validation=0)


def test_unknown_dataset_lists_the_known() -> None:
    with pytest.raises(UserError, match="did you mean 'colored_mnist'"):
        datasets.load("colored_mnits", Path("unused"))


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
