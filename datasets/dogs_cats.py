"""Dogs & Cats: Kaggle's pets with the bright and dark lists of Kim et al. (CVPR 2019); fur colour is the bias.

The mixture follows Lee et al. (AAAI 2023): bright dogs and dark cats are aligned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.errors import UserError
from datasets.download import Download
from datasets.images import register_images
from datasets.labels import require_file
from datasets.listing import Listing
from datasets.prepared import stretch
from datasets.source import Source

CLASSES, BIASES = ("cat", "dog"), ("dark", "bright")
# Entries of the lists, [cat, dog] × [dark, bright].
LISTED = np.array([[4748, 3086], [3652, 5299]])
ALIGNED_SHARE = 0.8  # of each class's aligned images go into training: 8,037, as in the release by Lee et al.
TEST = 500  # conflicting images of each class to test on, and as many held-out aligned ones
VALIDATION = 250  # images of each group to choose epochs on
LEAST_RATIO = 0.62  # below it, the conflicting cats run out
SOURCE = Source(
    "Dogs & Cats",
    ("dogs_and_cats", "dogs_cats", "dogs-vs-cats"),
    ("train", "list_bright.txt", "list_dark.txt"),
    "put train.zip of https://www.kaggle.com/c/dogs-vs-cats, and list_bright.txt and list_dark.txt of "
    "https://github.com/feidfoe/learning-not-to-learn, into the folder dogs_and_cats there.",
    (Download("dogs_and_cats/train.zip", unpacks_to="train"),),
)


@register_images("dogs_cats")
def dogs_cats(data_root: Path, *, ratio: float) -> Listing:
    """Training images of which a share ``ratio`` of each class is aligned; 500 + 500 conflicting test images.

    Average and worst accuracy count only the conflicting test groups, as in the paper. 500 + 500 held-out aligned
    images are tested too, so that Equalised Odds exists, and 250 of each group are for validation. All ratios share
    images, their order, validation and test set; a lower ratio only adds conflicting images. Raises UserError for a
    ratio that needs more than there are.
    """
    root = SOURCE.find(data_root)
    listed = {bias: _read(root / f"list_{name}.txt") for bias, name in enumerate(BIASES)}
    if repeated := set(listed[0]) & set(listed[1]):
        raise UserError(f"'{min(repeated)}' is in both {root / 'list_bright.txt'} and list_dark.txt: restore them.")
    rng = np.random.default_rng(0)
    groups = {
        (y, b): rng.permutation([name for name in listed[b] if name.startswith(CLASSES[y])]).tolist()
        for y in (0, 1)
        for b in (0, 1)
    }
    for (y, b), names in groups.items():
        if len(names) != LISTED[y, b]:
            raise UserError(
                f"list_{BIASES[b]}.txt in {root} has {len(names):,} {CLASSES[y]}s, {LISTED[y, b]:,} expected: "
                "restore the published list."
            )

    cut = {y: round(ALIGNED_SHARE * LISTED[y, y]) for y in (0, 1)}
    aligned = [(name, y, y) for y in (0, 1) for name in groups[y, y][: cut[y]]]
    tested = [(name, y, 1 - y) for y in (0, 1) for name in groups[y, 1 - y][:TEST]]
    held_out = [(name, y, y) for y in (0, 1) for name in groups[y, y][cut[y] : cut[y] + TEST]]
    unused = {y: groups[y, y][cut[y] + TEST :] for y in (0, 1)}
    validation = [(name, y, y) for y in (0, 1) for name in unused[y][:VALIDATION]]
    validation += [(name, y, 1 - y) for y in (0, 1) for name in groups[y, 1 - y][-VALIDATION:]]
    # Any beginning of the conflicting images has the classes in the proportion of the aligned ones.
    places = sorted(
        ((number + 0.5) / cut[y], name, y)
        for y in (0, 1)
        for number, name in enumerate(groups[y, 1 - y][TEST:-VALIDATION])
    )
    conflicting = [(name, y, 1 - y) for _, name, y in places]
    if not LEAST_RATIO <= ratio <= 1:
        raise UserError(f"data.ratio is {ratio}: it must lie between {LEAST_RATIO} and 1.")
    train = len(aligned) + round(len(aligned) * (1 - ratio) / ratio)
    rest = [(name, y, y) for y in (0, 1) for name in unused[y][VALIDATION:]]
    files, targets, bias = zip(*aligned, *conflicting, *validation, *tested, *held_out, *rest, strict=True)
    start = len(aligned) + len(conflicting)
    test = start + len(validation)
    return Listing(
        name="Dogs & Cats",
        root=root / "train",
        files=files,
        targets=np.array(targets, np.int64),
        bias=np.array(bias, np.int64),
        splits=(slice(0, train), slice(start, test), slice(test, test + len(tested) + len(held_out))),
        class_names=CLASSES,
        bias_names=BIASES,
        aligned_bias=np.array([0, 1]),
        fit=stretch,
        scored=np.array([[False, True], [True, False]]),
        notes=(
            "Average and worst accuracy count the conflicting test groups only, as in the paper; the bias is "
            "Equalised Odds with held-out aligned images, which the paper does not report.",
        ),
    )


def _read(path: Path) -> list[str]:
    """The names in a list, sorted. Raises UserError for one that is no cat or dog, or occurs twice."""
    require_file(path)
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it.") from error
    for name in names:
        if not name.startswith(CLASSES):
            raise UserError(f"{path} lists '{name}', which is neither cat.N.jpg nor dog.N.jpg: restore it.")
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} lists '{repeated}' more than once: restore it.")
    return sorted(names)
