"""Waterbirds (Sagawa et al., ICLR 2020): land and water birds, with the place they are pasted on as the bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.download import Download
from datasets.images import register_images
from datasets.labels import read_table, require_columns, require_unique, require_values
from datasets.listing import Listing
from datasets.prepared import centre_of_stretched
from datasets.source import Source

METADATA = "metadata.csv"
RELEASE = "waterbird_complete95_forest2water2"
SOURCE = Source(
    "Waterbirds",
    (RELEASE, f"waterbirds/{RELEASE}", "waterbirds"),
    (METADATA,),
    f"put {RELEASE}.tar.gz from https://github.com/kohpangwei/group_DRO there and run "
    "python -m datasets.prepare waterbirds, which also tries to download it.",
    (
        Download(
            f"{RELEASE}.tar.gz",
            (
                f"https://nlp.stanford.edu/data/dro/{RELEASE}.tar.gz",
                f"https://downloads.cs.stanford.edu/nlp/data/dro/{RELEASE}.tar.gz",
                # That of WILDS, which packs the files as it sends them, without the folder.
                "https://worksheets.codalab.org/rest/bundles/0x505056d5cdea4e4eaa0e242cbfe2daa4/contents/blob/",
            ),
            # The owners publish no checksum; the group sizes are checked instead.
            unpacks_to=RELEASE,
            bare=METADATA,
        ),
    ),
)
# [land bird, water bird] × [land, water]
GROUPS = {
    "train": [[3498, 184], [56, 1057]],
    "validation": [[467, 466], [133, 133]],
    "test": [[2255, 2255], [642, 642]],
}
LAYOUT_SOURCE = Source(
    "A set in the layout of Waterbirds",
    ("waterbirds_layout", "waterbirds_surrogate"),
    (METADATA,),
    f"put a folder waterbirds_layout there with the images and a {METADATA} of the columns img_filename, y, split "
    "and place.",
)


@register_images("waterbirds")
def waterbirds(data_root: Path) -> Listing:
    """The released archive, three mislabelled species included."""
    return _listing("Waterbirds", SOURCE.find(data_root), published=GROUPS)


@register_images("waterbirds_layout")
def waterbirds_layout(data_root: Path) -> Listing:
    """Any set of birds on places in the same layout. It is not Waterbirds, and no result of it may be called so."""
    return _listing(
        "Stand-in birds",
        LAYOUT_SOURCE.find(data_root),
        notes=("A stand-in set in the layout of Waterbirds; not comparable with Waterbirds.",),
    )


def _listing(
    name: str, root: Path, published: dict[str, list[list[int]]] | None = None, notes: tuple[str, ...] = ()
) -> Listing:
    """Classes y: 0 land bird, 1 water bird; bias: 0 land, 1 water; splits 0 train, 1 validation, 2 test."""
    path = root / METADATA
    table = read_table(path)
    require_columns(table, path, ("img_filename", "y", "split", "place"))
    require_unique(table.img_filename, path)
    require_values(table.y, table.img_filename, path, ("0", "1"))
    require_values(table.place, table.img_filename, path, ("0", "1"))
    require_values(table.split, table.img_filename, path, ("0", "1", "2"))
    table = table.sort_values("split", kind="stable")
    ends = np.searchsorted(table.split.to_numpy(str), ["0", "1", "2"], side="right").tolist()
    return Listing(
        name=name,
        root=root,
        files=table.img_filename.tolist(),
        targets=table.y.to_numpy(np.int64),
        bias=table.place.to_numpy(np.int64),
        splits=(slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])),
        class_names=("land bird", "water bird"),
        bias_names=("land", "water"),
        aligned_bias=np.array([0, 1]),
        fit=centre_of_stretched,
        published=published,
        notes=notes,
    )
