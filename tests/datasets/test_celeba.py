"""CelebA: the official layout, published and counted groups, and bad label files."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from factories.images import FACES, edit, listing, real_folder, sizes, write_celeba
from PIL import Image

from benchmark.errors import UserError
from datasets import celeba
from datasets.images import IMAGE_SETS, dataset
from datasets.listing import SPLITS


def test_celeba_in_its_official_layout(tmp_path: Path) -> None:
    write_celeba(tmp_path, FACES)
    found = listing("celeba", tmp_path, target="Big_Nose", subset=True)
    assert sizes(found) == [[[6, 1], [1, 4]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]]
    assert found.aligned_bias.tolist() == [0, 1]
    built = dataset(found, 32)
    assert [len(split) for split in (built.train, built.validation, built.test)] == [12, 4, 4]
    assert built.train.images.shape == (12, 3, 32, 32)
    with Image.open(tmp_path / "celeba/img_align_celeba/000003.jpg") as image:
        box = (0, 10, 89, 99)  # the centre square of 89 × 109
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR, box))
    assert np.array_equal(built.train.images[2].transpose(1, 2, 0), expected)


def test_full_celeba_has_the_published_groups(tmp_path: Path) -> None:
    rows = [
        (part, y, male)
        for part, split in enumerate(SPLITS)
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


@pytest.mark.parametrize("target", ["Big_Nose", "Attractive", "Blond_Hair", "Bags_Under_Eyes"])
def test_real_celeba_counted_by_hand(data_root: Path, target: str) -> None:
    folder = real_folder(data_root, "celeba")
    part = dict(line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines())
    _, names, *rows = (folder / "list_attr_celeba.txt").read_text().splitlines()
    y, male = names.split().index(target) + 1, names.split().index("Male") + 1
    present = sorted(row for row in map(str.split, rows) if (folder / "img_align_celeba" / row[0]).exists())
    assert "1" not in {part[row[0]] for row in present}
    # No image of the official validation part is among these: every fifth of the training images takes its place.
    held_out = {row[0] for row in [each for each in present if part[each[0]] == "0"][4::5]}
    counted = Counter(("1" if row[0] in held_out else part[row[0]], row[y], row[male]) for row in present)
    expected = [[[counted[p, a, b] for b in ("-1", "1")] for a in ("-1", "1")] for p in "012"]
    assert sizes(listing("celeba", data_root, target=target, subset=True)) == expected


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
