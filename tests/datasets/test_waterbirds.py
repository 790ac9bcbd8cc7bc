"""Waterbirds and sets in its layout: published and counted groups, and bad label files."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from factories.images import edit, listing, real_folder, sizes, write_waterbirds

from benchmark.errors import UserError
from datasets import waterbirds
from datasets.images import IMAGE_SETS
from datasets.listing import SPLITS


def test_full_waterbirds_has_the_published_groups(tmp_path: Path) -> None:
    rows = [
        (number, y, place)
        for number, split in enumerate(SPLITS)
        for y in (0, 1)
        for place in (0, 1)
        for _ in range(waterbirds.GROUPS[split][y][place])
    ]
    write_waterbirds(tmp_path, reversed(rows))
    found = IMAGE_SETS["waterbirds"].lister(tmp_path)
    assert found.deviations() == []
    assert sizes(found) == [waterbirds.GROUPS[split] for split in SPLITS]
    write_waterbirds(tmp_path / "other", rows[1:])
    assert (
        "train: 4,795 images expected, 4,794 found" in IMAGE_SETS["waterbirds"].lister(tmp_path / "other").deviations()
    )
    rows[0] = (0, 0, 1)
    write_waterbirds(tmp_path / "third", rows)
    found = IMAGE_SETS["waterbirds"].lister(tmp_path / "third")
    assert found.deviations()[0] == "train, land bird with land: 3,498 images expected, 3,497 found"


def test_real_waterbirds_layout_counted_by_hand(data_root: Path) -> None:
    folder = real_folder(data_root, "waterbirds_surrogate")
    with (folder / "metadata.csv").open() as file:
        counted = Counter((row["split"], row["y"], row["place"]) for row in csv.DictReader(file))
    expected = [[[counted[s, y, b] for b in "01"] for y in "01"] for s in "012"]
    found = listing("waterbirds_layout", data_root)
    assert sizes(found) == expected
    assert "not comparable with Waterbirds" in found.notes[0]


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
