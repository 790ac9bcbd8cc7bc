"""What would make a run fail, and how much there is to train, found without decoding, downloading or training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import datasets
from benchmark.plan import limits
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import Run
from datasets import BiasedDataset
from datasets.folder import describe
from datasets.images import IMAGE_SETS


def rehearse(runs: Sequence[Run], recipes: Recipes, data_root: Path, device: str) -> None:
    """Raises UserError where data, labels, weights or the device are missing, or a network is not for the images."""
    if device not in ("auto", "cpu"):
        from benchmark.worker import pick_device  # PyTorch, which knows its devices

        pick_device(device)
    outlines: dict[str, BiasedDataset] = {}
    for run in runs:
        settings = run.settings
        data = json.dumps([settings["dataset"], settings["data"], settings["balance"]])
        if data not in outlines:
            outlines[data] = datasets.outline(settings["dataset"], data_root, settings["balance"], **settings["data"])
        dataset = outlines[data]
        unknown = int((dataset.train.bias < 0).sum())
        limits.check_bias_labels(run.method, recipes.uses_bias_labels(run.method), unknown, dataset.name)
        if settings["network"] != "mlp":  # which takes any images, and does not need what the others load
            from benchmark.training.networks import check, check_weights

            check_weights(settings)
            size = settings["data"].get("size")  # outlined images may have no pixels
            shape = (3, size, size) if size else dataset.image_shape
            check({**settings, "pretrained": False}, shape, len(dataset.class_names))


def outlook(runs: Sequence[Run], data_root: Path) -> str:
    """One line on what training the runs, all on the same folder of one's own, amounts to.

    How long it takes is not known before an epoch was trained on this machine. Raises UserError as ``rehearse``.
    """
    data = runs[0].settings["data"]
    listing = IMAGE_SETS["folder"].listing(data_root, **data)
    images = listing.splits[0].stop - listing.splits[0].start
    number = _span([len(runs)], "run")
    epochs = _span([run.settings["epochs"] for run in runs], "epoch")
    updates = _span([math.ceil(images / run.settings["batch_size"]) for run in runs], "update")
    return (
        f"{describe(listing, data['size'])}. To train: {number} of {epochs}, more for methods of several stages, with "
        f"{updates} an epoch; the progress bar tells the time left once one was trained."
    )


def _span(numbers: Sequence[int], unit: str) -> str:
    """Such as "1 epoch" or "3 to 50 epochs": the least and the largest of the numbers."""
    ends = dict.fromkeys((min(numbers), max(numbers)))
    return f"{' to '.join(f'{each:,}' for each in ends)} {unit}{'s' * (max(numbers) != 1)}"
