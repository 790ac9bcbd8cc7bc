"""What would make a run fail, found without decoding, downloading or training."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path

import datasets
from benchmark.errors import UserError
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import Run
from benchmark.plan.uses import Labels
from datasets import BiasedDataset


def rehearse(runs: Sequence[Run], recipes: Recipes, data_root: Path, device: str) -> None:
    """Raises UserError where data, labels, weights of ImageNet or the device are missing that one of the runs needs."""
    if device not in ("auto", "cpu"):
        from benchmark.worker import pick_device  # PyTorch, which knows its devices

        pick_device(device)
    labels = _labels(data_root)
    for run in runs:
        labels(run).check(run.method, recipes.uses(run.method))
    for network in {run.settings["network"] for run in runs if run.settings.get("pretrained")}:
        from benchmark.training.networks import check_weights

        check_weights(network)


def able(
    runs: Sequence[Run], recipes: Recipes, data_root: Path, named: Collection[str]
) -> tuple[list[Run], tuple[str, ...]]:
    """The runs without those whose data lack the validation images that their method uses, and notes that say so.

    Data that are not there are not looked at: training says so. Raises UserError where a method that was ``named`` has
    no run left, or no method has.
    """
    labels = _labels(data_root)
    kept, lacking, left_out = [], dict[str, Run](), dict[str, dict[str, None]]()
    for run in runs:
        uses = recipes.uses(run.method)
        try:
            why = labels(run).lacking(uses) if "uses_validation" in uses else ""
        except UserError:
            why = ""
        if why:
            lacking.setdefault(run.method, run)
            left_out.setdefault(why, {})[recipes.method_title(run.method)] = None
        else:
            kept.append(run)
    for method in lacking.keys() - {run.method for run in kept}:
        if method in named or not kept:
            labels(lacking[method]).check(method, recipes.uses(method))
    return kept, tuple(f"Left out, since {why}: {', '.join(names)}." for why, names in left_out.items())


def _labels(data_root: Path) -> Callable[[Run], Labels]:
    """What the data of a run have, looked at once. Raises UserError where they are missing."""

    @cache
    def outline(builder: str, balance: float, data: str) -> BiasedDataset:
        return datasets.outline(builder, data_root, balance, **json.loads(data))

    def of_run(run: Run) -> Labels:
        settings = run.settings
        dataset = outline(settings["dataset"], settings["balance"], json.dumps(settings["data"]))
        return Labels(dataset.name, dataset.train.bias, dataset.validation.bias)

    return of_run
