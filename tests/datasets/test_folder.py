"""A folder of one's own: its groups, its task, and labels that are wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from factories.images import own_listing, save_image, sizes, write_folder, write_labels

from benchmark.errors import UserError
from benchmark.options import with_dataset
from benchmark.plan.recipes import load
from benchmark.plan.run import Settings
from datasets import prepare
from datasets.images import IMAGE_SETS


def test_own_folder(tmp_path: Path) -> None:
    found = own_listing(write_folder(tmp_path))
    assert sizes(found) == [[[2, 2], [2, 2]], [[1, 1], [1, 1]], [[2, 2], [2, 2]]]
    assert found.class_names == ("gull", "tern")
    assert found.bias_names == ("0", "10")


def test_own_folder_without_bias_of_training_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, with_bias=False)
    found = own_listing(folder)
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
    for split, counts in (("train", (1, 3, 3, 1)), ("val", (1, 2, 2, 1)), ("test", (1, 1, 1, 1))):
        for group, count in enumerate(counts):
            for copy in range(count):
                name = f"{split}/{group}-{copy}.png"
                save_image(folder / name, len(rows))
                y, b = divmod(group, 2)
                known = split == labelled or split == "test" or (split == "train" and y == 1)
                rows.append((name, ("gull", "tern")[y], str(10 * b) if known else "", split))
    write_labels(folder, rows)
    found = own_listing(folder)
    assert bool(found.notes) is not told
    if told:
        assert found.aligned_bias.tolist() == [1, 0]
    else:
        assert "cannot be told from the labels" in found.notes[0]


def test_labels_that_are_numbers_have_one_order(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("gull", "10").replace("tern", "-9"))
    assert own_listing(folder).class_names == ("-9", "10")
    path.write_text(path.read_text().replace("10,", "1,").replace("-9,", "01,"))
    assert own_listing(folder).class_names == ("01", "1"), "equal numbers by name, in every process"
    path.write_text(path.read_text().replace("01,", "--1,"))
    assert own_listing(folder).class_names == ("--1", "1")


def test_own_folder_keeps_its_task_when_moved_but_not_when_relabelled(tmp_path: Path) -> None:
    def settings(folder: Path) -> Settings:
        recipes, task = with_dataset(load(), folder)
        return recipes.resolve(task, "vanilla")

    folder = write_folder(tmp_path)
    before = settings(folder)
    assert before["task"] == "my_birds"
    moved = tmp_path / "elsewhere" / "my_birds"
    shutil.copytree(folder, moved)
    assert settings(moved) == before
    write_labels(moved, [("train/000.png", "gull", "0", "train")])
    assert settings(moved) != before
    assert "my_birds" not in load().tasks, "the recipes themselves stay as they are"
    with pytest.raises(UserError, match="has changed since"):
        IMAGE_SETS["folder"].lister(tmp_path, folder="my_birds", labels="0")
    folder.rename(tmp_path / "waterbirds")
    with pytest.raises(UserError, match="name of the task 'waterbirds'"):
        with_dataset(load(), tmp_path / "waterbirds")


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
        own_listing(folder)


def test_labels_without_a_column_or_a_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    write_labels(folder, [("a.png", "x", "train")], "file,label,split")
    with pytest.raises(UserError, match=r"has no column 'target' \(it has file, label, split\)"):
        own_listing(folder)
    with pytest.raises(UserError, match=r"labels\.csv cannot be read .*file,target,bias,split"):
        with_dataset(load(), tmp_path)
    (folder / "labels.csv").write_text("file;target;bias;split\na.png;x;y;train\n")
    with pytest.raises(UserError, match="commas between columns"):
        own_listing(folder)
    (folder / "labels.csv").write_text("file,target,bias,split\nmöwe.png,x,y,train\n", encoding="utf-16")
    with pytest.raises(UserError, match="not in UTF-8"):
        own_listing(folder)
