"""ImageNet-B: both layouts it reads, and corruptions that depend on the image alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from factories.images import listing, real_folder, sizes, write_imagenet

from benchmark.errors import UserError
from benchmark.plan.recipes import load, tomllib
from datasets import imagenet_b
from datasets.images import IMAGE_SETS


@pytest.mark.parametrize("tiny", [False, True], ids=["imagenet", "tiny-imagenet-200"])
def test_imagenet_b_renders_every_test_image_under_all_corruptions(tmp_path: Path, tiny: bool) -> None:
    classes = write_imagenet(tmp_path / ("tiny-imagenet-200" if tiny else "imagenet"), tiny)
    found = listing("imagenet_b", tmp_path, classes=classes, ratio=0.95, severity=4, validation=0)
    train, validation, test = (np.array(each) for each in sizes(found))
    assert train.sum() == 200
    assert np.diag(train).tolist() == [19] * 10
    assert not validation.any()
    assert (test == 2).all()
    held_out = listing("imagenet_b", tmp_path, classes=classes, ratio=0.95, severity=4, validation=4)
    train, validation, test = (np.array(each) for each in sizes(held_out))
    assert train.sum() == 160
    assert (validation == 4).all(), "each under all corruptions"
    assert (test == 2).all()
    trained, validated, tested = ({*held_out.files[part]} for part in held_out.splits)
    assert not trained & validated
    assert not validated & tested
    assert len(validated) == 40
    with pytest.raises(UserError, match=r"data\.validation is 20, of 20 training images"):
        listing("imagenet_b", tmp_path, classes=classes, ratio=0.95, severity=4, validation=20)
    with pytest.raises(UserError, match=r"data\.validation is 3: it must be even"):
        listing("imagenet_b", tmp_path, classes=classes, ratio=0.95, severity=4, validation=3)
    assert found.class_names[3] == ("thing 3" if tiny else "n00000003")
    assert "reconstruction" in found.name.lower()
    assert "reconstruction" in load().task_title("imagenet_b")
    with pytest.raises(UserError, match="ten corruptions"):
        listing("imagenet_b", tmp_path, classes=classes[:9], ratio=0.95, severity=4, validation=0)


def test_real_tiny_imagenet_counted_by_hand(data_root: Path) -> None:
    folder = real_folder(data_root, "tiny-imagenet-200")
    data = load().task_settings("imagenet_b", "reduced")["data"]
    found = IMAGE_SETS["imagenet_b"].listing(data_root, **data)
    train, validation, test = (np.array(each) for each in sizes(found))
    assert (validation == data["validation"]).all()
    for y, each in enumerate(data["classes"]):
        files = len(list((folder / "train" / each / "images").glob("*.JPEG")))
        assert train[y].sum() == files - data["validation"]
        lines = (folder / "val/val_annotations.txt").read_text().splitlines()
        assert (test[y] == sum(line.split("\t")[1] == each for line in lines)).all()


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


def test_corruptions_depend_on_no_processor() -> None:
    pytest.importorskip("imagecorruptions", reason="needs the extra imagenet-b")
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    corrupt, found = imagenet_b.Corrupt(4), []
    for each in (False, True):  # OpenCV's kernels for every processor, and those for this one
        cv2.setUseOptimized(each)
        cv2.ipp.setUseIPP(each)
        found.append([corrupt(image, bias, f"{name}.jpg") for bias in range(10) for name in "abc"])
        assert cv2.useOptimized() == each, "the caller's choice is left as it was"
    assert np.array_equal(*found)


def test_imagenet_b_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(UserError, match="pip install") as caught:
        imagenet_b.Corrupt(4)(np.zeros((32, 32, 3), np.uint8), 0, "a.jpg")
    (extra,) = re.findall(r"'\.\[(.+)\]'", str(caught.value))
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert extra in project["project"]["optional-dependencies"]
    assert "_" not in extra, "pip before 23.3 finds an extra by its normalised name only, and goes on without it"
