"""What the page shows of a table: its grid, the cells under every rule, and the commands that fill its gaps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.compare import cells, fidelity, published, significance
from benchmark.metrics import FAIRNESS
from benchmark.plan.ours import QUICK, SELECTION
from benchmark.plan.run import PAPER
from benchmark.plan.table import Figure, Row, Table
from benchmark.report.notes import failures_of, footer
from benchmark.report.words import Context, hundredths, lines_of
from benchmark.store.results import Results

Column = tuple[str, str]
"""A column's task and metric."""
METHOD = "METHOD"  # stands in commands for what asks for a row


def anchor(stem: str) -> str:
    """A name for links to a table, row or figure, of its own for each stem."""
    return re.sub(r"[^\w-]", lambda found: f":{ord(found[0]):x}:", stem)


def grid(table: Table, under: Mapping[str, Results], series: Mapping[str, int]) -> Context:
    """A table for the page's script: numbers in hundredths, tenths for spreads, under each of the rules.

    ``under`` are the results under every rule, the shown one first, ``series`` the places of series on the page. What
    is measured stands before what is not, among columns and among rows.
    """
    results = next(iter(under.values()))
    frame = cells.tidy(table, results)
    measured = {(line["method"], line["task"]) for line in lines_of(frame[frame["mean"].notna()])}
    rows = sorted(table.rows, key=lambda row: not any((row.key, task) in measured for task in table.columns))
    tasks = sorted(
        (task for task in table.columns if table.preset == PAPER or any((row.key, task) in measured for row in rows)),
        key=lambda task: not any((row.key, task) in measured for row in rows),
    )
    columns = [(task, metric) for task in tasks for metric in table.metrics]
    printed = {(line["method"], line["task"], line["metric"]): line["paper"] for line in lines_of(frame)}
    keys = [(row.key, *column) for row in rows for column in columns]
    doubts = {place: _doubts(table, key) for place, key in enumerate(keys) if not pd.isna(printed[key])}
    return {
        "id": anchor(table.stem),
        "name": table.name,
        "preset": table.preset,
        "heading": table.heading,
        "title": table.title,
        "modified": table.modified,
        "rows": [
            {
                "key": row.key,
                "title": results.marked_title(row),
                "method": row.method,
                "asked": asked(table, row),
                "id": anchor(row.key),
            }
            for row in rows
        ],
        "first": results.row_title(table.rows[0]),
        "columns": columns,
        "missing": [not any((row.key, task) in measured for row in rows) for task, _ in columns],
        "paper": [hundredths(printed[key]) for key in keys],
        "series": [
            [
                place
                for each in table.tasks_of(task)
                if (place := series.get(results.cell(table, row, each).id)) is not None
            ]
            for row in rows
            for task in tasks
        ],
        "errata": {str(place): notes for place, notes in doubts.items() if notes},
        "commands": [command(table, table.tasks_of(task), [METHOD], results) for task in tasks],
        "failures": {
            f"{row.key}|{task}": found
            for row in rows
            for task in tasks
            if (found := [each for part in table.tasks_of(task) for each in failures_of(table, row, part, results)])
        },
        "under": {name: _under(table, rows, columns, frame, each, results) for name, each in under.items()},
        "epochs": _epochs(table, rows, columns, results),
    }


def _doubts(table: Table, key: tuple[str, str, str]) -> list[str]:
    return [f"{each.note} ({each.kind})" for each in published.errata_of((table.name, *key))]


def _under(
    table: Table,
    rows: Sequence[Row],
    columns: Sequence[Column],
    frame: pd.DataFrame,
    ruled: Results,
    shown: Results,
) -> Context:
    """The cells under one rule, how near the columns come to the paper's, and what is to be known of the numbers.

    A cell is [mean, spread, seeds, rank, collapsed runs, difference to the paper's, difference to the first row, both
    ends of its interval, its seeds], null for what is not there; without the last four where nothing can be compared.
    """
    # Bias Accuracy follows no rule: the shown one's lines are those of all.
    own = frame[(frame.selection == ruled.rule.name) | (frame.metric == "bias_acc")].assign(selection=ruled.rule.name)
    found = {(line["method"], line["task"], line["metric"]): line for line in lines_of(own)}
    ranks = cells.ranks(table, own, ruled)
    tests = {
        (line["method"], line["task"], line["metric"]): line
        for line in lines_of(significance.differences(table, ruled))
    }
    notes = footer(table, ruled, whole=False)
    near = fidelity.compared(own[own.paper.notna()])
    distances = dict(iter(near.groupby(["task", "metric"], sort=False)))
    return {
        "cells": [
            _packed(found.get((row.key, *column)), ranks.get((row.key, *column)), tests.get((row.key, *column)))
            for row in rows
            for column in columns
        ],
        "near": [
            [hundredths(both.delta.abs().mean()), hundredths(fidelity.rank_correlation(both.paper, both["mean"]))]
            if (both := distances.get(column)) is not None
            else [None, None]
            for column in columns
        ],
        "notes": notes,
    }


def _packed(line: Context | None, rank: int | None, test: Context | None) -> list[int | None] | None:
    if line is None or pd.isna(line["mean"]):
        return None
    spread = None if pd.isna(line["std"]) else int(f"{line['std']:.1f}".replace(".", ""))
    parts = [
        hundredths(line["mean"]),
        spread,
        int(line["n"]),
        rank,
        int(line["collapsed"]),
        hundredths(line["delta"]),
    ]
    if test:
        parts += [*(hundredths(test[name]) for name in ("difference", "low", "high")), int(test["n"])]
    return parts


def _epochs(table: Table, rows: Sequence[Row], columns: Sequence[Column], results: Results) -> dict[str, list[Any]]:
    """Of cells that no rule decides, by their place: the number of each run, in order of the cell's series."""
    return {
        str(place): [hundredths(cells.value(record, row, metric)) for record in records]
        for place, (row, (task, metric)) in enumerate((row, column) for row in rows for column in columns)
        if metric not in FAIRNESS
        and (records := [record for each in table.tasks_of(task) for record in results.cell(table, row, each).records])
    }


def shown_tasks(table: Table, results: Results) -> list[str]:
    """The columns to show: all of the paper's, and in other presets those with records."""
    if table.preset == PAPER:
        return list(table.columns)
    return [task for task in table.tasks if results.measured(table, task)]


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


def asked(table: Table, row: Row) -> str:
    """What a command puts in the place of METHOD: the row's method, and its options where no table names them."""
    options = [str(each) for each in row.overrides] if table.name.startswith(SELECTION) else []
    return shlex.join([row.method, *(["--set", *options] if options else [])])


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
            "preset": table.preset,
            "heading": f"{table.heading}{f' ({table.modified})' if table.modified else ''}",
            "tasks": [results.task_title(task) for task in tasks],
            "methods": [results.names.methods[method] for method in methods],
            "runs": len(runs),
            "command": command(table, tasks, methods, results),
        }


def _gaps(table: Table, task: str, results: Results) -> list[Row]:
    return [row for row in table.rows if not len(results.cell(table, row, task))]
