"""python -m benchmark.predict: foreign images labelled by a kept model."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from factories.images import save_image
from PIL import Image

import benchmark
from benchmark.predict import main
from benchmark.rules import REPORTED
from benchmark.run import main as train
from benchmark.store.store import Store


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    command = ["--tasks", "colored_digits", "--methods", "gce", "vanilla", "--device", "cpu", "--set", "epochs=2"]
    assert train([*command, "--keep", "--results", str(folder)]) == 0
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "foreign"
    for number, name in enumerate(("b.png", "a.JPG", "deeper/c.png")):
        save_image(folder / name, number)
    Image.new("LA", (9, 9), (200, 0)).save(folder / "grey.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_foreign_images_are_labelled_in_order_by_a_command_of_its_own(results: Path, images: Path) -> None:
    command = [sys.executable, "-m", "benchmark.predict", "vanilla", str(images), "--results", str(results)]
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    head, *rows = csv.reader(done.stdout.splitlines())
    assert head == ["file", "predicted", *(f"p_{digit}" for digit in range(10))]
    names = ["a.JPG", "b.png", "deeper/c.png", "grey.png"]
    assert [row[0] for row in rows] == [str(images / name) for name in names]
    model = benchmark.load("vanilla", results=results)
    with_each = [Image.open(images / name).convert("RGB").resize((8, 8), Image.Resampling.BILINEAR) for name in names]
    expected = model.probabilities(np.stack([np.asarray(each).transpose(2, 0, 1) for each in with_each]))
    np.testing.assert_allclose([[float(each) for each in row[2:]] for row in rows], expected, rtol=1e-5)
    assert [row[1] for row in rows] == [str(c) for c in expected.argmax(1)]
    assert f"Labelled by {model.record.run.id}, epoch 2 of 2 ({REPORTED.note})." in done.stderr
    assert "brought to 8 × 8 pixels (stretch)" in done.stderr
    assert "enlarged" not in done.stderr


def test_what_cannot_be_read_is_named_and_stops_nothing_else(
    results: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "aa.png").write_bytes(b"no image")
    (images / "moved.jpg").symlink_to("nowhere")
    (images / "IMG.HEIC").write_bytes(b"of a phone")
    Image.new("I;16", (9, 9)).save(images / "deep.png")
    Image.new("RGB", (3, 3)).save(images / "small.png")
    output = tmp_path / "labels.csv"
    where = ["--results", str(results), "--device", "cpu", "--output", str(output)]
    assert main(["vanilla", str(images), str(images / "b.png"), *where]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"error: Image {images / 'aa.png'} cannot be read" in printed.err
    assert f"error: Image {images / 'deep.png'} has more than 8 bits a channel" in printed.err
    assert f"error: Image {images / 'moved.jpg'} cannot be read" in printed.err
    assert "3 of 9 images could not be read" in printed.err
    assert f"Left out, by their names no images: 2 files, such as {images / 'IMG.HEIC'}." in printed.err
    assert "1 of them were enlarged more than twofold" in printed.err
    files = [row[0] for row in csv.reader(output.read_text().splitlines())][1:]
    assert files == [
        str(images / name) for name in ("a.JPG", "b.png", "deeper/c.png", "grey.png", "small.png", "b.png")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vanilla", "nowhere.png"], "There is no image or folder nowhere.png: correct its path."),
        (["vanilla", "EMPTY"], "holds no image"),
        (["colored_digits", "IMAGES"], "2 runs fit 'colored_digits': colored_digits/gce/"),
        (["lff", "IMAGES"], "Unknown run 'lff'"),
        (
            ["vanilla", "IMAGES", "--select", "validation"],
            "has no kept model of the rule validation (it has those of l",
        ),
        (["vanilla", "IMAGES", "--output", "EMPTY"], "is no path of a file"),
        (["vanilla", "IMAGES", "--output", "PIPE"], "is a device or a pipe: redirect the output"),
        (["vanilla", "IMAGES", "--output", "nowhere/labels.csv"], "nothing can be written to the folder of 'nowhere/l"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    results: Path, images: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    places = {"IMAGES": str(images), "EMPTY": str(tmp_path / "empty"), "PIPE": str(tmp_path / "pipe")}
    assert main([*(places.get(each, each) for each in arguments), "--results", str(results)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_the_sheet_shows_the_first_images_under_the_model_they_are_from(
    results: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.inspect import sheets

    drawn: list[sheets.Sheet] = []
    monkeypatch.setattr(sheets, "png", lambda sheet, png=sheets.png: (drawn.append(sheet), png(sheet))[1])
    record = Store(results).record_path(benchmark.load("vanilla", results=results).record.run)
    where = ["--sheet", str(tmp_path / "sheet.png"), "--output", str(tmp_path / "x.csv"), "--limit", "3"]
    assert main([str(record), str(images), *where, "--device", "cpu"]) == 0, "by its record's path, from any folder"
    (sheet,) = drawn
    assert f"epoch 2 of 2 ({REPORTED.note})" in sheet.subtitle
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [tile.lines[0].split()[0] for tile in sheet.found.tiles] == [row["predicted"] for row in rows[:3]]
    assert [tile.lines[1] for tile in sheet.found.tiles] == ["a.JPG", "b.png", "c.png"]
    assert sheet.found.order.startswith("the first 3 of 4")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width >= 900


def test_asking_for_help_loads_no_pytorch() -> None:
    code = "import sys; from benchmark.predict import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(any(each in sys.modules for each in ('torch', 'pandas', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0
