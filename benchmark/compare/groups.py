"""The accuracy of every test group by itself: what average, worst group and bias are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.metrics import aligned_mask, group_accuracy
from benchmark.plan.table import Table
from benchmark.rules import Rule
from benchmark.store.record import Record
from benchmark.store.results import Results

FEW = 8  # groups, each of which is shown by itself


class Accuracy(NamedTuple):
    """A tested group over the seeds of a series: its names, mean numbers of images, and percent of right answers.

    ``aligned`` says whether the bias is the one that goes with the class, None where no label tells. Numbers of images
    are means, since seeds may colour other digits; that of training images is NaN where none has a bias. ``std`` is the
    sample deviation, NaN for one seed. ``collapsed`` counts the runs whose epoch is of no use, by
    ``metrics.collapsed``.
    """

    target: str
    bias: str
    aligned: bool | None
    train: float
    test: float
    mean: float
    std: float
    n: int
    collapsed: int


def tidy(table: Table, results: Results) -> pd.DataFrame:
    """One line per task, row and tested group, in the epochs that the results' rule chooses."""
    preset = ", ".join((table.preset, *map(str, table.overrides)))
    lines = [
        (table.name, task, row.key, *each, results.rule.name, preset)
        for task in table.tasks
        for row in table.rows
        for each in over_seeds(results.cell(table, row, task).records, results.rule)
    ]
    return pd.DataFrame(lines, columns=["table", "task", "method", *Accuracy._fields, "selection", "preset"])


class Overall(NamedTuple):
    """The percentage of all test images that are right, whatever their groups: mean over seeds, sample deviation."""

    mean: float
    std: float
    n: int


def overall(records: Sequence[Record], rule: Rule) -> Overall | None:
    """What other suites call the average accuracy; None where the rule can choose no epoch."""
    found = [
        100 * float(np.sum(correct) / np.sum(record.groups.test))
        for record in records
        if (correct := record.correct(rule)) is not None
    ]
    if not found:
        return None
    return Overall(float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else math.nan, len(found))


def over_seeds(records: Sequence[Record], rule: Rule) -> Iterator[Accuracy]:
    """The groups of a series, class by class; runs of which the rule can choose no epoch are left out."""
    measured: dict[tuple[str, str, bool | None], list[tuple[float, int, float]]] = {}
    for record in records:
        if (correct := record.correct(rule)) is None:
            continue
        groups = record.groups
        accuracy = group_accuracy(correct, np.asarray(groups.test))
        aligned = aligned_mask(accuracy.shape, np.asarray(groups.aligned_bias))
        has_bias = any(map(any, groups.train))
        for target, bias in np.argwhere(np.isfinite(accuracy)).tolist():
            kind = bool(aligned[target, bias]) if groups.told_by else None
            group = groups.classes[target], groups.biases[bias], kind
            sizes = groups.train[target][bias] if has_bias else math.nan, groups.test[target][bias]
            measured.setdefault(group, []).append((*sizes, accuracy[target, bias]))
    collapsed = sum(record.collapsed(rule) for record in records)
    for group, values in measured.items():
        train, test, mean = np.mean(values, 0).tolist()
        spread = float(np.std([accuracy for *_, accuracy in values], ddof=1)) if len(values) > 1 else math.nan
        yield Accuracy(*group, train, test, mean, spread, len(values), collapsed)
