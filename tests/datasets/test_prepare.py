"""The command that prepares: what it unpacks, checks, prints and refuses."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from factories.images import FACES, save_image, write_celeba, write_dogs_cats, write_folder, write_waterbirds

from benchmark.plan.recipes import load
from datasets import prepare, waterbirds


def test_prepare_unpacks_checks_and_prints_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_waterbirds(tmp_path / "made", [(s, y, b) for s in (0, 1, 2) for y in (0, 1) for b in (0, 1)])
    for line in (folder / "metadata.csv").read_text().splitlines()[1:]:
        save_image(folder / line.split(",")[1])
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
    assert prepare.main([*arguments, "--allow-subset"]) == 0
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
    capsys.readouterr()
    assert prepare.main(["--check", "--preset", "reduce"]) == 2
    assert "Unknown preset 'reduce'" in capsys.readouterr().err


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
    for task in load().tasks:
        assert task in shown
    assert prepare.main(["--check", "dogs_cats", "--data-root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "|   3,798 |" in shown
    assert "CelebA" not in shown
    assert prepare.main(["--check", str(write_folder(tmp_path))]) == 0
    assert "| gull, 0 " in capsys.readouterr().out
    assert prepare.main(["--check", "dogs"]) == 2
    for more in (["--size", "64"], ["--allow-subset"], ["--preset", "reduced"]):
        assert prepare.main(["--check", "dogs_cats", *more]) == 2, "it would say what another command finds"
