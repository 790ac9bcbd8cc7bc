"""The cells of a table: mean and spread over seeds of each row, task and metric, beside the paper's number."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from benchmark.compare import published
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.table import Row, Table
from benchmark.rules import LAST, RULES, Rule
from benchmark.store.record import Number, Record
from benchmark.store.results import Results

COLUMNS = [
    "table", "method", "task", "metric", "mean", "std", "n", "collapsed", "paper", "delta", "selection", "preset",
]  # fmt: skip


@lru_cache(maxsize=64)  # a table is shown in several places
def tidy(table: Table, results: Results) -> pd.DataFrame:
    """One line per row, task, metric and selection rule: mean and sample sd over seeds, beside the paper's number.

    A gap is a line without mean and with n = 0, of the rule that is shown only. ``collapsed`` counts the runs of a mean
    whose epoch is of no use, by ``metrics.collapsed``, so that bias and accuracy mean nothing.
    """
    lines = []
    for column in table.columns:
        for row in table.rows:
            records = [record for task in table.tasks_of(column) for record in results.cell(table, row, task).records]
            for metric in table.metrics:
                for rule in rules_of(metric, results.rule):
                    values = _over_seeds(table, row, column, metric, rule, results)
                    if values or rule is results.rule:
                        collapsed = sum(record.collapsed(rule) for record in records) if metric in FAIRNESS else 0
                        lines.append(_line(table, row, column, metric, rule, values, collapsed))
    return pd.DataFrame(lines, columns=COLUMNS)


def rules_of(metric: str, shown: Rule) -> tuple[Rule, ...]:
    """The selection rules of a metric; rows of Table 3 name their epochs themselves, whatever rule is shown."""
    return (shown,) if metric == "bias_acc" else tuple(RULES.values())


def shown(lines: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Those of the lines of ``tidy`` that are of the rule that is shown."""
    return lines[lines.selection == results.rule.name]


def _over_seeds(table: Table, row: Row, column: str, metric: str, rule: Rule, results: Results) -> list[float]:
    """The metric of each seed. Seeds that some task lacks have no average over tasks."""
    parts = [by_seed(results.cell(table, row, task).records, row, metric, rule) for task in table.tasks_of(column)]
    shared = sorted(set.intersection(*map(set, parts)))
    return [statistics.fmean(part[seed] for part in parts) for seed in shared]


def by_seed(records: Sequence[Record], row: Row, metric: str, rule: Rule = LAST) -> dict[int, float]:
    """The metric of each seed that has it."""
    values = {record.seed: value(record, row, metric, rule) for record in records}
    return {seed: each for seed, each in values.items() if each is not None}


def value(record: Record, row: Row, metric: str, rule: Rule = LAST) -> Number:
    """What a record says of a cell of that row, in percent; None where it was not measured."""
    if metric == "bias_acc":
        return record.bias_accuracy(row.epoch)
    return record.fairness(rule).get(metric)


def _line(
    table: Table, row: Row, task: str, metric: str, rule: Rule, values: Sequence[float], collapsed: int
) -> list[object]:
    paper = published.numbers().get((table.name, row.key, task, metric))
    mean = statistics.fmean(values) if values else None
    delta = mean - paper if mean is not None and paper is not None else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    preset = ", ".join((table.preset, *map(str, table.overrides)))
    return [table.name, row.key, task, metric, mean, spread, len(values), collapsed, paper, delta, rule.name, preset]


def has_capped_bias(table: Table, row: Row, column: str, results: Results) -> bool:
    """Whether the bias of some run of a cell says no more than its average."""
    return any(
        record.bias_is_capped(results.rule)
        for task in table.tasks_of(column)
        for record in results.cell(table, row, task).records
    )


def ranks(table: Table, lines: pd.DataFrame, results: Results) -> dict[tuple[str, str, str], int]:
    """0 for the best and 1 for the second (row, task, metric) of each column, among methods without bias labels.

    A method alone in its column is neither, nor is any where all are level, or one of which a run collapsed, or a bias
    that says nothing; the other one of two is not the second. Rows of the same runs count once, and are marked alike.
    """
    rows = {row.key: row for row in table.rows}
    sound = shown(lines, results)
    sound = sound[sound["mean"].notna() & (sound.collapsed == 0)]
    fair = sound[~sound.method.isin({row.key for row in table.rows if row.method in results.use_bias_labels})]
    capped = [
        metric == "model_bias" and has_capped_bias(table, rows[key], column, results)
        for key, column, metric in zip(fair.method, fair.task, fair.metric, strict=True)
    ]
    fair = fair[~np.array(capped, bool)]
    runs = [
        str([results.source(table, rows[key], task) for task in table.tasks_of(column)])
        for key, column in zip(fair.method, fair.task, strict=True)
    ]
    fair = fair.assign(runs=runs)
    own = fair.drop_duplicates(["task", "metric", "runs"])
    sign = own.metric.map(lambda metric: 1 if METRICS[metric].better == "lower" else -1)
    columns = (sign * own["mean"].astype(float).round(2)).groupby([own.task, own.metric])
    found, size = columns.rank(method="min"), columns.transform("size")
    found = found.where((found < size.clip(upper=3)) & (columns.transform("nunique") > 1))
    places = zip(own.runs, own.task, own.metric, strict=True)
    ranked = {place: int(rank) - 1 for place, rank in zip(places, found, strict=True) if rank <= 2}
    return {
        (key, task, metric): ranked[runs, task, metric]
        for key, runs, task, metric in zip(fair.method, fair.runs, fair.task, fair.metric, strict=True)
        if (runs, task, metric) in ranked
    }
