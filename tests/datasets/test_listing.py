"""What is checked of an image set before it is decoded: missing files, published counts, thumbnails."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories.images import FACES, listing, sizes, write_celeba

from benchmark.errors import UserError
from datasets.images import IMAGE_SETS
from datasets.listing import large_enough


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


def test_a_part_without_validation_images_holds_every_fifth_training_image_out(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, FACES)
    whole = listing("celeba", tmp_path, target="Big_Nose", subset=True)
    for file in whole.files[whole.splits[1]]:
        (folder / "img_align_celeba" / file).unlink()
    found = listing("celeba", tmp_path, target="Big_Nose", subset=True)
    trained, held_out, tested = (found.files[part] for part in found.splits)
    assert held_out == [file for place, file in enumerate(whole.files[whole.splits[0]], 1) if place % 5 == 0]
    assert sorted([*trained, *held_out]) == whole.files[whole.splits[0]]
    assert tested == whole.files[whole.splits[2]]
    labels = {file: (y, b) for file, y, b in zip(whole.files, whole.targets, whole.bias, strict=True)}
    assert all(labels[file] == (y, b) for file, y, b in zip(found.files, found.targets, found.bias, strict=True))
    assert any("every 5th training image is held out" in note for note in found.notes)
    assert not any("held out" in note for note in whole.notes)


def test_thumbnails_are_not_taken_for_the_release(tmp_path: Path) -> None:
    folder = tmp_path / "celeba"  # faces of 89 × 109 pixels
    write_celeba(tmp_path, FACES)
    listed = IMAGE_SETS["celeba"].lister(tmp_path, target="Big_Nose")
    assert large_enough(listed, 178, subset=False) is listed, "enlarged twofold, as the release is by a quarter"
    with pytest.raises(UserError, match=r"CelebA: images of 89 pixels in .* are enlarged to 224: put the original"):
        large_enough(listed, 224, subset=False)
    (folder / "img_align_celeba/000001.jpg").write_bytes(b"broken")
    accepted = large_enough(listed, 224, subset=True)
    assert accepted.notes == (f"Part of CelebA: images of 89 pixels in {listed.root} are enlarged to 224.",)


def test_the_thumbnails_of_the_development_data_are_no_source_of_the_paper_preset(data_root: Path) -> None:
    with pytest.raises(UserError, match=r"Dogs & Cats: images of 64 pixels in .* are enlarged to 224"):
        IMAGE_SETS["dogs_cats"].listing(data_root, size=224, ratio=0.95)
