"""Whether a table's rows differ by more than chance: on a task over seeds, and in their ranks across tasks.

Paired intervals are Student's. Ranks are compared as Demšar does (Statistical Comparisons of Classifiers over Multiple
Data Sets, JMLR 7, 2006): Friedman's test, with the correction of Iman and Davenport, and Nemenyi's post-hoc test.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.compare.cells import by_seed
from benchmark.compare.verdicts import interval
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.table import Row, Table
from benchmark.store.results import Results

LEVEL = 0.05
TASKS, METHODS = 5, 3  # the fewest whose ranks are compared: Friedman's test takes three, and says little of few tasks
DIFFERENCES = ["table", "task", "metric", "method", "reference", "difference", "low", "high", "n", "collapsed"]
RANKS = [
    "table", "metric", "method", "average_rank", "tasks", "methods", "collapsed",
    "chi_square", "chi_square_p", "f", "f_p", "critical_difference",
]  # fmt: skip


class Cell(NamedTuple):
    """A row's metric on a task, by seed in percent, and whether a run of it collapsed, so that it means nothing."""

    by_seed: dict[int, float]
    collapsed: bool


def cell(table: Table, row: Row, task: str, metric: str, results: Results) -> Cell:
    """What all that is said here is computed from, in the epochs that the results' rule chooses."""
    records = results.cell(table, row, task).records
    collapsed = metric in FAIRNESS and any(record.collapsed(results.rule) for record in records)
    return Cell(by_seed(records, row, metric, results.rule), collapsed)


def differences(table: Table, results: Results) -> pd.DataFrame:
    """One line per task, metric and row: its paired difference to the table's first row, in points.

    ``low`` and ``high`` are the 95 % interval of the mean over the ``n`` seeds that both have, gaps where there is
    none; ``collapsed`` says that a run of either did. Rows without a seed in common have no line, nor have the same
    runs.
    """
    reference, *others = table.rows
    lines = []
    for task in table.tasks:
        same = results.source(table, reference, task)
        different = [row for row in others if results.source(table, row, task) != same]
        for metric in table.metrics:
            base = cell(table, reference, task, metric, results)
            for row in different:
                own = cell(table, row, task, metric, results)
                seeds = sorted(own.by_seed.keys() & base.by_seed.keys())
                if not seeds:
                    continue
                pairs = [own.by_seed[seed] - base.by_seed[seed] for seed in seeds]
                mean, collapsed = statistics.fmean(pairs), own.collapsed or base.collapsed
                found = (mean, *interval(pairs), len(pairs), collapsed)
                lines.append((table.name, task, metric, row.key, reference.key, *found))
    return pd.DataFrame(lines, columns=DIFFERENCES)


class Friedman(NamedTuple):
    """Friedman's statistic, corrected for ties, that of Iman and Davenport, and the p-value of each."""

    chi_square: float
    chi_square_p: float
    f: float
    f_p: float


@dataclass(frozen=True)
class Ranking:
    """The ranks [T, R] of rows on the tasks where all of them were measured, 1 for the best, ties at their mean.

    ``collapsed``, bool [T, R], marks cells that collapsed, which are last on their task whatever their numbers say.
    ``left_out`` are the rows of too few tasks, and the tasks that lack one of the others.
    """

    metric: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    ranks: np.ndarray
    collapsed: np.ndarray
    left_out: tuple[tuple[Row, ...], tuple[str, ...]] = ((), ())

    @cached_property
    def average(self) -> np.ndarray:
        """The average rank of each row, [R]."""
        return self.ranks.mean(0)

    @cached_property
    def friedman(self) -> Friedman:
        return friedman(self.ranks)

    @property
    def critical_difference(self) -> float:
        return critical_difference(*self.ranks.shape)

    def groups(self) -> list[tuple[int, ...]]:
        """Places of rows, best first, that lie within the critical difference of each other: the largest such sets."""
        order = np.argsort(self.average, kind="stable")
        found: list[tuple[int, ...]] = []
        for start, first in enumerate(order):
            near = [int(each) for each in order[start:] if self._is_level(first, each)]
            if len(near) > 1 and not (found and set(near) <= set(found[-1])):
                found.append(tuple(near))
        return found

    def apart(self) -> list[tuple[Row, Row]]:
        """Every two rows, the better one first, whose average ranks differ by more than the critical difference."""
        order = np.argsort(self.average, kind="stable")
        return [
            (self.rows[better], self.rows[worse])
            for place, better in enumerate(order)
            for worse in order[place + 1 :]
            if not self._is_level(better, worse)
        ]

    def _is_level(self, first: int, second: int) -> bool:
        return bool(abs(self.average[second] - self.average[first]) <= self.critical_difference)


def rankings(table: Table, results: Results) -> Iterator[Ranking]:
    """The ranks in each metric that enough tasks and rows are measured of, by the means that the table shows."""
    for metric in table.metrics:
        cells = [[cell(table, row, task, metric, results) for row in table.rows] for task in table.tasks]
        measured = np.array([[bool(each.by_seed) for each in line] for line in cells])
        rows = np.flatnonzero(measured.sum(0) >= TASKS)
        tasks = np.flatnonzero(measured[:, rows].all(1))
        if len(rows) < METHODS or len(tasks) < TASKS:
            continue
        chosen = [[cells[task][row] for row in rows] for task in tasks]
        collapsed = np.array([[each.collapsed for each in line] for line in chosen])
        # To the printed digits, so that what is level in the table is level here.
        means = np.array([[round(statistics.fmean(each.by_seed.values()), 2) for each in line] for line in chosen])
        lower_is_better = means if METRICS[metric].better == "lower" else -means
        few = tuple(row for place, row in enumerate(table.rows) if place not in rows and measured[:, place].any())
        gaps = tuple(task for place, task in enumerate(table.tasks) if place not in tasks and measured[place].any())
        yield Ranking(
            metric,
            tuple(table.tasks[task] for task in tasks),
            tuple(table.rows[row] for row in rows),
            stats.rankdata(np.where(collapsed, np.inf, lower_is_better), axis=1),
            collapsed,
            (few, gaps),
        )


def friedman(ranks: np.ndarray) -> Friedman:
    """Friedman's test of ranks [T, R] of at least three rows: whether all rows are equally good."""
    if (ranks == ranks[:, :1]).all():  # all level on every task, of which the statistic would be 0/0
        return Friedman(0.0, 1.0, 0.0, 1.0)
    chi_square, p = map(float, stats.friedmanchisquare(*ranks.T))
    f, f_p = iman_davenport(chi_square, *ranks.shape)
    return Friedman(chi_square, p, f, f_p)


def iman_davenport(chi_square: float, tasks: int, rows: int) -> tuple[float, float]:
    """The F statistic of Friedman's, which is less conservative, and its p-value (Demšar 2006, §3.2.2)."""
    rest = tasks * (rows - 1) - chi_square
    if rest <= 1e-9:  # every task has the same order
        return math.inf, 0.0
    f = (tasks - 1) * chi_square / rest
    return f, float(stats.f.sf(f, rows - 1, (rows - 1) * (tasks - 1)))


@cache
def critical_difference(tasks: int, rows: int) -> float:
    """How far average ranks must lie apart to differ at ``LEVEL``, by Nemenyi's test (Demšar 2006, §3.2.2)."""
    q = stats.studentized_range.ppf(1 - LEVEL, rows, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(rows * (rows + 1) / (6 * tasks)))


def ranks_frame(table: Table, found: Sequence[Ranking]) -> pd.DataFrame:
    """One line per metric and row, with the tests of the metric's ranks."""
    lines = [
        (
            table.name, each.metric, row.key, average, len(each.tasks), len(each.rows), collapsed,
            *each.friedman, each.critical_difference,
        )
        for each in found
        for row, average, collapsed in zip(each.rows, each.average, each.collapsed.sum(0), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=RANKS)
