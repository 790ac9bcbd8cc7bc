"""ImageNet-B (Zhang, Lu, Sang 2024), reconstructed: ten classes, with a corruption as the bias.

The paper's classes, images, corruptions and severity are published nowhere. This reconstruction takes the ten
natural corruptions of LfF's Corrupted CIFAR (Hendrycks & Dietterich, ICLR 2019), drawn by the package
imagecorruptions-imaug; every result of it is labelled a reconstruction.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.errors import UserError
from datasets.coloring import assign_colors
from datasets.download import Download
from datasets.images import register_images
from datasets.labels import read_table
from datasets.listing import Listing
from datasets.prepared import centre_square
from datasets.source import Source

CORRUPTIONS = (
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "spatter",
    "elastic_transform",
    "jpeg_compression",
    "pixelate",
    "saturate",
)
TINY_VALIDATION = "val/val_annotations.txt"
SUFFIXES = (".jpeg", ".jpg", ".png")
FOLDERS = ("imagenette2", "imagenet", "tiny-imagenet-200")
IMAGENETTE = {
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
    "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
}  # fmt: skip
IMAGENETTE_SOURCE = Source(
    "Imagenette",
    FOLDERS,
    ("val",),
    "put imagenette2.tgz of https://github.com/fastai/imagenette there and run python -m datasets.prepare imagenet_b, "
    "which also tries to download it; a folder imagenet that has the classes will do.",
    (
        Download(
            "imagenette2.tgz",
            ("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz",),
            "md5:fe2fc210e6bb7c5664d602c3cd71e612",
            unpacks_to="imagenette2",
        ),
    ),
)
IMAGENET_SOURCE = Source(
    "ImageNet",
    FOLDERS,
    ("val",),
    "put a folder imagenet or tiny-imagenet-200 that has the classes of data.classes there, from "
    "https://image-net.org/download.php.",
)


@dataclass(frozen=True)
class Corrupt:
    """Corrupts an image by the corruption that is its bias, at a severity of 1 to 5 as the authors count them.

    The random numbers of a corruption depend on the file's name and on nothing else, its pixels on no processor.
    """

    severity: int

    def __call__(self, image: np.ndarray, bias: int, file: str) -> np.ndarray:
        """image: uint8 [H, W, 3]. Raises UserError where the package is not installed."""
        try:
            import cv2
            from imagecorruptions import corrupt
        except ImportError as error:
            raise UserError(
                f"ImageNet-B needs a package that is not here ({error}): pip install -e '.[imagenet-b]'."
            ) from error
        state = np.random.get_state()  # noqa: NPY002 - the package draws from NumPy's global generator
        np.random.seed(zlib.crc32(f"{file} {CORRUPTIONS[bias]}".encode()))  # noqa: NPY002
        # With what a processor has of its own, OpenCV does not resize frost to the same pixels on each.
        fast, ipp = cv2.useOptimized(), cv2.ipp.useIPP()
        cv2.setUseOptimized(False)
        cv2.ipp.setUseIPP(False)
        try:
            return corrupt(image, severity=self.severity, corruption_name=CORRUPTIONS[bias])
        finally:
            cv2.setUseOptimized(fast)
            cv2.ipp.setUseIPP(ipp)
            np.random.set_state(state)  # noqa: NPY002


@register_images("imagenet_b")
def imagenet_b(data_root: Path, *, classes: list[str], ratio: float, severity: int, validation: int) -> Listing:
    """Training images of which a share ``ratio`` of each class has the class's own corruption, the rest the nine
    others evenly; every validation image of ImageNet is tested under all ten. The last ``validation`` training images
    of each class, an even number, are held out, under all ten as well: epochs are chosen on them.

    ``classes`` are ten WordNet ids, in the order of ``CORRUPTIONS``. Reads folders in the layout of ImageNet and
    of Tiny ImageNet.
    """
    if len(set(classes)) != len(CORRUPTIONS):
        raise UserError(f"data.classes has {len(set(classes))} classes: one is needed for each of ten corruptions.")
    if severity not in range(1, 6):
        raise UserError(f"data.severity is {severity}: it must be one of 1, 2, 3, 4, 5.")
    if validation % 2:
        # DFR's half would hold other corruptions of the very photographs that its epochs are chosen on.
        raise UserError(f"data.validation is {validation}: it must be even, so that photographs can be halved.")
    source = IMAGENETTE_SOURCE if set(classes) == IMAGENETTE else IMAGENET_SOURCE
    root = source.find(data_root, [f"train/{each}" for each in classes])
    files = [_images(root, f"train/{each}") for each in classes]
    if least := next((each for each in files if len(each) <= validation), None):
        raise UserError(
            f"data.validation is {validation}, of {len(least)} training images of a class in {root}: choose fewer."
        )
    cut = -validation or None
    train = [(file, y) for y, names in enumerate(files) for file in names[:cut]]
    held_out = [(file, y) for y, names in enumerate(files) for file in names[cut:]] if cut else []
    if (root / TINY_VALIDATION).exists():
        test = _tiny_validation(root, classes)
    else:
        test = [(file, y) for y, each in enumerate(classes) for file in _images(root, f"val/{each}")]
    targets = np.array([y for _, y in train], np.int64)
    kinds = len(CORRUPTIONS)
    under_all = held_out + test
    ends = len(train) + kinds * len(held_out), len(train) + kinds * len(under_all)
    return Listing(
        name="ImageNet-B (reconstruction)",
        root=root,
        files=[file for file, _ in train] + [file for file, _ in under_all for _ in CORRUPTIONS],
        targets=np.concatenate((targets, np.repeat([y for _, y in under_all], kinds))),
        bias=np.concatenate((assign_colors(targets, ratio), np.tile(np.arange(kinds), len(under_all)))),
        splits=(slice(0, len(train)), slice(len(train), ends[0]), slice(*ends)),
        class_names=_readable(root, classes),
        bias_names=CORRUPTIONS,
        aligned_bias=np.arange(kinds),
        fit=centre_square,
        finish=Corrupt(severity),
        notes=("A reconstruction of ImageNet-B, whose images and classes were never published.",),
    )


def _images(root: Path, folder: str) -> list[str]:
    """The images of a class, sorted by name. Raises UserError for a folder without any."""
    inner = f"{folder}/images" if (root / folder / "images").is_dir() else folder
    try:
        names = sorted(name for name in os.listdir(root / inner) if name.lower().endswith(SUFFIXES))
    except OSError as error:
        raise UserError(f"{root / inner} cannot be read ({error.strerror}): restore it.") from error
    if not names:
        raise UserError(f"{root / inner} holds no image: restore it.")
    return [f"{inner}/{name}" for name in names]


def _tiny_validation(root: Path, classes: list[str]) -> list[tuple[str, int]]:
    """Validation images of the classes in Tiny ImageNet's layout, whose classes stand in a file of their own."""
    path = root / TINY_VALIDATION
    table = read_table(path, sep="\t", header=None, usecols=[0, 1], names=["file", "class"])
    table = table[table["class"].isin(classes)].sort_values(["class", "file"])
    for each in classes:
        if each not in set(table["class"]):
            raise UserError(f"{path} has no image of class {each}: restore it.")
    number = {each: y for y, each in enumerate(classes)}
    return [(f"val/images/{file}", number[each]) for file, each in zip(table.file, table["class"], strict=True)]


def _readable(root: Path, classes: list[str]) -> tuple[str, ...]:
    """The first English name of each class where the set brings them, else its WordNet id."""
    if not (root / "words.txt").exists():
        return tuple(classes)
    table = read_table(root / "words.txt", sep="\t", header=None, names=["id", "words"])
    words = dict(zip(table.id, table.words, strict=True))
    return tuple(words.get(each, each).split(",")[0] for each in classes)
