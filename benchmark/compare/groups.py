"""The accuracy of every test group by itself: what average, worst group and bias are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from benchmark.metrics import aligned_mask, group_accuracy
from benchmark.plan.table import Table
from benchmark.rules import Rule
from benchmark.store.record import Record
from benchmark.store.results import Results

COLUMNS = [
    "table", "task", "method", "class", "bias", "aligned", "train", "test", "mean", "std", "n", "collapsed",
    "selection", "preset",
]  # fmt: skip


def tidy(table: Table, results: Results) -> pd.DataFrame:
    """One line per task, row and tested group: mean accuracy and sample sd over seeds, in percent.

    They are of the epochs that the results' rule chooses; runs of which it can choose none are left out. ``aligned``
    says whether the bias is the one that goes with the class. ``train`` and ``test`` are mean numbers of images over
    the seeds, which may colour other digits. ``collapsed`` counts the runs whose epoch is of no use.
    """
    preset = ", ".join((table.preset, *map(str, table.overrides)))
    lines = [
        (table.name, task, row.key, *line, results.rule.name, preset)
        for task in table.tasks
        for row in table.rows
        for line in _over_seeds(results.cell(table, row, task).records, results.rule)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def _over_seeds(records: Sequence[Record], rule: Rule) -> Iterator[tuple[object, ...]]:
    """Of each group, class by class: what COLUMNS names from "class" to "collapsed"."""
    measured: dict[tuple[str, str, bool], list[tuple[int, int, float]]] = {}
    for record in records:
        if (correct := record.correct(rule)) is None:
            continue
        groups = record.groups
        accuracy = group_accuracy(correct, np.asarray(groups.test))
        aligned = aligned_mask(accuracy.shape, np.asarray(groups.aligned_bias))
        for target, bias in np.argwhere(np.isfinite(accuracy)).tolist():
            group = groups.classes[target], groups.biases[bias], bool(aligned[target, bias])
            sizes = groups.train[target][bias], groups.test[target][bias]
            measured.setdefault(group, []).append((*sizes, accuracy[target, bias]))
    collapsed = sum(record.collapsed(rule) for record in records)
    for group, values in measured.items():
        train, test, mean = np.mean(values, 0)
        spread = np.std([accuracy for *_, accuracy in values], ddof=1) if len(values) > 1 else np.nan
        yield (*group, train, test, mean, spread, len(values), collapsed)
