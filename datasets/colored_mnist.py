"""Colored MNIST (LfF's recipe; the paper cites its release by Lee et al., NeurIPS 2021)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UserError
from datasets.base import BiasedDataset, Split, register
from datasets.coloring import COLOR_NAMES, NUM_COLORS, assign_colors, tint_split

FOLDERS = ("MNIST/raw", "mnist/raw", "mnist", ".")
FILES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


def _from_files(data_root: Path, **data: Any) -> BiasedDataset:
    if absent := missing(data_root):
        raise UserError(
            f"{', '.join(absent)} of MNIST not found under {data_root}: fetch all with python -m datasets.prepare "
            "cmnist_99, or name their folder with --data-root."
        )
    return colored_mnist(data_root, **data)


@register("colored_mnist", outline=_from_files)
def colored_mnist(
    data_root: Path, *, ratio: float, severity: int, validation: int, validation_ratio: float
) -> BiasedDataset:
    """Colour MNIST: training digits with share ``ratio`` in their class's colour, test digits evenly in all.

    The last ``validation`` training digits are held out, with share ``validation_ratio`` in their class's colour:
    0.1 colours them evenly, like those of the test, ``ratio`` like those of the training. Finds the four MNIST files,
    gzipped or not, under ``data_root`` or downloads them there; raises UserError where neither works.
    """
    digits = {name: read_idx(path, FILES[name]) for name, path in find_or_download(data_root).items()}
    images, targets = digits["train-images-idx3-ubyte"], digits["train-labels-idx1-ubyte"].astype(np.int64)
    if not 0 <= validation < len(images):
        raise UserError(f"data.validation is {validation}: it must lie between 0 and {len(images) - 1}.")
    test_images = digits["t10k-images-idx3-ubyte"]
    test_targets = digits["t10k-labels-idx1-ubyte"].astype(np.int64)
    cut = len(images) - validation
    rng = np.random.default_rng(0)

    def colored(grey: np.ndarray, targets: np.ndarray, share: float, name: str = "ratio") -> Split:
        return tint_split(grey, targets, assign_colors(targets, share, name), severity, rng)

    return BiasedDataset(
        name="Colored MNIST",
        class_names=tuple("0123456789"),
        bias_names=COLOR_NAMES,
        aligned_bias=np.arange(NUM_COLORS),
        train=colored(images[:cut], targets[:cut], ratio),
        validation=colored(images[cut:], targets[cut:], validation_ratio, "validation_ratio"),
        test=colored(test_images, test_targets, 1 / NUM_COLORS),
    )


def find_or_download(data_root: Path) -> dict[str, Path]:
    """Where each of the four files lies."""
    found = {name: path for name in FILES if (path := _find(data_root, name))}
    if len(found) < len(FILES):
        _download(data_root / FOLDERS[0])
        found = {name: path for name in FILES if (path := _find(data_root, name))}
    return found


def missing(data_root: Path) -> list[str]:
    """The files that are not under ``data_root``."""
    return [name for name in FILES if not _find(data_root, name)]


def _find(data_root: Path, name: str) -> Path | None:
    candidates = (data_root / folder / f"{name}{suffix}" for folder in FOLDERS for suffix in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _download(folder: Path) -> None:
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    reasons = []
    for mirror in MNIST.mirrors:
        try:
            for file, md5 in MNIST.resources:
                download_url(mirror + file, str(folder), filename=file, md5=md5)
            return
        except (OSError, RuntimeError) as error:
            reasons.append(f"{mirror}: {error}")
    raise UserError(
        f"MNIST was not found and could not be downloaded ({'; '.join(reasons)}): put "
        f"{', '.join(f'{name}.gz' for name in FILES)} into {folder}, or name their folder with --data-root."
    )


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a file of unsigned bytes in MNIST's IDX format. Raises UserError unless it holds exactly ``shape``."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it and run again to download it.") from error
    header = bytes((0, 0, 8, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)
    if content[: len(header)] != header or len(content) != len(header) + np.prod(shape):
        raise UserError(
            f"{path} does not hold {' × '.join(map(str, shape))} bytes in IDX format (it has {len(content)} "
            "bytes): delete it and run again to download it."
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
