"""Image sets: their layouts, group counts, preparation and downloads, and what happens to bad input."""

from __future__ import annotations

import csv
import errno
import hashlib
import http.server
import io
import os
import re
import shutil
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import recipes
from benchmark.errors import UserError
from benchmark.recipes import tomllib
from datasets import base, celeba, dogs_cats, download, imagenet_b, images, prepare, waterbirds
from datasets.download import Archive
from datasets.folder import labels_digest
from datasets.images import IMAGE_SETS, Listing

ATTRIBUTES = [f"Attribute_{number}" for number in range(40)]
ATTRIBUTES[2], ATTRIBUTES[3], ATTRIBUTES[7], ATTRIBUTES[9] = "Attractive", "Bags_Under_Eyes", "Big_Nose", "Blond_Hair"
ATTRIBUTES[20] = "Male"


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "prepared"
    monkeypatch.setenv("BENCHMARK_PREPARED", str(folder))
    return folder


def save(path: Path, seed: int = 0, size: tuple[int, int] = (44, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


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
            save(folder / "img_align_celeba" / f"{number:06d}.jpg", number, (89, 109))
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


def write_folder(root: Path, with_bias: bool = True) -> Path:
    """A dataset of one's own: 8 training, 4 validation and 8 test images of 2 × 2 groups."""
    folder = root / "my_birds"
    rows = []
    for split, count in (("train", 2), ("val", 1), ("test", 2)):
        for y, b, copy in np.ndindex(2, 2, count):
            name = f"{split}/{y}{b}{copy}.png"
            save(folder / name, len(rows))
            known = with_bias or split == "test"
            rows.append((name, ("gull", "tern")[y], str(10 * b) if known else "", split))
    write_labels(folder, rows)
    return folder


def write_labels(folder: Path, rows: Iterable[tuple[str, ...]], head: str = "file,target,bias,split") -> None:
    (folder / "labels.csv").write_text("\n".join((head, *(",".join(row) for row in rows))) + "\n")


def listing(name: str, root: Path, **data: object) -> Listing:
    return IMAGE_SETS[name].listing(root, size=32, **data)


def own(folder: Path, **data: object) -> Listing:
    return listing("folder", folder.parent, folder=folder.name, labels=labels_digest(folder), **data)


def sizes(found: Listing) -> list[list[list[int]]]:
    return [found.group_sizes(part).tolist() for part in found.splits]


# ------------------------------------------------------------------------------------- original layouts


def test_celeba_in_its_official_layout(tmp_path: Path) -> None:
    write_celeba(tmp_path, FACES)
    found = listing("celeba", tmp_path, target="Big_Nose", subset=True)
    assert sizes(found) == [[[6, 1], [1, 4]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]]
    assert found.aligned_bias.tolist() == [0, 1]
    dataset = images.dataset(found, 32)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [12, 4, 4]
    assert dataset.train.images.shape == (12, 3, 32, 32)
    with Image.open(tmp_path / "celeba/img_align_celeba/000003.jpg") as image:
        box = (0, 10, 89, 99)  # the centre square of 89 × 109
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR, box))
    assert np.array_equal(dataset.train.images[2].transpose(1, 2, 0), expected)


def test_full_celeba_has_the_published_groups(tmp_path: Path) -> None:
    rows = [
        (part, y, male)
        for part, split in enumerate(images.SPLITS)
        for y in (0, 1)
        for male in (0, 1)
        for _ in range(celeba.BLOND_GROUPS[split][y][male])
    ]
    write_celeba(tmp_path, rows, with_images=False)
    found = IMAGE_SETS["celeba"].lister(tmp_path, target="Blond_Hair")
    assert len(found.files) == 202_599
    assert found.files[162_770] == "162771.jpg"
    assert found.deviations() == []
    # Most people without blond hair are women too; the correlation calls men their aligned value.
    assert found.aligned_bias.tolist() == [1, 0]


def test_thumbnails_are_not_taken_for_the_release(tmp_path: Path) -> None:
    folder = tmp_path / "celeba"  # faces of 89 × 109 pixels
    write_celeba(tmp_path, FACES)
    listed = IMAGE_SETS["celeba"].lister(tmp_path, target="Big_Nose")
    assert images.large_enough(listed, 178, subset=False) is listed, "enlarged twofold, as the release is by a quarter"
    with pytest.raises(UserError, match=r"CelebA: images of 89 pixels in .* are enlarged to 224: put the original"):
        images.large_enough(listed, 224, subset=False)
    (folder / "img_align_celeba/000001.jpg").write_bytes(b"broken")
    accepted = images.large_enough(listed, 224, subset=True)
    assert accepted.notes == (f"Part of CelebA: images of 89 pixels in {listed.root} are enlarged to 224.",)


def test_the_thumbnails_of_the_development_data_are_no_source_of_the_paper_preset(real: Path) -> None:
    with pytest.raises(UserError, match=r"Dogs & Cats: images of 64 pixels in .* are enlarged to 224"):
        IMAGE_SETS["dogs_cats"].listing(real, size=224, ratio=0.95)


def test_a_part_of_celeba_is_refused_and_can_be_accepted(tmp_path: Path) -> None:
    write_celeba(tmp_path, FACES)
    with pytest.raises(UserError, match=r"train: 162,770 images expected, 12 found.*data.subset=true"):
        listing("celeba", tmp_path, target="Big_Nose")
    (tmp_path / "celeba/img_align_celeba/000001.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 20 listed images are missing, the first is .*000001\.jpg"):
        listing("celeba", tmp_path, target="Big_Nose")
    found = listing("celeba", tmp_path, target="Big_Nose", subset=True)
    assert sizes(found)[0] == [[6, 1], [1, 3]]
    assert any("Part of CelebA" in note and "11 found" in note for note in found.notes)


def test_full_waterbirds_has_the_published_groups(tmp_path: Path) -> None:
    rows = [
        (number, y, place)
        for number, split in enumerate(images.SPLITS)
        for y in (0, 1)
        for place in (0, 1)
        for _ in range(waterbirds.GROUPS[split][y][place])
    ]
    write_waterbirds(tmp_path, reversed(rows))
    found = IMAGE_SETS["waterbirds"].lister(tmp_path)
    assert found.deviations() == []
    assert sizes(found) == [waterbirds.GROUPS[split] for split in images.SPLITS]
    write_waterbirds(tmp_path / "other", rows[1:])
    assert (
        "train: 4,795 images expected, 4,794 found" in IMAGE_SETS["waterbirds"].lister(tmp_path / "other").deviations()
    )
    rows[0] = (0, 0, 1)
    write_waterbirds(tmp_path / "third", rows)
    found = IMAGE_SETS["waterbirds"].lister(tmp_path / "third")
    assert found.deviations()[0] == "train, land bird with land: 3,498 images expected, 3,497 found"


def test_dogs_and_cats_of_both_ratios_share_images_and_test_set(tmp_path: Path) -> None:
    write_dogs_cats(tmp_path)
    most, fewer = (listing("dogs_cats", tmp_path, ratio=ratio) for ratio in (0.95, 0.99))
    assert sizes(most) == [[[3798, 200], [223, 4239]], [[0, 0], [0, 0]], [[500, 500], [500, 500]]]
    assert sizes(fewer)[0] == [[3798, 38], [43, 4239]]
    assert most.files == fewer.files
    assert most.splits[2] == fewer.splits[2]
    train, _, test = ({each for each in most.files[part]} for part in most.splits)
    assert len(train) == 8460
    assert len(test) == 2000
    assert not train & test
    assert most.scored is not None
    assert most.group_sizes(most.splits[2])[most.scored].tolist() == [500, 500]
    assert images.prepared_path(most, 32) == images.prepared_path(fewer, 32)
    with pytest.raises(UserError, match=r"data.ratio is 0.3: it must lie between 0.6 and 1"):
        listing("dogs_cats", tmp_path, ratio=0.3)


def write_imagenet(root: Path, tiny: bool) -> list[str]:
    classes = [f"n{number:08d}" for number in range(10)]
    annotations = []
    for y, each in enumerate(classes):
        inner = f"{each}/images" if tiny else each
        for number in range(20):
            save(root / f"train/{inner}/{each}_{number}.JPEG", number)
        for number in range(2):
            name = f"val_{2 * y + number}.JPEG"
            save(root / ("val/images" if tiny else f"val/{each}") / name, number)
            annotations.append(f"{name}\t{each}\t0\t0\t62\t62")
    if tiny:
        (root / "val/val_annotations.txt").write_text("\n".join(annotations) + "\n")
        (root / "words.txt").write_text("".join(f"{each}\tthing {each[-1]}, stuff\n" for each in classes))
    return classes


@pytest.mark.parametrize("tiny", [False, True], ids=["imagenet", "tiny-imagenet-200"])
def test_imagenet_b_renders_every_test_image_under_all_corruptions(tmp_path: Path, tiny: bool) -> None:
    classes = write_imagenet(tmp_path / ("tiny-imagenet-200" if tiny else "imagenet"), tiny)
    found = listing("imagenet_b", tmp_path, classes=classes, ratio=0.95, severity=4)
    train, _, test = (np.array(each) for each in sizes(found))
    assert train.sum() == 200
    assert np.diag(train).tolist() == [19] * 10
    assert (test == 2).all()
    assert found.class_names[3] == ("thing 3" if tiny else "n00000003")
    assert "reconstruction" in found.name.lower()
    assert "reconstruction" in recipes.task_title("imagenet_b")
    with pytest.raises(UserError, match="ten corruptions"):
        listing("imagenet_b", tmp_path, classes=classes[:9], ratio=0.95, severity=4)


def test_corruptions_depend_on_the_image_and_nothing_else() -> None:
    pytest.importorskip("imagecorruptions", reason="needs the extra imagenet-b")
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    corrupt = imagenet_b.Corrupt(4)
    for bias in range(10):
        first = corrupt(image, bias, "a.jpg")
        np.random.seed(bias)  # noqa: NPY002 - the state that must not matter, nor be changed
        state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
        assert np.array_equal(corrupt(image, bias, "a.jpg"), first)
        assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]  # noqa: NPY002
        assert first.dtype == np.uint8
        assert not np.array_equal(first, image)
    assert not np.array_equal(corrupt(image, 0, "a.jpg"), corrupt(image, 0, "b.jpg"))


def test_imagenet_b_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(UserError, match="pip install") as caught:
        imagenet_b.Corrupt(4)(np.zeros((32, 32, 3), np.uint8), 0, "a.jpg")
    (extra,) = re.findall(r"'\.\[(.+)\]'", str(caught.value))
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert extra in project["project"]["optional-dependencies"]
    assert "_" not in extra, "pip before 23.3 finds an extra by its normalised name only, and goes on without it"


# ------------------------------------------------------------------------------- the real development data


@pytest.fixture
def real() -> Path:
    root = os.environ.get("BENCHMARK_DATA_ROOT")
    if not root:
        pytest.skip("BENCHMARK_DATA_ROOT is not set")
    return Path(root)


def real_folder(root: Path, name: str) -> Path:
    if not (root / name).is_dir():
        pytest.skip(f"{name} is not under BENCHMARK_DATA_ROOT")
    return root / name


@pytest.mark.parametrize("target", ["Big_Nose", "Attractive", "Blond_Hair", "Bags_Under_Eyes"])
def test_real_celeba_counted_by_hand(real: Path, target: str) -> None:
    folder = real_folder(real, "celeba")
    part = dict(line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines())
    _, names, *rows = (folder / "list_attr_celeba.txt").read_text().splitlines()
    y, male = names.split().index(target) + 1, names.split().index("Male") + 1
    counted = Counter(
        (part[row[0]], row[y], row[male])
        for row in map(str.split, rows)
        if (folder / "img_align_celeba" / row[0]).exists()
    )
    expected = [[[counted[p, a, b] for b in ("-1", "1")] for a in ("-1", "1")] for p in "012"]
    assert sizes(listing("celeba", real, target=target, subset=True)) == expected


def test_real_waterbirds_layout_counted_by_hand(real: Path) -> None:
    folder = real_folder(real, "waterbirds_surrogate")
    with (folder / "metadata.csv").open() as file:
        counted = Counter((row["split"], row["y"], row["place"]) for row in csv.DictReader(file))
    expected = [[[counted[s, y, b] for b in "01"] for y in "01"] for s in "012"]
    found = listing("waterbirds_layout", real)
    assert sizes(found) == expected
    assert "not comparable with Waterbirds" in found.notes[0]


def test_real_dogs_and_cats_counted_by_hand(real: Path) -> None:
    folder = real_folder(real, "dogs_and_cats")
    bright = set((folder / "list_bright.txt").read_text().split())
    dark = set((folder / "list_dark.txt").read_text().split())
    found = listing("dogs_cats", real, ratio=0.95)
    for part in found.splits:
        counted = Counter((file[:3], file in bright, file in dark) for file in found.files[part])
        expected = [[counted[kind, bias == 1, bias == 0] for bias in (0, 1)] for kind in ("cat", "dog")]
        assert found.group_sizes(part).tolist() == expected
    assert len(set(found.files)) == 16_785


def test_real_tiny_imagenet_counted_by_hand(real: Path) -> None:
    folder = real_folder(real, "tiny-imagenet-200")
    data = recipes.data_settings("imagenet_b", "reduced")
    found = IMAGE_SETS["imagenet_b"].listing(real, **data)
    train, _, test = (np.array(each) for each in sizes(found))
    for y, each in enumerate(data["classes"]):
        assert train[y].sum() == len(list((folder / "train" / each / "images").glob("*.JPEG")))
        lines = (folder / "val/val_annotations.txt").read_text().splitlines()
        assert (test[y] == sum(line.split("\t")[1] == each for line in lines)).all()


# ------------------------------------------------------------------------------------- a folder of one's own


def test_own_folder(tmp_path: Path) -> None:
    found = own(write_folder(tmp_path))
    assert sizes(found) == [[[2, 2], [2, 2]], [[1, 1], [1, 1]], [[2, 2], [2, 2]]]
    assert found.class_names == ("gull", "tern")
    assert found.bias_names == ("0", "10")


def test_own_folder_without_bias_of_training_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, with_bias=False)
    found = own(folder)
    assert (found.bias[found.splits[0]] == -1).all()
    assert sizes(found) == [[[0, 0], [0, 0]], [[0, 0], [0, 0]], [[2, 2], [2, 2]]]
    assert "bias unknown" in prepare.groups(found)


@pytest.mark.parametrize(("labelled", "told"), [("train", True), ("val", True), ("test", False)])
def test_the_bias_of_a_class_comes_from_the_first_labels_that_tell_it(
    tmp_path: Path, labelled: str, told: bool
) -> None:
    """Gulls go with bias 10. Where only terns have labels, nothing can be said of gulls, whatever argmax gives."""
    folder = write_folder(tmp_path)
    rows = []
    for split, sizes in (("train", (1, 3, 3, 1)), ("val", (1, 2, 2, 1)), ("test", (1, 1, 1, 1))):
        for group, size in enumerate(sizes):
            for copy in range(size):
                name = f"{split}/{group}-{copy}.png"
                save(folder / name, len(rows))
                y, b = divmod(group, 2)
                known = split == labelled or split == "test" or (split == "train" and y == 1)
                rows.append((name, ("gull", "tern")[y], str(10 * b) if known else "", split))
    write_labels(folder, rows)
    found = own(folder)
    assert bool(found.notes) is not told
    if told:
        assert found.aligned_bias.tolist() == [1, 0]
    else:
        assert "cannot be told from the labels" in found.notes[0]


def test_labels_that_are_numbers_have_one_order(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("gull", "10").replace("tern", "-9"))
    assert own(folder).class_names == ("-9", "10")
    path.write_text(path.read_text().replace("10,", "1,").replace("-9,", "01,"))
    assert own(folder).class_names == ("01", "1"), "equal numbers by name, in every process"
    path.write_text(path.read_text().replace("01,", "--1,"))
    assert own(folder).class_names == ("--1", "1")


def test_own_folder_keeps_its_task_when_moved_but_not_when_relabelled(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    recipes.add_folder(folder)
    before = recipes.resolve("my_birds", "vanilla")
    moved = tmp_path / "elsewhere" / "my_birds"
    shutil.copytree(folder, moved)
    recipes.add_folder(moved)
    assert recipes.resolve("my_birds", "vanilla") == before
    write_labels(moved, [("train/000.png", "gull", "0", "train")])
    recipes.add_folder(moved)
    assert recipes.resolve("my_birds", "vanilla") != before
    with pytest.raises(UserError, match="has changed since"):
        IMAGE_SETS["folder"].lister(tmp_path, folder="my_birds", labels="0")
    folder.rename(tmp_path / "waterbirds")
    with pytest.raises(UserError, match="name of the task 'waterbirds'"):
        recipes.add_folder(tmp_path / "waterbirds")


OWN_FAULTS: dict[str, tuple[Callable[[list[list[str]]], object], str]] = {
    "twice": (lambda rows: rows.append(rows[0]), "lists 'train/000.png' more than once"),
    "same file": (lambda rows: rows.append(["./train/000.png", *rows[0][1:]]), "lists 'train/000.png' more than once"),
    "split": (lambda rows: rows[0].__setitem__(3, "training"), "is 'training', but must be one of train, validation"),
    "target": (lambda rows: rows[2].__setitem__(1, ""), "'train/010.png' has no target"),
    "bias": (lambda rows: rows[-1].__setitem__(2, ""), "'test/111.png' has no bias"),
    "group": (lambda rows: rows.__delitem__(slice(-2, None)), "no test image of target 'tern' and bias '10'"),
    "training": (lambda rows: rows.__delitem__(slice(4, 8)), r"labels.csv has no training image of target 'tern'"),
    "missing": (lambda rows: rows[0].__setitem__(0, "gone.png"), "1 of 20 listed images are missing"),
    "kinds": (lambda rows: [row.__setitem__(1, "gull") for row in rows], "1 kinds of target"),
}


@pytest.mark.parametrize("fault", OWN_FAULTS)
def test_bad_labels_of_ones_own_are_named(tmp_path: Path, fault: str) -> None:
    folder = write_folder(tmp_path)
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    change, message = OWN_FAULTS[fault]
    change(rows)
    write_labels(folder, [tuple(row) for row in rows])
    with pytest.raises(UserError, match=message):
        own(folder)


def test_labels_without_a_column_or_a_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    write_labels(folder, [("a.png", "x", "train")], "file,label,split")
    with pytest.raises(UserError, match=r"has no column 'target' \(it has file, label, split\)"):
        own(folder)
    with pytest.raises(UserError, match=r"labels\.csv cannot be read .*file,target,bias,split"):
        recipes.add_folder(tmp_path)
    (folder / "labels.csv").write_text("file;target;bias;split\na.png;x;y;train\n")
    with pytest.raises(UserError, match="commas between columns"):
        own(folder)
    (folder / "labels.csv").write_text("file,target,bias,split\nmöwe.png,x,y,train\n", encoding="utf-16")
    with pytest.raises(UserError, match="not in UTF-8"):
        own(folder)


def test_a_class_that_a_part_of_the_data_has_no_training_images_of(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    for image in (folder / "train").glob("1*"):
        image.unlink()
    with pytest.raises(UserError, match="no training image of class 'tern'"):
        base.load("folder", tmp_path, folder="my_birds", labels=labels_digest(folder), size=32, subset=True)


# --------------------------------------------------------------------------------------- bad label files


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_bad_celeba_files_are_named(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, FACES)
    attributes, partition = folder / "list_attr_celeba.txt", folder / "list_eval_partition.txt"
    good = attributes.read_text(), partition.read_text()

    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message):
            listing("celeba", tmp_path, target="Big_Nose", subset=True)
        attributes.write_text(good[0])
        partition.write_text(good[1])

    edit(attributes, "Big_Nose", "Large_Nose")
    refused("list_attr_celeba.txt has no column 'Big_Nose'")
    edit(attributes, "000002.jpg  1  1  1  1  1  1  1  1", "000002.jpg  1  1  1  1  1  1  1  3")
    refused("the Big_Nose of '000002.jpg' is '3', but must be one of -1, 1")
    edit(attributes, "000002.jpg", "000001.jpg")
    refused("lists '000001.jpg' more than once")
    edit(attributes, "20\n", "21\n")
    refused("announces 21 images but has 20")
    edit(attributes, "20\n", "")
    refused("does not begin with the number of images")
    edit(partition, "000003.jpg 0", "000003.jpg 3")
    refused("the part of '000003.jpg' is '3', but must be one of 0, 1, 2")
    edit(partition, "000020.jpg 2\n", "")
    refused("'000020.jpg' is in only one of")
    shutil.rmtree(folder / "img_align_celeba")
    refused(r"CelebA was not found under .*lacks img_align_celeba.*mmlab")


def test_bad_waterbirds_files_are_named(tmp_path: Path) -> None:
    folder = write_waterbirds(tmp_path, [(0, 0, 0), (0, 1, 1), (2, 0, 1)], "waterbirds_layout")
    path, good = folder / "metadata.csv", (folder / "metadata.csv").read_text()
    for old, new, message in (
        ("place,", "spot,", "has no column 'place'"),
        (",0,0,0,", ",2,0,0,", "the y of '001.Some_bird/Some_bird_0001.jpg' is '2'"),
        (",1,0,1,", ",1,5,1,", "the split of .* is '5', but must be one of 0, 1, 2"),
        ("Some_bird_0003", "Some_bird_0001", "more than once"),
        ("\n", '\n"', "cannot be read"),
    ):
        edit(path, old, new)
        with pytest.raises(UserError, match=message):
            listing("waterbirds_layout", tmp_path)
        path.write_text(good)


def test_bad_dogs_and_cats_lists_are_named(tmp_path: Path) -> None:
    folder = write_dogs_cats(tmp_path)
    path, good = folder / "list_bright.txt", (folder / "list_bright.txt").read_text()
    first, second = good.split()[:2]
    for new, message in (
        ("bird.1.jpg", "'bird.1.jpg', which is neither"),
        (second, f"lists '{second}' more than once"),
        ("", "has 3,085 cats, 3,086 expected"),
        ("cat.0.jpg", "'cat.0.jpg' is in both"),
    ):
        edit(path, f"{first}\n", f"{new}\n")
        with pytest.raises(UserError, match=message):
            listing("dogs_cats", tmp_path, ratio=0.95)
        path.write_text(good)


# ------------------------------------------------------------------------------------------- preparation


def test_an_array_is_made_once_and_again_when_a_source_changes(tmp_path: Path, prepared: Path) -> None:
    folder = write_folder(tmp_path)
    found = own(folder)
    array, digest = images.prepare(found, 32)
    made = images.prepared_path(found, 32).stat().st_mtime_ns
    again, digest_again = images.prepare(own(folder), 32)
    assert images.prepared_path(found, 32).stat().st_mtime_ns == made
    assert digest == digest_again
    assert np.array_equal(array, again)
    assert images.prepare(found, 40)[0].shape == (20, 3, 40, 40)
    save(folder / "train/000.png", 99)
    changed, other = images.prepare(own(folder), 32)
    assert other != digest
    assert not np.array_equal(changed[0], array[0])
    assert np.array_equal(changed[1:], array[1:])
    assert len(list(prepared.iterdir())) == 3


def test_many_processes_decode_what_one_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = own(write_folder(tmp_path))
    monkeypatch.setattr(images, "CHUNK", 7)
    one, digest = images.prepare(found, 32)
    images.prepared_path(found, 32).rename(tmp_path / "one.npy")
    monkeypatch.setattr(images, "FEW", 0)
    monkeypatch.setattr(images, "cores", lambda: 2)
    many, digest_of_many = images.prepare(found, 32)
    assert digest == digest_of_many
    assert np.array_equal(one, many)


@pytest.mark.parametrize(("cut", "processes"), [(0, 1), (60, 1), (60, 2)])
def test_a_broken_image_is_named_and_nothing_is_left(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, cut: int, processes: int
) -> None:
    folder = write_folder(tmp_path)
    broken = folder / "test/110.png"
    broken.write_bytes(broken.read_bytes()[:cut])
    monkeypatch.setattr(images, "FEW", 100 if processes == 1 else 0)
    monkeypatch.setattr(images, "CHUNK", 10)
    monkeypatch.setattr(images, "cores", lambda: processes)
    with pytest.raises(UserError, match=r"Image .*test/110\.png cannot be read"):
        images.prepare(own(folder), 32)
    assert list(prepared.iterdir()) == []


def test_an_image_of_more_than_eight_bits_is_refused_rather_than_clipped_to_white(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    gradient = np.linspace(0, 65535, 44 * 36).reshape(36, 44).astype(np.uint16)
    Image.fromarray(gradient).save(folder / "train/000.png")
    with pytest.raises(UserError, match=r"000\.png has more than 8 bits a channel"):
        images.prepare(own(folder), 32)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, FACES)
    image = folder / "img_align_celeba/000007.jpg"
    image.write_bytes(image.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"000007\.jpg cannot be read .*truncated"):
        images.prepare(listing("celeba", tmp_path, target="Big_Nose", subset=True), 32)


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_is_said_and_nothing_is_left(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    found = own(write_folder(tmp_path))

    def no_space(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if late:
        monkeypatch.setattr(images._Job, "decode", no_space)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": 100}))
    with pytest.raises(UserError, match=r"no room for my_birds: it needs 0\.00 GB.*BENCHMARK_PREPARED"):
        images.prepare(found, 32)
    assert list(prepared.iterdir()) == []


def test_an_interrupted_preparation_leaves_nothing(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = own(write_folder(tmp_path))

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    decode = images._Job.decode
    monkeypatch.setattr(images._Job, "decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        images.prepare(found, 32)
    monkeypatch.setattr(images._Job, "decode", decode)
    assert list(prepared.iterdir()) == []
    # What a killed process leaves is not taken for an array, and goes away in time.
    leftover = prepared / f"{images.prepared_path(found, 32).name}.123.partial"
    leftover.write_bytes(b"half")
    os.utime(leftover, (time.time() - 7200,) * 2)
    images.prepare(found, 32)
    assert not leftover.exists()


def test_a_cut_array_is_refused(tmp_path: Path) -> None:
    found = own(write_folder(tmp_path))
    images.prepare(found, 32)
    path = images.prepared_path(found, 32)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="is not what was prepared: delete it"):
        images.prepare(found, 32)
    with pytest.raises(UserError, match=r"data.size is 8"):
        images.prepared_path(found, 8)


# --------------------------------------------------------------------------------------------- downloads


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes], list[str | None]]]:
    """A web server: its address, the files it has, and the ranges it was asked for."""
    files: dict[str, bytes] = {}
    ranges: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, asked = files.get(self.path), self.headers.get("Range")
            if content is None:
                self.send_error(404)
                return
            ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if asked and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", files, ranges
        httpd.shutdown()
        thread.join()


def tar(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def test_a_download_tries_mirrors_and_continues(tmp_path: Path, server: tuple[str, dict[str, bytes], list]) -> None:
    address, files, ranges = server
    files["/set.tgz"] = tar({"set/a.txt": b"a" * 5000})
    checksum = f"sha256:{hashlib.sha256(files['/set.tgz']).hexdigest()}"
    (tmp_path / "set.tgz.partial").write_bytes(files["/set.tgz"][:50])
    archive = Archive("set.tgz", (f"{address}/gone.tgz", f"{address}/set.tgz"), checksum, "set")
    assert download.obtain(archive, tmp_path)
    assert ranges == ["bytes=50-"]
    assert (tmp_path / "set/a.txt").read_bytes() == b"a" * 5000
    assert sorted(each.name for each in tmp_path.iterdir()) == ["set", "set.tgz"]
    assert not download.obtain(archive, tmp_path)


def test_no_mirror_and_wrong_checksum(tmp_path: Path, server: tuple[str, dict[str, bytes], list]) -> None:
    address, files, _ = server
    with pytest.raises(UserError, match=r"set\.tgz could not be downloaded .*404.*yourself"):
        download.obtain(Archive("set.tgz", (f"{address}/gone.tgz",), None, "set"), tmp_path)
    files["/set.tgz"] = b"something else"
    with pytest.raises(UserError, match=r"has md5 .* but 00 was expected: delete it"):
        download.obtain(Archive("set.tgz", (f"{address}/set.tgz",), "md5:00", "set"), tmp_path)
    assert not (tmp_path / "set").exists()
    assert not download.obtain(Archive("other.zip", (), None, "set"), tmp_path)


@pytest.mark.parametrize("name", ["../evil.txt", "set/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_would_write_outside_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    path = root / "set.archive"
    if kind == "tar":
        path.write_bytes(tar({"set/a.txt": b"a", name: b"evil"}))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("set/a.txt", b"a")
            archive.writestr(name, b"evil")
    with pytest.raises(UserError, match="would be written outside its folder"):
        download.unpack(path, "set")
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["set.archive"]


def test_archives_with_links_damaged_or_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.tgz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("set/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(UserError, match="'set/link', which is no plain file"):
        download.unpack(path, "set")
    path.write_bytes(tar({"set/a.txt": os.urandom(5000)})[:-200])
    with pytest.raises(UserError, match="cannot be unpacked"):
        download.unpack(path, "set")
    path.write_bytes(tar({"other/a.txt": b"a"}))
    with pytest.raises(UserError, match="does not hold set"):
        download.unpack(path, "set")
    assert [each.name for each in tmp_path.iterdir() if each != path and each.name != "prepared"] == []


# ------------------------------------------------------------------------------------------ command line


def test_prepare_unpacks_checks_and_prints_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_waterbirds(tmp_path / "made", [(s, y, b) for s in (0, 1, 2) for y in (0, 1) for b in (0, 1)])
    for line in (folder / "metadata.csv").read_text().splitlines()[1:]:
        save(folder / line.split(",")[1])
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / f"{waterbirds.RELEASE}.tar.gz", "w:gz") as archive:
        archive.add(folder, waterbirds.RELEASE)
    arguments = ["waterbirds", "--size", "32", "--data-root", str(root)]
    assert prepare.main(arguments) == 2
    assert "train: 4,795 images expected, 4 found" in capsys.readouterr().err
    assert prepare.main([*arguments, "--allow-subset"]) == 0
    shown = capsys.readouterr().out
    assert "| land bird, water (conflicting) |" in shown
    assert "Part of Waterbirds" in shown
    started = time.perf_counter()
    assert prepare.main([*arguments, "--allow-subset"]) == 0
    assert time.perf_counter() - started < 2
    assert "Preparing" not in capsys.readouterr().out


def test_prepare_of_an_own_folder_and_of_nonsense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main([str(write_folder(tmp_path)), "--size", "32"]) == 0
    assert "| gull, 0 " in capsys.readouterr().out
    assert prepare.main(["waterbird"]) == 2
    assert "did you mean 'waterbirds'" in capsys.readouterr().err
    assert prepare.main([]) == 2
    assert prepare.main(["celeba_blond", "--data-root", str(tmp_path)]) == 2
    assert "img_align_celeba.zip" in capsys.readouterr().err
    assert prepare.main(["colored_digits"]) == 0


def test_check_says_what_is_there_and_what_to_fetch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_celeba(tmp_path, FACES)
    write_dogs_cats(tmp_path)
    assert prepare.main(["--check", "--data-root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "paper: not ready. CelebA in" in shown
    assert "| big nose, female (conflicting)   |       1 |" in shown
    assert "waterbird_complete95_forest2water2.tar.gz" in shown
    assert "|   3,798 |" in shown
    assert "imagenette2.tgz" in shown
    assert "missing train-images-idx3-ubyte" in shown
    for task in recipes.tables()[0]:
        assert task in shown
    assert prepare.main(["--check", "dogs_cats", "--data-root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "|   3,798 |" in shown
    assert "CelebA" not in shown
    assert prepare.main(["--check", str(write_folder(tmp_path))]) == 0
    assert "| gull, 0 " in capsys.readouterr().out
    assert prepare.main(["--check", "dogs"]) == 2
