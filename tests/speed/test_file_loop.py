from __future__ import annotations

from pathlib import Path

from PIL import Image

from benchmark.speed.file_loop import write_images


def test_image_files_have_the_asked_size_and_differ(tmp_path: Path) -> None:
    first, second = write_images(tmp_path, 2, 28)
    assert Image.open(first).size == (28, 28)
    assert first.read_bytes() != second.read_bytes()
    assert write_images(tmp_path, 1, 64)[0].suffix == ".jpg"
