"""A folder of one's own: its groups, its task, and labels that are wrong."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from factories.images import own_listing, save_image, sizes, write_folder, write_labels

from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.plan.run import Run, Settings
from benchmark.selection import with_dataset
from datasets import prepare
from datasets.folder import bias_of, describe, labels_digest
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


@pytest.mark.parametrize(
    ("labelled", "most", "told_by"), [("train", 2, "train"), ("val", 9, "validation"), ("val", 2, ""), ("test", 2, "")]
)
def test_the_bias_of_a_class_comes_from_the_first_labels_that_tell_it(
    tmp_path: Path, labelled: str, most: int, told_by: str
) -> None:
    """Gulls go with bias 10. Where only terns have labels, nothing can be said of gulls, whatever argmax gives; nor by
    validation images of which an image more has it.
    """
    folder = write_folder(tmp_path)
    rows = []
    for split, counts in (("train", (1, 3, 3, 1)), ("val", (1, most, most, 1)), ("test", (1, 1, 1, 1))):
        for group, count in enumerate(counts):
            for copy in range(count):
                name = f"{split}/{group}-{copy}.png"
                save_image(folder / name, len(rows))
                y, b = divmod(group, 2)
                known = split == labelled or split == "test" or (split == "train" and y == 1)
                rows.append((name, ("gull", "tern")[y], str(10 * b) if known else "", split))
    write_labels(folder, rows)
    found = own_listing(folder)
    assert found.told_by == told_by
    if told_by:
        assert found.aligned_bias.tolist() == [1, 0]
    said = {
        "train": "",
        "validation": "told by the labels of the validation images",
        "": "cannot be told from the labels",
    }
    assert said[told_by] in " ".join(found.notes)
    assert ("4 of 8 training images lack their bias" in " ".join(found.notes)) is (labelled != "train")


def test_labels_that_are_numbers_have_one_order(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("gull", "10").replace("tern", "-9"))
    assert own_listing(folder).class_names == ("-9", "10")
    path.write_text(path.read_text().replace("10,", "1,").replace("-9,", "01,"))
    assert own_listing(folder).class_names == ("01", "1"), "equal numbers by name, in every process"
    path.write_text(path.read_text().replace("01,", "--1,"))
    assert own_listing(folder).class_names == ("--1", "1")
    more = "1" + "0" * 4999  # digits than Python makes a whole number of
    path.write_text(path.read_text().replace("--1,", f"{more},").replace(".png,1,", ".png,9,"))
    assert own_listing(folder).class_names == ("9", more)


@pytest.mark.parametrize(
    ("column", "one", "other", "said"),
    [
        (1, "Cat", "cat", "'Cat' and 'cat' are two values of target"),
        (1, "01", "1", "'01' and '1' are two values of target"),
        (2, "-1", "-001", "'-001' and '-1' are two values of bias"),
        (1, "caf\u00e9", "cafe\u0301", r"'cafe\u0301' and 'caf\xe9' are two values of target"),
        (1, "CAF\u00c9", "cafe\u0301", "'CAF\u00c9' and 'cafe\u0301' are two values of target"),
        (1, "10", "1", ""),
        (1, "1.5", "1.05", ""),
    ],
)
def test_values_that_may_be_one_stay_two_and_are_named(
    tmp_path: Path, column: int, one: str, other: str, said: str
) -> None:
    folder = write_folder(tmp_path)
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    for row in rows:
        row[column] = one if row[column] in ("gull", "0") else other
    write_labels(folder, [tuple(row) for row in rows])
    found = own_listing(folder)
    assert len((found.class_names, found.bias_names)[column - 1]) == 2
    assert [note.startswith(said) for note in found.notes if "differ only in" in note] == [True] * bool(said)


def test_of_many_values_that_may_be_one_the_first_two_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("0.png,gull", "0.png,Gull").replace("0.png,tern", "0.png,TERN"))
    found = own_listing(folder)
    assert found.class_names == ("Gull", "TERN", "gull", "tern")
    (note,) = (each for each in found.notes if "differ only in" in each)
    assert note.startswith("'Gull' and 'gull' are two values of target")
    assert "(2 pairs in all)" in note


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
    "testing": (lambda rows: rows.__delitem__(slice(-4, None)), "no test image of target 'tern'"),
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
    write_labels(folder, [("a.png", "x", "train")], "file,target,split")
    with pytest.raises(UserError, match="has no column 'bias', which testing needs: add it"):
        own_listing(folder)
    (folder / "labels.csv").write_text("file,target,bias,split\nmöwe.png,x,y,train\n", encoding="utf-16")
    with pytest.raises(UserError, match="not in UTF-8"):
        own_listing(folder)


def windows_paths(rows: list[str]) -> str:
    return "\n".join(row.replace("/", "\\") for row in rows)


SPELLINGS: dict[str, Callable[[list[str]], str]] = {
    "a BOM": lambda rows: "\ufeff" + "\n".join(rows),
    "quotes and a BOM": lambda rows: "\ufeff" + "\n".join('"' + row.replace(",", '","') + '"' for row in rows),
    "semicolons, as Excel writes them": lambda rows: "\r\n".join(row.replace(",", ";") for row in rows) + "\r\n;;;\r\n",
    "paths of Windows": windows_paths,
    "blanks": lambda rows: "\n\n".join(row.replace(",", " , ") + " " for row in rows) + "\n\n",
    "other columns": lambda rows: "\n".join(f"{row},{number}" for number, row in enumerate(rows)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_labels_are_read_however_they_were_written(tmp_path: Path, spelling: str) -> None:
    folder = write_folder(tmp_path)
    expected = own_listing(folder)
    rows = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text(SPELLINGS[spelling](rows), newline="")
    found = own_listing(folder)
    assert found.files == expected.files
    assert (found.class_names, found.bias_names) == (expected.class_names, expected.bias_names)
    assert found.targets.tolist() == expected.targets.tolist()
    assert found.bias.tolist() == expected.bias.tolist()


def write_attributes(root: Path) -> Path:
    """A folder of birds with two attributes, male and young, of -1 and 1; one training image lacks the second."""
    folder = root / "my_birds"
    rows = []
    for split, copies in (("train", 2), ("test", 1)):
        for y, male, young, copy in itertools.product((0, 1), (-1, 1), (-1, 1), range(copies)):
            name = f"{split}/{len(rows)}.png"
            save_image(folder / name, len(rows))
            known = (y, male, young, copy) != (0, -1, -1, 0) or split == "test"
            rows.append((name, ("gull", "tern")[y], split, str(male), str(young) if known else ""))
    write_labels(folder, rows, "file,target,split,male,young")
    return folder


def test_any_column_may_be_the_bias_and_several_are_combined(tmp_path: Path) -> None:
    folder = write_attributes(tmp_path)
    assert own_listing(folder, bias=["male"]).bias_names == ("-1", "1")
    assert own_listing(folder, bias=["young"]).bias[0] == -1, "the first image is not known to be young or old"
    found = own_listing(folder, bias=["male", "young"])
    assert found.bias_names == (
        "male=-1 × young=-1", "male=-1 × young=1", "male=1 × young=-1", "male=1 × young=1",
    )  # fmt: skip
    assert sizes(found) == [[[1, 2, 2, 2], [2, 2, 2, 2]], [[0] * 4, [0] * 4], [[1, 1, 1, 1], [1, 1, 1, 1]]]
    assert any("one combination that most goes with a target counts as aligned" in note for note in found.notes)
    assert not any("several attributes" in note for note in own_listing(folder, bias=["male"]).notes)
    for names, unknown in ((["male", "young"], 1), (["young"], 1), (["male"], 0)):
        assert (bias_of(folder, names)[0] < 0).sum() == unknown


def test_groups_without_test_images_are_noted(tmp_path: Path) -> None:
    folder = write_attributes(tmp_path)
    rows = [tuple(line.split(",")) for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    write_labels(folder, [row for row in rows if row[2:] != ("test", "1", "-1")], "file,target,split,male,young")
    assert sizes(own_listing(folder, bias=["young"]))[2] == [[1, 2], [1, 2]]
    assert not any("no test image" in note for note in own_listing(folder, bias=["young"]).notes)
    found = own_listing(folder, bias=["male", "young"])
    (note,) = (note for note in found.notes if "no test image" in note)
    assert note.startswith("There is no test image of 'gull' with 'male=1 × young=-1', nor of 1 more of its 8 groups: ")


def test_a_target_that_is_only_tested_under_another_spelling_is_told_so(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("train/000.png,gull", "train/000.png,Gull"))
    with pytest.raises(UserError, match=r"no test image of target 'Gull'.*\('Gull' and 'gull' are two values"):
        own_listing(folder)


def test_a_bias_that_is_not_chosen_or_not_there_is_said_with_what_there_is(tmp_path: Path) -> None:
    folder = write_attributes(tmp_path)
    with pytest.raises(UserError, match="has no column 'bias': choose with --bias among male, young"):
        own_listing(folder)
    with pytest.raises(UserError, match=r"'mael'; did you mean 'male'\? Known: male, young"):
        own_listing(folder, bias=["mael"])
    with pytest.raises(UserError, match=r"'target'; Known: male, young"):
        own_listing(folder, bias=["male", "target"])
    with pytest.raises(UserError, match="name the folder, too"):
        with_dataset(load(), None, ["male"])


def test_columns_with_commas_between_them_are_told_how_to_be_written(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    with pytest.raises(UserError, match="with spaces between them: --bias bias bias"):
        own_listing(folder, bias=("bias,bias",))


def test_each_choice_of_the_bias_is_a_task_of_its_own(tmp_path: Path) -> None:
    folder = write_attributes(tmp_path)

    def run(*bias: str) -> Run:
        recipes, task = with_dataset(load(), folder, bias)
        return Run(recipes.resolve(task, "vanilla"), 0)

    choices = [run(), run("male"), run("young"), run("male", "young")]
    assert len({each.digest for each in choices}) == len({each.task for each in choices}) == 4
    assert run("young", "male", "young") == run("male", "young"), "the order is no choice"
    assert run("bias") == run(), "which is how it is called where nothing is chosen"
    recipes = load().with_folder_of(choices[3].settings)
    assert recipes.task_title("my_birds@male+young") == "my_birds (bias: male × young)"
    assert recipes.changes(choices[3].settings) == ()
    assert Run(recipes.resolve("my_birds@male+young", "vanilla"), 0) == choices[3]
    with pytest.raises(UserError, match=r"Unknown setting 'data\.bias'"):
        recipes.parse_override("data.bias=['male']")


def test_columns_of_like_names_are_tasks_of_their_own(tmp_path: Path) -> None:
    """Whose tables do not take each other's place, in files whose names hold no slash."""
    folder = write_folder(tmp_path)
    choices = (["a/b"], ["a_b"], ["a=2Fb"], ["a", "b"], ["a+b"], ["a+", "b"], ["a", "+b"])
    names = [with_dataset(load(), folder, bias)[1] for bias in choices]
    assert names[:2] == ["my_birds@a=2Fb", "my_birds@a_b"]
    assert len({*names}) == len(choices)
    assert not any("/" in name for name in names)


def test_a_record_keeps_the_name_of_its_task_though_it_would_now_be_called_otherwise(tmp_path: Path) -> None:
    recipes, task = with_dataset(load(), write_folder(tmp_path), ["a/b"])
    earlier = recipes.resolve(task, "vanilla") | {"task": "my_birds@a_b"}
    recipes = load().with_folder_of(earlier)
    assert recipes.resolve("my_birds@a_b", "vanilla") == earlier
    assert recipes.changes(earlier) == ()


def test_a_plain_bias_adds_no_setting_so_that_older_records_keep_their_hashes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    for bias in ([], ["bias"]):
        recipes, task = with_dataset(load(), folder, bias)
        assert task == recipes.task_title(task) == "my_birds"
        assert recipes.resolve(task, "vanilla")["data"].keys() == {"size", "subset", "folder", "labels"}


def test_small_images_are_not_enlarged_unless_that_is_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)  # images of 44 × 36 pixels
    settings = {"folder": folder.name, "labels": labels_digest(folder)}
    listing = IMAGE_SETS["folder"].listing
    with pytest.raises(UserError, match=r"my_birds: images of 36 pixels would be enlarged to 224: .* data\.size=36"):
        listing(tmp_path, size=224, **settings)
    accepted = listing(tmp_path, size=224, subset=True, **settings)
    assert accepted.notes[-1] == "The images of my_birds, of 36 pixels, are enlarged to 224."
    assert "about 36 px on disk, 64 px in training (enlarged)" in describe(listing(tmp_path, size=64, **settings), 64)
    as_they_are = describe(listing(tmp_path, size=36, **settings), 36)
    assert "about 36 px on disk, 36 px in training, for which all take 0.1 MB" in as_they_are


def test_a_folder_is_described_in_one_line(tmp_path: Path) -> None:
    told = describe(own_listing(write_folder(tmp_path)), 32)
    assert told == (
        "my_birds: 8 training, 4 validation and 8 test images of 2 classes × 2 bias values; the smallest training "
        "group, gull with 0, has 2; about 36 px on disk, 32 px in training, for which all take 0.1 MB"
    )
    unlabelled = own_listing(write_folder(tmp_path / "other", with_bias=False))
    assert "2 bias values; 8 training images lack their bias; about" in describe(unlabelled, 32)
    bias = unlabelled.bias.copy()
    bias[unlabelled.splits[0]] = [-1] + [0] * 7
    assert "; 1 training image lacks its bias; about" in describe(replace(unlabelled, bias=bias), 32)
