"""What the page shows of a table: grids of cells, what each tells on demand, and the commands that fill its gaps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.compare import cells, published
from benchmark.compare.published import Erratum
from benchmark.metrics import METRICS
from benchmark.plan.ours import QUICK, SELECTION
from benchmark.plan.run import PAPER
from benchmark.plan.table import Figure, Row, Table
from benchmark.report import tables
from benchmark.report.tables import Columns
from benchmark.report.words import Context, lines_of, number, signed
from benchmark.store.results import Results

# Points from the paper's number at which the shade of a difference becomes darker.
SHADES = (2, 5, 10, 20)
# What a cell tells when it is pressed.
DETAILS = ("title", "measured", "paper", "delta", "records", "errata", "command", "failures")


def anchor(stem: str) -> str:
    """A name for links to a table or figure."""
    return re.sub(r"[^\w-]", "-", stem)


@dataclass(frozen=True)
class PageTable:
    """A table with everything that its cells are made of; ``numbers`` are the places of records on the page."""

    table: Table
    results: Results
    numbers: Mapping[str, int]
    lines: Mapping[tuple[str, str, str], Context]
    ranks: Mapping[tuple[str, str, str], int]
    failures: Sequence[str]

    @classmethod
    def of(cls, table: Table, results: Results, numbers: Mapping[str, int]) -> PageTable:
        frame = cells.tidy(table, results)
        lines: dict[Any, Context] = {
            (line["method"], line["task"], line["metric"]): line for line in lines_of(cells.shown(frame, results))
        }
        failures = list(tables.failures(table, results))
        return cls(table, results, numbers, lines, cells.ranks(table, frame, results), failures)

    def context(self) -> Context:
        """The table as grids of cells."""
        table = self.table
        return {
            "id": anchor(table.stem),
            "heading": table.heading,
            "title": table.title,
            "modified": table.modified,
            "parts": [self._part(*part) for part in self._parts()],
            "notes": tables.footer(table, self.results),
        }

    def _parts(self) -> Iterator[tuple[str, Columns]]:
        """A part for each task with a column for each metric, or one with a column for each task of a single metric."""
        metrics, tasks = self.table.metrics, shown_tasks(self.table, self.results)
        if len(metrics) == 1:
            arrow = METRICS[metrics[0]].arrow
            yield "", [(task, metrics[0], f"{self.results.task_title(task)} {arrow}") for task in tasks]
        else:
            for task in tasks:
                yield task, [(task, metric, METRICS[metric].heading) for metric in metrics]

    def _part(self, task: str, columns: Columns) -> Context:
        rows: list[Context] = [
            {
                "title": tables.row_title(row, self.results),
                "cells": [self._cell(row, column, metric) for column, metric, _ in columns],
            }
            for row in self.table.rows
        ]
        every = [cell for row in rows for cell in row["cells"]]
        return {
            "title": self.results.task_title(task) if task else "",
            "columns": [heading for *_, heading in columns],
            "rows": rows,
            "compared": any(cell["paper"] for cell in every),
            "measured": sum(bool(cell["mean"]) for cell in every),
            "errata": _grouped(every),
            "command": command(self.table, self.table.tasks_of(task), [], self.results) if task else "",
        }

    def _cell(self, row: Row, task: str, metric: str) -> Context:
        table, results, line = self.table, self.results, self.lines[row.key, task, metric]
        tasks = table.tasks_of(task)
        title = ", ".join((tables.row_title(row, results), results.task_title(task), METRICS[metric].head))
        doubts = published.errata_of((table.name, row.key, task, metric)) if number(line["paper"]) else []
        return {
            "title": f"{table.heading}: {title}",
            "measured": number(line["mean"]) + ("" if pd.isna(line["std"]) else f" ± {line['std']:.2f}"),
            "paper": number(line["paper"]),
            "delta": signed(line["delta"]),
            "records": [
                [self.numbers[record.run.id], number(cells.value(record, row, metric, results.rule))]
                for each in tasks
                for record in results.cell(table, row, each).records
            ],
            "errata": [f"{each.note} ({each.kind})" for each in doubts],
            "command": "" if line["n"] else command(table, tasks, [row.method], self.results),
            "failures": [
                each for each in self.failures if any(each.startswith(f"{part}/{row.method} ") for part in tasks)
            ],
            "row": row.key,
            "task": task,
            "metric": metric,
            "rank": self.ranks.get((row.key, task, metric)),
            "mean": number(line["mean"]),
            "spread": "" if pd.isna(line["std"]) else f"± {line['std']:.1f}",
            "shade": _shade(line["delta"], metric, doubts),
            "collapsed": bool(line["collapsed"]),
        }


def number_cells(grids: Sequence[Context]) -> list[Context]:
    """Give every cell of the grids its number; returns what each tells on demand, in that order."""
    every = [cell for grid in grids for part in grid["parts"] for row in part["rows"] for cell in row["cells"]]
    for place, cell in enumerate(every):
        cell["number"] = place
    return [{name: cell[name] for name in DETAILS} for cell in every]


def _grouped(every: Sequence[Context]) -> list[tuple[str, str]]:
    """Each erratum of the cells once, after the cells that it concerns; one about all of them says so."""
    concerned: dict[str, list[str]] = {}
    for cell in every:
        for note in cell["errata"]:
            concerned.setdefault(note, []).append(cell["title"].partition(": ")[2])
    printed = sum(bool(cell["paper"]) for cell in every)
    return [("All" if len(names) == printed else "; ".join(names), note) for note, names in concerned.items()]


def shown_tasks(table: Table, results: Results) -> list[str]:
    """The columns to show: all of the paper's, and in other presets those with records."""
    if table.preset == PAPER:
        return list(table.columns)
    return [task for task in table.tasks if results.measured(table, task)]


def _shade(delta: float | None, metric: str, doubts: Sequence[Erratum]) -> str:
    """ "better" or "worse" than the paper, with how dark; nothing where a number is missing, or is wrong in print."""
    if delta is None or pd.isna(delta) or any(each.kind in published.WRONG for each in doubts):
        return ""
    level = sum(abs(delta) >= each for each in SHADES)
    better = (delta < 0) == (METRICS[metric].better == "lower")
    return f"{'better' if better else 'worse'}-{level}" if level else "level"


def command(table: Table, tasks: Sequence[str], methods: Sequence[str], results: Results) -> str:
    """The command that measures the given tasks of a table or figure; all methods if none is given."""
    if table.name == QUICK.name:
        words = ["--quick"]
    elif isinstance(table, Figure):
        words = ["--figure", table.number, *(["--task", *tasks] if table.stand_in else [])]
    elif table.name.startswith(SELECTION):  # of a folder, which lies where the command is given
        data = next(record.settings["data"] for record in results.records if record.task in tasks)
        words = ["--dataset", data["folder"], *(["--bias", *data["bias"]] if "bias" in data else [])]
    else:
        words = [
            "--table",
            table.number or table.name,
            *(["--tasks", *tasks] if set(tasks) != set(table.tasks) else []),
        ]
    words += ["--methods", *methods] if methods else []
    words += ["--preset", table.preset] if table.preset != PAPER else []
    words += ["--set", *map(str, table.overrides)] if table.overrides else []
    return shlex.join(["python", "-m", "benchmark.run", *words])


def missing(table: Table, results: Results) -> Iterator[Context]:
    """The gaps of a table or figure, tasks that lack the same methods together, each with its command."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for task in shown_tasks(table, results):
        rows = [] if task == table.average else _gaps(table, task, results)
        if rows:
            whole = {row.method for row in rows} == {row.method for row in table.rows}
            methods = () if whole else tuple(dict.fromkeys(row.method for row in rows))
            lacking.setdefault(methods, []).append(task)
    for methods, tasks in lacking.items():
        runs = {results.cell(table, row, task).id for task in tasks for row in _gaps(table, task, results)}
        yield {
            "heading": f"{table.heading}{f' ({table.modified})' if table.modified else ''}",
            "tasks": [results.task_title(task) for task in tasks],
            "methods": [results.names.methods[method] for method in methods],
            "runs": len(runs),
            "command": command(table, tasks, methods, results),
        }


def _gaps(table: Table, task: str, results: Results) -> list[Row]:
    return [row for row in table.rows if not len(results.cell(table, row, task))]
