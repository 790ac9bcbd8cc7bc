"""What would make a run fail, found without decoding, downloading or training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import datasets
from benchmark.plan import limits
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import Run
from datasets import BiasedDataset


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
