"""CelebA (Liu et al., ICCV 2015): a facial attribute to predict, with gender as the bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.errors import UserError
from datasets.base import associated_bias, group_sizes
from datasets.download import Download
from datasets.images import register_images
from datasets.labels import read_table, require_columns, require_file, require_unique, require_values
from datasets.listing import Listing
from datasets.prepared import centre_square
from datasets.source import Source

ATTRIBUTES, PARTITION, IMAGES = "list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"
BIAS = "Male"
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
# The images: from the mirror of PyTorch's tutorials, whose .jenkins/download_data.py states address and checksum, else,
# like the two lists, from the owners' Google Drive, under the ids and checksums of torchvision.datasets.CelebA (SHA-256
# from its prototype). Drive has a daily quota. Other copies are somebody's own, which the terms do not allow.
SOURCE = Source(
    "CelebA",
    ("celeba", "CelebA"),
    (ATTRIBUTES, PARTITION, IMAGES),
    f"put {IMAGES}.zip (aligned and cropped images), {ATTRIBUTES} and {PARTITION} of "
    "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html into the folder celeba there.",
    (
        Download(
            f"celeba/{ATTRIBUTES}",
            (f"{DRIVE}0B7EVK8r0v71pblRyaVFSWGxPY0U",),
            "sha256:f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
            26_721_026,
        ),
        Download(
            f"celeba/{PARTITION}",
            (f"{DRIVE}0B7EVK8r0v71pY0NSMzRuSXJEVkk",),
            "sha256:fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
            2_836_386,
        ),
        Download(
            f"celeba/{IMAGES}.zip",
            (
                f"https://s3.amazonaws.com/pytorch-tutorial-assets/{IMAGES}.zip",
                f"{DRIVE}0B7EVK8r0v71pZjFTYXZWM3FlRnM",
            ),
            "sha256:46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
            1_443_490_838,
            IMAGES,
        ),
    ),
    terms="non-commercial research only",
)
IMAGES_IN_SPLIT = {"train": 162_770, "validation": 19_867, "test": 19_962}
# Group sizes [not blond, blond] × [female, male], the standard figures of the GroupDRO literature. Those of the
# other attributes are printed nowhere, so only the number of images is known for them.
BLOND_GROUPS = {
    "train": [[71_629, 66_874], [22_880, 1_387]],
    "validation": [[8_535, 8_276], [2_874, 182]],
    "test": [[9_767, 7_535], [2_480, 180]],
}


@register_images("celeba")
def celeba(data_root: Path, *, target: str) -> Listing:
    """The official partition, for the attribute ``target``: class 1 has it. Bias 1 is Male = 1.

    Aligned pairs follow the sign of the attribute's correlation with Male in the training partition; the plain
    majority would call both classes of Blond_Hair female. Images are cut to their centre square of 178 pixels.
    """
    root = SOURCE.find(data_root)
    attributes = root / ATTRIBUTES
    names, declared = _header(attributes)
    table = read_table(attributes, sep=r"\s+", skiprows=2, header=None, names=["file", *names])
    require_columns(table, attributes, (target, BIAS))
    if len(table) != declared:
        raise UserError(f"{attributes} announces {declared} images but has {len(table)}: restore it.")
    require_unique(table.file, attributes)
    for column in (target, BIAS):
        require_values(table[column], table.file, attributes, ("-1", "1"))

    partition = root / PARTITION
    parts = read_table(partition, sep=r"\s+", header=None, names=["file", "part"])
    require_unique(parts.file, partition)
    require_values(parts.part, parts.file, partition, ("0", "1", "2"))
    table = table.merge(parts, how="outer", on="file", indicator=True)
    single = table[table["_merge"] != "both"]
    if len(single):
        raise UserError(f"'{single.file.iloc[0]}' is in only one of {ATTRIBUTES} and {PARTITION}: restore them.")
    table = table.sort_values(["part", "file"])

    targets, bias = ((table[column] == "1").to_numpy(np.int64) for column in (target, BIAS))
    ends = np.searchsorted(table.part.to_numpy(str), ["0", "1", "2"], side="right").tolist()
    train, validation, test = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])
    readable = target.replace("_", " ").lower()
    return Listing(
        name="CelebA",
        root=root / IMAGES,
        files=table.file.tolist(),
        targets=targets,
        bias=bias,
        splits=(train, validation, test),
        class_names=(f"not {readable}", readable),
        bias_names=("female", "male"),
        aligned_bias=associated_bias(group_sizes(targets[train], bias[train], 2, 2)),
        fit=centre_square,
        published=BLOND_GROUPS if target == "Blond_Hair" else IMAGES_IN_SPLIT,
    )


def _header(path: Path) -> tuple[list[str], int]:
    """The attributes' names and the number of images that the file announces."""
    require_file(path)
    try:
        with path.open(encoding="utf-8") as file:
            count, names = file.readline().strip(), file.readline().split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it.") from error
    if not count.isdigit() or not names:
        raise UserError(f"{path} does not begin with the number of images and the attributes' names: restore it.")
    return names, int(count)
