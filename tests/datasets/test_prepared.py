"""Prepared arrays: made once, the same in any number of processes, and whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.images import FACES, listing, own_listing, save_image, write_celeba, write_folder
from PIL import Image

from benchmark.errors import UserError
from datasets import prepared
from datasets.prepared import prepare, prepared_path


def test_an_array_is_made_once_and_again_when_a_source_changes(tmp_path: Path, prepared_arrays: Path) -> None:
    folder = write_folder(tmp_path)
    found = own_listing(folder)
    array, digest = prepare(found, 32)
    made = prepared_path(found, 32).stat().st_mtime_ns
    again, digest_again = prepare(own_listing(folder), 32)
    assert prepared_path(found, 32).stat().st_mtime_ns == made
    assert digest == digest_again
    assert np.array_equal(array, again)
    assert prepare(found, 40)[0].shape == (20, 3, 40, 40)
    save_image(folder / "train/000.png", 99)
    changed, other = prepare(own_listing(folder), 32)
    assert other != digest
    assert not np.array_equal(changed[0], array[0])
    assert np.array_equal(changed[1:], array[1:])
    assert len(list(prepared_arrays.glob("*.npy"))) == 3


def save_bitmap(path: Path, seed: int) -> None:
    """Random pixels in a file whose size and time of modification are the same for every seed."""
    save_image(path.with_suffix(".bmp"), seed)
    path.with_suffix(".bmp").replace(path)
    os.utime(path, (10**9, 10**9))


def test_an_image_that_is_replaced_by_one_of_its_size_and_time_is_decoded_anew(tmp_path: Path) -> None:
    """As by rsync -t or out of an archive."""
    folder = write_folder(tmp_path)
    image = folder / "train/000.png"
    save_bitmap(image, 0)
    before, status = prepare(own_listing(folder), 32), image.stat()
    save_bitmap(image, 1)
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    images, digest = prepare(own_listing(folder), 32)
    assert digest != before[1]
    assert not np.array_equal(images[0], before[0][0])
    image.chmod(0o600)
    assert prepare(own_listing(folder), 32)[1] == digest, "data are the same wherever only the file's times differ"


def test_folders_of_one_name_share_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that tells times apart by the second or not at all."""
    stat = os.stat

    def coarse(*arguments: Any, **more: Any) -> os.stat_result:
        found = stat(*arguments, **more)
        return os.stat_result(tuple(found), {"st_mtime_ns": 0, "st_ctime_ns": 0})

    folders = [write_folder(tmp_path / place) for place in ("here", "there")]
    for seed, folder in enumerate(folders):
        save_bitmap(folder / "train/000.png", seed)
    monkeypatch.setattr(os, "stat", coarse)
    here, there = (prepare(own_listing(folder), 32)[0] for folder in folders)
    assert not np.array_equal(here[0], there[0])
    (tmp_path / "link").symlink_to(tmp_path / "here")
    linked = own_listing(tmp_path / "link/my_birds")
    assert prepared_path(linked, 32) == prepared_path(own_listing(folders[0]), 32)


def test_many_processes_decode_what_one_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = own_listing(write_folder(tmp_path))
    monkeypatch.setattr(prepared, "CHUNK", 7)
    one, digest = prepare(found, 32)
    prepared_path(found, 32).rename(tmp_path / "one.npy")
    monkeypatch.setattr(prepared, "FEW", 0)
    monkeypatch.setattr(prepared, "cores", lambda: 2)
    many, digest_of_many = prepare(found, 32)
    assert digest == digest_of_many
    assert np.array_equal(one, many)


@pytest.mark.parametrize(("cut", "processes"), [(0, 1), (60, 1), (60, 2)])
def test_a_broken_image_is_named_and_nothing_is_left(
    tmp_path: Path, prepared_arrays: Path, monkeypatch: pytest.MonkeyPatch, cut: int, processes: int
) -> None:
    folder = write_folder(tmp_path)
    broken = folder / "test/110.png"
    broken.write_bytes(broken.read_bytes()[:cut])
    monkeypatch.setattr(prepared, "FEW", 100 if processes == 1 else 0)
    monkeypatch.setattr(prepared, "CHUNK", 10)
    monkeypatch.setattr(prepared, "cores", lambda: processes)
    with pytest.raises(UserError, match=r"Image .*test/110\.png cannot be read"):
        prepare(own_listing(folder), 32)
    assert list(prepared_arrays.iterdir()) == []


def test_an_image_of_more_than_eight_bits_is_refused_rather_than_clipped_to_white(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    gradient = np.linspace(0, 65535, 44 * 36).reshape(36, 44).astype(np.uint16)
    Image.fromarray(gradient).save(folder / "train/000.png")
    with pytest.raises(UserError, match=r"000\.png has more than 8 bits a channel"):
        prepare(own_listing(folder), 32)


def test_a_photo_that_was_taken_sideways_is_set_upright(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    with Image.open(folder / "train/000.png") as image:
        upright = image.convert("RGB")
    upright.save(folder / "train/000.png")
    before = prepare(own_listing(folder), 32)[0][0].copy()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    sideways.save(folder / "train/000.png", exif=exif)
    assert np.array_equal(prepare(own_listing(folder), 32)[0][0], before)
    sideways.save(folder / "train/000.png", exif=b"Exif\0\0MM damaged")
    assert not np.array_equal(prepare(own_listing(folder), 32)[0][0], before), "it is read as it lies there"


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, FACES)
    image = folder / "img_align_celeba/000007.jpg"
    image.write_bytes(image.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"000007\.jpg cannot be read .*truncated"):
        prepare(listing("celeba", tmp_path, target="Big_Nose", subset=True), 32)


def test_an_image_that_its_decoder_gives_up_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Pillow's decoder of AVIF does."""

    def give_up(*_: object) -> np.ndarray:
        raise RuntimeError("Decoding of color planes failed")

    monkeypatch.setattr(prepared, "fitted", give_up)
    with pytest.raises(UserError, match=r"000\.png cannot be read \(Decoding of color planes failed\)"):
        prepared.read(write_folder(tmp_path) / "train/000.png", prepared.FITS["stretch"], 32)


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_is_said_and_nothing_is_left(
    tmp_path: Path, prepared_arrays: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    found = own_listing(write_folder(tmp_path))

    def no_space(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if late:
        monkeypatch.setattr(prepared._Job, "decode", no_space)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": 100}))
    with pytest.raises(UserError, match=r"no room for my_birds: it needs 0\.00 GB.*BENCHMARK_PREPARED"):
        prepare(found, 32)
    assert list(prepared_arrays.iterdir()) == []


def test_an_interrupted_preparation_leaves_nothing(
    tmp_path: Path, prepared_arrays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = own_listing(write_folder(tmp_path))

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    decode = prepared._Job.decode
    monkeypatch.setattr(prepared._Job, "decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(found, 32)
    monkeypatch.setattr(prepared._Job, "decode", decode)
    assert list(prepared_arrays.iterdir()) == []
    # What a killed process leaves is not taken for an array, and goes away in time.
    leftover = prepared_arrays / f"{prepared_path(found, 32).name}.123.partial"
    leftover.write_bytes(b"half")
    os.utime(leftover, (time.time() - 7200,) * 2)
    prepare(found, 32)
    assert not leftover.exists()


def test_machines_that_prepare_the_same_at_once_do_not_write_to_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = own_listing(write_folder(tmp_path))
    expected = prepare(found, 32)[0].copy()
    prepared_path(found, 32).unlink()
    monkeypatch.setattr(os, "getpid", lambda: 7)  # on both
    run, started = prepared._run, []

    def second_begins_in_the_middle(job: prepared._Job, count: int) -> Iterator[Any]:
        parts = run(job, count)
        yield next(parts)
        if not started:
            started.append(True)
            prepared._make(prepared_path(found, 32), found, 32)
        yield from parts

    monkeypatch.setattr(prepared, "CHUNK", 7)
    monkeypatch.setattr(prepared, "_run", second_begins_in_the_middle)
    assert np.array_equal(prepare(found, 32)[0], expected)


def test_pixels_that_changed_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By whatever wrote to the array: its digest is that of the pixels."""
    found = own_listing(write_folder(tmp_path))
    _, digest = prepare(found, 32)
    path = prepared_path(found, 32)
    assert "Checking" not in capsys.readouterr().out
    content = path.read_bytes()
    path.write_bytes(content)  # a copy, say
    assert prepare(found, 32)[1] == digest
    assert "Checking" in capsys.readouterr().out
    assert prepare(found, 32)[1] == digest
    assert "Checking" not in capsys.readouterr().out, "once"
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    for _ in range(2):
        with pytest.raises(UserError, match="is not what was prepared: delete it"):
            prepare(found, 32)


def test_a_cut_array_is_refused(tmp_path: Path) -> None:
    found = own_listing(write_folder(tmp_path))
    prepare(found, 32)
    path = prepared_path(found, 32)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="is not what was prepared: delete it"):
        prepare(found, 32)
    for content in (path.read_bytes()[:500], b"", b"garbage" * 99):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not what was prepared: delete it"):
            prepare(found, 32)
    with pytest.raises(UserError, match=r"data.size is 8"):
        prepared_path(found, 8)
