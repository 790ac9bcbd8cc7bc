"""The cells of a table: mean and spread over seeds of each row, task and metric, beside the paper's number."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pandas as pd

from benchmark.compare import published
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.table import Row, Table
from benchmark.store.record import Number, Record, Rule
from benchmark.store.results import Results

COLUMNS = [
    "table", "method", "task", "metric", "mean", "std", "n", "collapsed", "paper", "delta", "selection", "preset",
]  # fmt: skip
RULES: dict[Rule, str] = {"last": "last epoch", "validation": "epoch of the best plain validation accuracy"}


def tidy(table: Table, results: Results) -> pd.DataFrame:
    """One line per row, task, metric and selection rule: mean and sample sd over seeds, beside the paper's number.

    A gap is a line without mean and with n = 0. ``collapsed`` counts the runs of a mean that ended at chance or with
    one answer, whose bias and accuracy mean nothing.
    """
    lines = []
    for column in table.columns:
        for row in table.rows:
            records = [record for task in table.tasks_of(column) for record in results.cell(table, row, task).records]
            collapsed = sum(record.collapsed for record in records)
            for metric in table.metrics:
                for rule in rules_of(metric):
                    values = _over_seeds(table, row, column, metric, rule, results)
                    lines.append(
                        _line(table, row, column, metric, rule, values, collapsed if metric in FAIRNESS else 0)
                    )
    return pd.DataFrame(lines, columns=COLUMNS)


def rules_of(metric: str) -> tuple[Rule, ...]:
    """The selection rules of a metric; rows of Table 3 name their epochs themselves."""
    return ("last",) if metric == "bias_acc" else tuple(RULES)


def _over_seeds(table: Table, row: Row, column: str, metric: str, rule: Rule, results: Results) -> list[float]:
    """The metric of each seed. Seeds that some task lacks have no average over tasks."""
    parts = [by_seed(results.cell(table, row, task).records, row, metric, rule) for task in table.tasks_of(column)]
    shared = sorted(set.intersection(*map(set, parts)))
    return [statistics.fmean(part[seed] for part in parts) for seed in shared]


def by_seed(records: Sequence[Record], row: Row, metric: str, rule: Rule = "last") -> dict[int, float]:
    """The metric of each seed that has it."""
    values = {record.seed: value(record, row, metric, rule) for record in records}
    return {seed: each for seed, each in values.items() if each is not None}


def value(record: Record, row: Row, metric: str, rule: Rule = "last") -> Number:
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
    return [table.name, row.key, task, metric, mean, spread, len(values), collapsed, paper, delta, rule, preset]


def ranks(lines: pd.DataFrame, results: Results) -> dict[tuple[str, str, str], int]:
    """0 for the best and 1 for the second (row, task, metric) of each column, among methods without bias labels.

    A method alone in its column is neither, nor one of which a run collapsed.
    """
    shown = lines[(lines.selection == "last") & lines["mean"].notna() & (lines.collapsed == 0)]
    fair = shown[~shown.method.isin(results.use_bias_labels)]
    sign = fair.metric.map(lambda metric: 1 if METRICS[metric].better == "lower" else -1)
    columns = (sign * fair["mean"].astype(float).round(2)).groupby([fair.task, fair.metric])
    found = columns.rank(method="min").where(columns.transform("size") > 1)
    keys = zip(fair.method, fair.task, fair.metric, strict=True)
    return {key: int(rank) - 1 for key, rank in zip(keys, found, strict=True) if rank <= 2}
