"""Image sets on disk, written in the layouts that the suite reads, and their listings."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from datasets import colored_mnist, dogs_cats, waterbirds
from datasets.folder import labels_digest
from datasets.images import IMAGE_SETS
from datasets.listing import Listing


def save_image(path: Path, seed: int = 0, size: tuple[int, int] = (44, 36)) -> None:
    """Random pixels; ``size`` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


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
    """As on a machine that is offline."""

    def fail(*arguments: object, **more: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)


def unreachable(*arguments: object, **more: object) -> None:
    """In place of what would fetch a file."""
    raise URLError("no route")


ATTRIBUTES = [f"Attribute_{number}" for number in range(40)]
ATTRIBUTES[2], ATTRIBUTES[3], ATTRIBUTES[7], ATTRIBUTES[9] = "Attractive", "Bags_Under_Eyes", "Big_Nose", "Blond_Hair"
ATTRIBUTES[20] = "Male"


def write_celeba(root: Path, rows: Iterable[tuple[int, int, int]], with_images: bool = True) -> Path:
    """A set in the official layout; a row is (partition, target as all four attributes, male)."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    attributes, partition = [], []
    signs = {value: f"{2 * value - 1:2d}" for value in (0, 1)}
    lines = {
        (y, male): " ".join(signs[male] if name == "Male" else signs[y] for name in ATTRIBUTES)
        for y in (0, 1)
        for male in (0, 1)
    }
    for number, (part, y, male) in enumerate(rows, start=1):
        attributes.append(f"{number:06d}.jpg {lines[y, male]}")
        partition.append(f"{number:06d}.jpg {part}")
        if with_images:
            save_image(folder / "img_align_celeba" / f"{number:06d}.jpg", number, (89, 109))
    head = f"{len(attributes)}\n{' '.join(ATTRIBUTES)} \n"
    (folder / "list_attr_celeba.txt").write_text(head + "\n".join(attributes) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return folder


# Big noses go with men; 12 training, 4 validation and 4 test images.
FACES = [(0, 1, 1)] * 4 + [(0, 1, 0)] + [(0, 0, 0)] * 6 + [(0, 0, 1)]
FACES += [(part, y, male) for part in (1, 2) for y in (0, 1) for male in (0, 1)]


def write_waterbirds(root: Path, rows: Iterable[tuple[int, int, int]], name: str = waterbirds.RELEASE) -> Path:
    """A set in the released layout; a row is (split, y, place)."""
    folder = root / name
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("img_id", "img_filename", "y", "split", "place", "place_filename"))
        for number, (split, y, place) in enumerate(rows, start=1):
            file_name = f"{1 + y:03d}.Some_bird/Some_bird_{number:04d}.jpg"
            writer.writerow((number, file_name, y, split, place, f"/o/ocean/{number}.jpg"))
    return folder


def write_dogs_cats(root: Path) -> Path:
    """Kaggle's names and lists of the published lengths; empty files stand for the images."""
    folder = root / "dogs_and_cats"
    (folder / "train").mkdir(parents=True)
    numbers = dict.fromkeys(dogs_cats.CLASSES, 0)
    for b, bias in enumerate(dogs_cats.BIASES):
        names = []
        for y, kind in enumerate(dogs_cats.CLASSES):
            count = int(dogs_cats.LISTED[y, b])
            names += [f"{kind}.{number}.jpg" for number in range(numbers[kind], numbers[kind] + count)]
            numbers[kind] += count
        (folder / f"list_{bias}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            (folder / "train" / name).touch()
    return folder


def write_imagenet(root: Path, tiny: bool) -> list[str]:
    """Ten classes of 20 training and 2 validation images in either layout of ImageNet; their WordNet ids."""
    classes = [f"n{number:08d}" for number in range(10)]
    annotations = []
    for y, each in enumerate(classes):
        inner = f"{each}/images" if tiny else each
        for number in range(20):
            save_image(root / f"train/{inner}/{each}_{number}.JPEG", number)
        for number in range(2):
            name = f"val_{2 * y + number}.JPEG"
            save_image(root / ("val/images" if tiny else f"val/{each}") / name, number)
            annotations.append(f"{name}\t{each}\t0\t0\t62\t62")
    if tiny:
        (root / "val/val_annotations.txt").write_text("\n".join(annotations) + "\n")
        (root / "words.txt").write_text("".join(f"{each}\tthing {each[-1]}, stuff\n" for each in classes))
    return classes


def write_folder(root: Path, with_bias: bool = True) -> Path:
    """A dataset of one's own: 8 training, 4 validation and 8 test images of 2 × 2 groups."""
    folder = root / "my_birds"
    rows = []
    for split, count in (("train", 2), ("val", 1), ("test", 2)):
        for y, b, copy in np.ndindex(2, 2, count):
            name = f"{split}/{y}{b}{copy}.png"
            save_image(folder / name, len(rows))
            known = with_bias or split == "test"
            rows.append((name, ("gull", "tern")[y], str(10 * b) if known else "", split))
    write_labels(folder, rows)
    return folder


def write_learnable_folder(root: Path, with_bias: bool = True, validation: int = 0) -> Path:
    """40 training and 16 test images: gulls are bright, and mostly on blue; ``validation`` ones are like the latter."""
    folder = root / "my_birds"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for split, n in (("train", 40), ("test", 16), ("validation", validation)):
        for number in range(n):
            y = number % 2
            b = number // 2 % 2 if split != "train" or number < 8 else y
            pixels = rng.integers(0, 120, (36, 40, 3), dtype=np.uint8) + np.uint8(80 * y)
            pixels[:, :, 2] = 200 * b
            name = f"{split}_{number}.png"
            Image.fromarray(pixels).save(folder / name)
            known = with_bias or split == "test"
            rows.append((name, ("tern", "gull")[y], ("green", "blue")[b] if known else "", split))
    write_labels(folder, rows)
    return folder


# Options of a training on such a folder that takes seconds; --set comes last, so that more may follow.
QUICKLY = (
    "--device", "cpu", "--set", "epochs=1", "batch_size=20", "data.size=32", "be.auxiliary_updates=1", "be.models=3",
)  # fmt: skip


def quickly(*settings: str) -> tuple[str, ...]:
    """These options with some settings in the place of their own."""
    keys = {each.partition("=")[0] for each in settings}
    return (*(each for each in QUICKLY if each.partition("=")[0] not in keys), *settings)


def write_labels(folder: Path, rows: Iterable[tuple[str, ...]], head: str = "file,target,bias,split") -> None:
    (folder / "labels.csv").write_text("\n".join((head, *(",".join(row) for row in rows))) + "\n")


def listing(name: str, root: Path, **data: object) -> Listing:
    """The checked listing of a registered set, for images of 32 pixels."""
    return IMAGE_SETS[name].listing(root, size=32, **data)


def own_listing(folder: Path, **data: object) -> Listing:
    """That of a folder of one's own."""
    return listing("folder", folder.parent, folder=folder.name, labels=labels_digest(folder), **data)


def sizes(found: Listing) -> list[list[list[int]]]:
    """Group sizes of the three splits."""
    return [found.group_sizes(part).tolist() for part in found.splits]


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first ``old``, which must be there, in a text file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def real_folder(root: Path, name: str) -> Path:
    """A set of the development images; the test is skipped where it is not there."""
    if not (root / name).is_dir():
        pytest.skip(f"{name} is not under BENCHMARK_DATA_ROOT")
    return root / name
