"""Dogs & Cats: what its two ratios share, groups counted by hand, and bad lists."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from factories.images import edit, listing, real_folder, sizes, write_dogs_cats

from benchmark.errors import UserError
from datasets.prepared import prepared_path


def test_dogs_and_cats_of_both_ratios_share_images_and_test_set(tmp_path: Path) -> None:
    write_dogs_cats(tmp_path)
    most, fewer = (listing("dogs_cats", tmp_path, ratio=ratio) for ratio in (0.95, 0.99))
    assert sizes(most) == [[[3798, 200], [223, 4239]], [[250, 250], [250, 250]], [[500, 500], [500, 500]]]
    assert sizes(fewer)[0] == [[3798, 38], [43, 4239]]
    assert most.files == fewer.files
    assert most.splits[1:] == fewer.splits[1:]
    train, validation, test = ({each for each in most.files[part]} for part in most.splits)
    assert len(train) == 8460
    assert len(test) == 2000
    assert len(validation) == 1000
    assert not train & test
    assert not validation & (train | test)
    assert most.scored is not None
    assert most.group_sizes(most.splits[2])[most.scored].tolist() == [500, 500]
    assert prepared_path(most, 32) == prepared_path(fewer, 32)
    with pytest.raises(UserError, match=r"data.ratio is 0.3: it must lie between 0.62 and 1"):
        listing("dogs_cats", tmp_path, ratio=0.3)


def test_real_dogs_and_cats_counted_by_hand(data_root: Path) -> None:
    folder = real_folder(data_root, "dogs_and_cats")
    bright = set((folder / "list_bright.txt").read_text().split())
    dark = set((folder / "list_dark.txt").read_text().split())
    found = listing("dogs_cats", data_root, ratio=0.95)
    for part in found.splits:
        counted = Counter((file[:3], file in bright, file in dark) for file in found.files[part])
        expected = [[counted[kind, bias == 1, bias == 0] for bias in (0, 1)] for kind in ("cat", "dog")]
        assert found.group_sizes(part).tolist() == expected
    assert len(set(found.files)) == 16_785


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
