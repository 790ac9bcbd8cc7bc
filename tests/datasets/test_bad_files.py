"""Archives, label files and images that are damaged, hostile or not what they seem: one sentence, and nothing left."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factories.images import own_listing, save_image, unreachable, write_folder, write_labels
from PIL import Image

from benchmark.errors import UserError
from datasets import archives
from datasets.archives import unpack
from datasets.download import Download, obtain
from datasets.folder import bias_of
from datasets.images import dataset
from datasets.prepared import prepare, prepared_path

CONTENT = bytes(range(256)) * 64


def zipped(*members: tuple[str, bytes], kind: int = zipfile.ZIP_DEFLATED, mode: int = stat.S_IFREG | 0o644) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, kind
            archive.writestr(info, data)
    return content.getvalue()


def tarred(*members: tarfile.TarInfo, data: bytes = CONTENT, kind: str = "w:gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=kind) as archive:  # type: ignore[call-overload]
        first = tarfile.TarInfo("set/a.bin")
        first.size = len(data)
        archive.addfile(first, io.BytesIO(data))
        for each in members:
            archive.addfile(each)
    return content.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def patched(content: bytes, flags: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file whose members are declared to be so, in their own heads and in the directory."""
    changed = bytearray(content)
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.index(signature) + place
        changed[start : start + 4] = struct.pack("<HH", flags, method)
    return bytes(changed)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def random_bytes(n: int = 20_000) -> bytes:
    return np.random.default_rng(0).bytes(n)


def huge_tar() -> bytes:
    """A tar file that announces a terabyte."""
    info = tarfile.TarInfo("set/a.bin")
    info.size = 1 << 40
    return gzip.compress(info.tobuf() + bytes(1024))


def bomb() -> bytes:
    return zipped(("set/a.bin", bytes(200 << 20)))


GOOD_ZIP, GOOD_TAR = zipped(("set/a.bin", random_bytes())), tarred(data=random_bytes())
ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "encrypted zip": (lambda: patched(GOOD_ZIP, flags=1), "is encrypted: unpack it yourself"),
    "unknown compression": (lambda: patched(GOOD_ZIP, method=97), "cannot be unpacked .*delete it and fetch"),
    "strange compression": (lambda: patched(GOOD_ZIP, method=14), "cannot be unpacked .*delete it and fetch"),
    "damaged deflate stream": (lambda: flipped(zipped(("set/a.bin", CONTENT)), 45), "cannot be unpacked .*delete it"),
    "zip with a wrong checksum": (lambda: flipped(zipped(("set/a.bin", CONTENT), kind=0), 60), "cannot be unpacked"),
    "zip cut off": (lambda: GOOD_ZIP[:-30], "cannot be unpacked"),
    "zip without its beginning": (lambda: GOOD_ZIP[9:], "cannot be unpacked"),
    "zip with damaged bzip2": (lambda: flipped(zipped(("set/a.bin", CONTENT), kind=12), 70), "cannot be unpacked"),
    "zip with damaged lzma": (lambda: flipped(zipped(("set/a.bin", CONTENT), kind=14), 60), "cannot be unpacked"),
    "zip that leaves": (lambda: zipped(("set/a.bin", b"a"), ("../evil", b"e")), "would be written outside"),
    "zip with an absolute path": (lambda: zipped(("/tmp/evil", b"e")), "would be written outside"),
    "zip with a drive": (lambda: zipped(("C:\\evil", b"e")), "would be written outside"),
    "zip with a link": (lambda: zipped(("set/a", b"/etc"), mode=stat.S_IFLNK | 0o777), "is no plain file"),
    "zip with a device": (lambda: zipped(("set/a", b""), mode=stat.S_IFCHR | 0o666), "is no plain file"),
    "zip with a pipe": (lambda: zipped(("set/a", b""), mode=stat.S_IFIFO | 0o666), "is no plain file"),
    "bomb": (bomb, "would unpack to .* do not use this archive"),
    "nothing": (lambda: b"", "cannot be unpacked"),
    "no archive": (lambda: b"<html>not found</html>" * 50, "cannot be unpacked"),
    "damaged gzip": (lambda: flipped(GOOD_TAR, len(GOOD_TAR) // 2), "cannot be unpacked"),
    "gzip with a wrong checksum": (lambda: flipped(GOOD_TAR, len(GOOD_TAR) - 6), "cannot be unpacked"),
    "gzip with a wrong length": (lambda: flipped(GOOD_TAR, len(GOOD_TAR) - 2), "cannot be unpacked"),
    "gzip cut off": (lambda: GOOD_TAR[:-500], "cannot be unpacked"),
    "gzip without its end": (lambda: GOOD_TAR[:-4], "cannot be unpacked"),
    "damaged bzip2": (lambda: flipped(bz2.compress(tarred(kind="w:")), 60), "cannot be unpacked"),
    "damaged xz": (lambda: flipped(lzma.compress(tarred(kind="w:")), 60), "cannot be unpacked"),
    "damaged tar": (lambda: flipped(tarred(kind="w:"), 100), "cannot be unpacked"),
    "tar cut off": (lambda: tarred(kind="w:")[:3000], "cannot be unpacked"),
    "tar that leaves": (lambda: tarred(member("set/../../evil")), "would be written outside"),
    "tar with an absolute path": (lambda: tarred(member("/evil")), "would be written outside"),
    "tar with a link": (lambda: tarred(member("set/l", tarfile.SYMTYPE, "/etc")), "is no plain file"),
    "tar with a hard link": (lambda: tarred(member("set/l", tarfile.LNKTYPE, "set/a.bin")), "is no plain file"),
    "tar with a device": (lambda: tarred(member("set/d", tarfile.BLKTYPE)), "is no plain file"),
    "tar with a pipe": (lambda: tarred(member("set/p", tarfile.FIFOTYPE)), "is no plain file"),
    "tar of a terabyte": (huge_tar, "would unpack to 1,024.0 GB or more"),
    "tar without end": (lambda: gzip.compress(tarred(kind="w:") + bytes(150 << 20), 1), "goes on without end"),
    "very many files": (lambda: zipped(*((f"set/{number}", b"") for number in range(1200))), "more than 1,000 files"),
    "very many folders": (
        lambda: tarred(*(member(f"set/{number}", tarfile.DIRTYPE) for number in range(1200))),
        "more than 1,000 files",
    ),
    "something else": (lambda: zipped(("other/a.bin", b"a")), "does not hold set"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_bad_archive(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 1000)
    content, message = ARCHIVES[name]
    path = tmp_path / "set.archive"
    path.write_bytes(content())
    with pytest.raises(UserError, match=message) as caught:
        unpack(path, "set", at_most=100 << 20)
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.rglob("*") if each.name != "prepared"] == ["set.archive"]


@pytest.mark.parametrize("content", [GOOD_ZIP, GOOD_TAR, tarred(kind="w:"), tarred(kind="w:bz2"), tarred(kind="w:xz")])
def test_a_good_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.archive"
    path.write_bytes(content)
    unpack(path, "set", at_most=1 << 20)
    assert len((tmp_path / "set" / "a.bin").read_bytes()) in (len(CONTENT), 20_000)


def test_an_archive_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.archive"
    path.write_bytes(GOOD_ZIP)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: archives.shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(UserError, match="make room"):
        unpack(path, "set")


def test_a_pipe_in_the_place_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    os.mkfifo(tmp_path / "set.zip")
    with pytest.raises(UserError, match="is no file: put the archive itself there"):
        obtain(Download("set.zip", ("http://localhost/set.zip",), unpacks_to="set"), tmp_path)


# Rows of a labels.csv, and what is wrong with them.
LABELS: dict[str, tuple[str, str]] = {
    "outside": ("../x.png,gull,0,train", "name '../x.png', which lies outside of"),
    "far outside": ("train/../../x.png,gull,0,train", "name '../x.png', which lies outside of"),
    "absolute": ("/etc/passwd,gull,0,train", "names '/etc/passwd', an absolute path: write paths as seen from"),
    "absolute on Windows": ("C:\\birds\\x.png,gull,0,train", r"names 'C:\\birds\\x.png', an absolute path"),
    "a share": ("\\\\host\\birds\\x.png,gull,0,train", "an absolute path"),
    "outside by Windows": ("..\\x.png,gull,0,train", "name '../x.png', which lies outside of"),
    "twice by Windows": ("train\\000.png,gull,0,train", "lists 'train/000.png' more than once"),
    "another suffix": ("train/000.jpg,gull,0,train", r"the first is .*train/000\.jpg \(there is 000\.png\)"),
    "no suffix": ("test/000,gull,0,train", r"test/000 \(there is 000\.png\)"),
    "a folder": ("inner,gull,0,train", "which is no file"),
    "a pipe": ("pipe.png,gull,0,train", "which is no file"),
    "a dangling link": ("link.png,gull,0,train", "1 of 21 listed images are missing"),
    "nothing": (",gull,0,train", "has a row without a file"),
    "too many columns": ("train/x.png,gull,0,train,more", "has 5 values in line 22, where its head names 4"),
    "too few columns": ("train/x.png,gull", "the split of 'train/x.png' is ''"),
    "a quote": ('"train/x.png,gull,0,train', "cannot be read"),
    "twice": ("train/000.png,gull,0,train", "lists 'train/000.png' more than once"),
    "twice by another name": ("train/./000.png,gull,0,train", "lists 'train/000.png' more than once"),
    "split": ("train/x.png,gull,0,training", "must be one of train, validation, test"),
}


@pytest.mark.parametrize("name", LABELS)
def test_a_bad_row_of_labels(tmp_path: Path, name: str) -> None:
    row, message = LABELS[name]
    folder = write_folder(tmp_path)
    (folder / "inner").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(folder / "gone.png")
    with (folder / "labels.csv").open("a") as file:
        file.write(f"{row}\n")
    with pytest.raises(UserError, match=message) as caught:
        own_listing(folder)
    assert "\n" not in str(caught.value)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "it is no file"),
    "a folder": (lambda path: path.mkdir(), "it is no file"),
    "nothing": (lambda path: path.write_bytes(b""), "cannot be read"),
    "only a head": (lambda path: path.write_text("file,target,bias,split\n"), "has no rows"),
    "bytes": (lambda path: path.write_bytes(b"\x89PNG\x00\xff\n" * 9), "is not in UTF-8"),
    "Latin-1": (lambda path: path.write_bytes("file,target,bias,split\ná,b,c,train".encode("latin-1")), "UTF-8"),
    "tabs": (lambda path: path.write_text("file\ttarget\tbias\tsplit\na\tb\tc\ttrain\n"), "has no column 'file'"),
    "a column twice": (
        lambda path: path.write_text("file,bias, bias,target,split\n"),
        "has 2 columns 'bias': keep one",
    ),
    "an endless first line": (lambda path: path.write_text("x" * 200_000 + "\na\n"), "has a first line that names no"),
    "longer rows": (lambda path: path.write_text("file,target,split\na,b,train,more\n"), "of more columns than"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_labels_file(tmp_path: Path, name: str) -> None:
    make, message = FILES[name]
    make(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=message):
        bias_of(tmp_path)


def deep_png(path: Path, color: int) -> None:
    """A PNG of 40 × 40 pixels with 16 bits a channel, which Pillow cannot write in colour."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    rows = b"".join(b"\0" + random_bytes(40 * channels * 2) for _ in range(40))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 40, 40, 16, color, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "16 bits of grey": (lambda path: deep_png(path, 0), "more than 8 bits a channel"),
    "16 bits of colour": (lambda path: deep_png(path, 2), "more than 8 bits a channel"),
    "16 bits of grey and alpha": (lambda path: deep_png(path, 4), "more than 8 bits a channel"),
    "16 bits of colour and alpha": (lambda path: deep_png(path, 6), "more than 8 bits a channel"),
    "a PPM of 16 bits": (
        lambda path: path.write_bytes(b"P6 40 40 65535\n" + random_bytes(40 * 40 * 6)),
        "more than 8 bits a channel",
    ),
    "floats": (lambda path: Image.new("F", (40, 40)).save(path, "TIFF"), "more than 8 bits a channel"),
    "nothing": (lambda path: path.write_bytes(b""), "cannot be read"),
    "half of one": (lambda path: (save_image(path), path.write_bytes(path.read_bytes()[:900])), "cannot be read"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_bad_image(tmp_path: Path, prepared_arrays: Path, name: str) -> None:
    make, message = IMAGES[name]
    folder = write_folder(tmp_path)
    make(folder / "train" / "011.png")
    with pytest.raises(UserError, match=rf"011\.png.*{message}|011\.png.* {message}"):
        prepare(own_listing(folder), 32)
    assert not list(prepared_arrays.glob("*")), "nothing is left behind"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "CMYK"])
def test_images_of_8_bits_are_read(tmp_path: Path, mode: str) -> None:
    folder = write_folder(tmp_path)
    path = folder / "train" / "011.png"
    Image.open(path).convert(mode).save(path, "TIFF" if mode == "CMYK" else "PNG")
    images, _ = prepare(own_listing(folder), 32)
    assert len(np.unique(images[3])) > 1


def test_a_training_image_among_the_test_images_is_said(tmp_path: Path) -> None:
    """By what is seen, not by the name; the data count as the same whether it is known or not."""

    def notes() -> list[str]:
        return [note for note in dataset(own_listing(folder), 32).notes if "training images, too" in note]

    folder = write_folder(tmp_path)
    assert not notes()
    Image.open(folder / "train/010.png").save(folder / "test/001.png", "BMP")
    told = "1 of 8 test images of my_birds are training images, too: test/001.png is train/010.png, for one."
    assert notes() == [told]
    assert notes() == [told], "from the stored digests"
    fingerprint = dataset(own_listing(folder), 32).fingerprint()
    path = prepared_path(own_listing(folder), 32)
    path.with_name(f"{path.name}.digests").unlink()
    assert not notes(), "an array of an earlier version does not tell"
    assert dataset(own_listing(folder), 32).fingerprint() == fingerprint


def test_every_two_splits_that_share_images_are_said(tmp_path: Path) -> None:
    """Epochs are chosen on validation images, so that these must be neither tested nor trained on."""
    folder = write_folder(tmp_path)
    shutil.copy(folder / "val/010.png", folder / "test/000.png")
    shutil.copy(folder / "val/010.png", folder / "test/111.png")
    shutil.copy(folder / "train/111.png", folder / "val/100.png")
    assert [note for note in dataset(own_listing(folder), 32).notes if "images, too" in note] == [
        "2 of 8 test images of my_birds are validation images, too: test/000.png is val/010.png, for one.",
        "1 of 4 validation images of my_birds are training images, too: val/100.png is train/111.png, for one.",
    ]


def test_labels_without_bias_are_known_split_by_split(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    train, validation = bias_of(folder)
    assert min(train) == 0
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    training = [row for row in rows if row[3] == "train"]
    for row in training[:3]:
        row[2] = ""
    write_labels(folder, [tuple(row) for row in rows])
    other, same = bias_of(folder)
    assert (other < 0).sum() == 3
    assert len(other) == len(train)
    assert same.tolist() == validation.tolist()
