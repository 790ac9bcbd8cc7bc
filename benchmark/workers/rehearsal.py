"""What would make a run fail, and how much there is to train, found without decoding, downloading or training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import datasets
from benchmark.errors import UserError
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import Run
from benchmark.plan.uses import Labels
from benchmark.rules import Rule, lacking
from datasets import BiasedDataset
from datasets.base import halved
from datasets.folder import describe
from datasets.images import IMAGE_SETS


def rehearse(runs: Sequence[Run], recipes: Recipes, data_root: Path, device: str) -> None:
    """Raises UserError where data, labels, weights or the device are missing, or a network is not for the images."""
    lower = {each for run in runs if (each := run.settings["precision"]) == "bf16"}
    if lower or device not in ("auto", "cpu"):
        from benchmark.training.networks import check_precision  # PyTorch, which knows its devices
        from benchmark.workers.worker import pick_device

        for each in lower or {"auto"}:
            check_precision(each, pick_device(device))
    outline = _outlines(data_root)
    for run in runs:
        settings, dataset = run.settings, outline(run)
        _labels(dataset).check(run.method, recipes.uses(run.method))
        if settings["network"] != "mlp":  # which takes any images, and does not need what the others load
            from benchmark.training.networks import check, check_weights

            check_weights(settings)
            size = settings["data"].get("size")  # outlined images may have no pixels
            shape = (3, size, size) if size else dataset.image_shape
            check({**settings, "pretrained": False}, shape, len(dataset.class_names))


def check_rule(runs: Sequence[Run], recipes: Recipes, data_root: Path, rule: Rule) -> None:
    """Raises UserError where the data of one of the runs have no validation images that the rule can look at.

    A method that trains on half of them leaves the other half.
    """
    outline = _outlines(data_root)
    for run in runs:
        dataset, half = outline(run), ""
        if "uses_validation" in recipes.uses(run.method):
            dataset = replace(dataset, validation=halved(dataset.validation)[1])
            half = f" in the half of them that {run.method} does not train on"
        if why := lacking(rule, dataset.validation_sizes, dataset.group_sizes(dataset.test)):
            raise UserError(
                f"--select {rule.name} chooses no epoch on {run.task}, since {why}{half}: choose another rule."
            )


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


def able(
    runs: Sequence[Run], recipes: Recipes, data_root: Path, named: Collection[str]
) -> tuple[list[Run], tuple[str, ...]]:
    """The runs without those whose data lack the validation images that their method uses, and notes that say so.

    Data that are not there are not looked at: training says so. Raises UserError where a method that was ``named`` has
    no run left, or no method has.
    """
    outline = _outlines(data_root)
    kept, lacking, left_out = [], dict[str, Run](), dict[str, dict[str, None]]()
    for run in runs:
        uses = recipes.uses(run.method)
        try:
            why = _labels(outline(run)).lacking(uses) if "uses_validation" in uses else ""
        except UserError:
            why = ""
        if why:
            lacking.setdefault(run.method, run)
            left_out.setdefault(why, {})[recipes.method_title(run.method)] = None
        else:
            kept.append(run)
    for method in lacking.keys() - {run.method for run in kept}:
        if method in named or not kept:
            _labels(outline(lacking[method])).check(method, recipes.uses(method))
    return kept, tuple(f"Left out, since {why}: {', '.join(names)}." for why, names in left_out.items())


def _outlines(data_root: Path) -> Callable[[Run], BiasedDataset]:
    """The data of a run without pixels, looked at once. Raises UserError where they are missing."""

    @cache
    def outline(builder: str, balance: float, data: str) -> BiasedDataset:
        return datasets.outline(builder, data_root, balance, **json.loads(data))

    def of_run(run: Run) -> BiasedDataset:
        settings = run.settings
        return outline(settings["dataset"], settings["balance"], json.dumps(settings["data"]))

    return of_run


def _labels(dataset: BiasedDataset) -> Labels:
    return Labels(dataset.name, dataset.train.bias, dataset.validation.bias)
