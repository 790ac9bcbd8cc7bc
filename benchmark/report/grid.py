"""The cells of a table, each with what is to be known of its seeds; how they are set is the caller's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from benchmark.compare import cells
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.table import Table
from benchmark.plan.uses import MARKS, WORDS
from benchmark.report.words import COLLAPSED, ONE_SEED
from benchmark.store.results import Results

Key = tuple[str, str, str]
"""(row, task, metric) of a cell."""


class Grid:
    """The table's cells, looked up by (row, task, metric) and formatted with the caller's marks."""

    def __init__(self, table: Table, lines: pd.DataFrame, results: Results) -> None:
        self.table = table
        self.results = results
        shown = cells.shown(lines, results).set_index(["method", "task", "metric"])
        values: list[dict[Any, float]] = [shown[name].to_dict() for name in ("mean", "std", "n", "collapsed", "paper")]
        self._mean, self._std, self._n, self._collapsed, self._paper = values
        self._rank = cells.ranks(table, lines, results)
        known = {key[0] for each in (self._mean, self._paper) for key, value in each.items() if not pd.isna(value)}
        failed = {row.key for row in table.rows for task in table.tasks if results.cell(table, row, task).failures}
        self._empty = [row for row in table.rows if known and row.key not in known | failed]
        self.titles = {row.key: results.marked_title(row) for row in table.rows if row not in self._empty}

    def number(self, key: Key, marks: Sequence[str], gap: str) -> str:
        """The mean, as the best or second in ``marks``, with what is to be known of its seeds behind it."""
        if pd.isna(self._mean[key]):
            return gap
        text = f"{self._mean[key]:.2f}"
        if key in self._rank:
            text = marks[self._rank[key]].format(text)
        return text + ONE_SEED * (self._n[key] == 1) + COLLAPSED * bool(self._collapsed[key])

    def spread(self, key: Key) -> str:
        """The standard deviation over seeds, empty for one seed."""
        return "" if pd.isna(self._std[key]) else f"{self._std[key]:.1f}"

    def columns(self, values: str) -> list[tuple[str, str]]:
        """The (task, metric) that have any value in "measured" or "paper"."""
        source = self._mean if values == "measured" else self._paper
        return list(dict.fromkeys((task, metric) for (_, task, metric), value in source.items() if not pd.isna(value)))

    def marks(self) -> list[str]:
        """What the marks of methods mean."""
        found = "".join(self.titles.values())
        return [f"{mark} uses {WORDS[use]}." for use, mark in MARKS.items() if mark in found]

    def left_out(self) -> Iterator[str]:
        """Which rows have neither a number, measured or published, nor a failed run; which metrics have no column."""
        if self._empty:
            yield f"Rows left out, without a number: {'; '.join(map(self.results.marked_title, self._empty))}."
        shown = self.columns("measured")
        measured = {task for task, _ in shown}
        for metric in self.table.metrics:
            lacking = [
                task
                for task in self.table.columns
                if task in measured and (task, metric) not in shown and (metric not in FAIRNESS or self._chosen(task))
            ]
            if lacking:
                titles = "; ".join(map(self.results.task_title, lacking))
                yield f"Left out, since it cannot be measured there: {METRICS[metric].head} on {titles}."

    def _chosen(self, task: str) -> bool:
        """Whether there is an epoch to be shown of any run on the task."""
        records = self.results.records_of(self.table, self.table.tasks_of(task))
        return any(record.epoch(self.results.rule) is not None for record in records)

    def paper(self, key: Key, gap: str) -> str:
        return gap if pd.isna(self._paper[key]) else f"{self._paper[key]:.2f}"
