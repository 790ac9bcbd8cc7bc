"""Which reading of what the paper leaves open to all methods comes nearest to its numbers, whole columns at a time.

A reading is a setting that all methods share, or a rule that chooses the epoch. It is judged by every method's numbers
together, never by a single row. Readings of Poisoner alone are ``plan.ABLATIONS``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from benchmark import errata, fidelity, recipes, records, tables
from benchmark.metrics import METRICS
from benchmark.plan import TABLES, Row, Table
from benchmark.records import Record, Store, write_atomically

Entries = list[dict[str, Any]]
RECIPES = "as in the recipes"
READINGS = {
    title: tuple(recipes.parse_override(setting) for setting in settings)
    for title, settings in {
        RECIPES: (),
        "constant learning rate": ("learning_rate_decay=1.0",),
        "inputs in [0, 1]": ("mean=[0.0, 0.0, 0.0]", "std=[1.0, 1.0, 1.0]"),
        "weight decay 1e-4": ("weight_decay=1e-4",),
        "15 epochs": ("epochs=15",),
        "50 epochs": ("epochs=50",),
        "100 epochs": ("epochs=100",),
        "50 epochs, inputs in [0, 1]": ("epochs=50", "mean=[0.0, 0.0, 0.0]", "std=[1.0, 1.0, 1.0]"),
        "100 epochs, inputs in [0, 1]": ("epochs=100", "mean=[0.0, 0.0, 0.0]", "std=[1.0, 1.0, 1.0]"),
    }.items()
}
# The epochs of a run's curve that are averaged. The last rule looks at the test set: no table may follow it.
LAST = "the last"
RULES: dict[str, Callable[[Entries], Entries]] = {
    LAST: lambda curve: curve[-1:],
    "mean of the last five": lambda curve: curve[-5:],
    "best validation": lambda curve: _best(curve, "validation_acc"),
    "best test average": lambda curve: _best(curve, "avg_acc"),
}
COLUMNS = ["task", "reading", "epoch", "methods", "runs", "metric", "difference", "recipes", "rank_correlation"]
DIFFERENCES = {
    **{metric: tables.METRIC_TITLES[metric][0] for metric in METRICS},
    "all": "All",
    "recipes": "Recipes, same runs",
    "change": "Change",
    "bias_acc": tables.METRIC_TITLES["bias_acc"][0],
    **{rule: rule.capitalize() for rule in RULES if rule != LAST},
}
EXPLANATION = """\
For each task the mean absolute difference, in points, between the published numbers and those measured under a
reading, over all methods that have runs, and Spearman's rank correlation of their average accuracies, all in the last
epoch. "All" is the mean of bias, average and worst group, and beside it stands that of the recipes with the same
methods and seeds only. Readings have different numbers of runs, so that lines are not to be compared with each other,
but by their "Change" from the one to the other: below 0, the reading is nearer than the recipes. Bias Accuracy is
Table 3, whose rows name their epochs themselves. The last columns are "All" of other epochs: the mean of the last
five, and the ones of the best plain validation accuracy and of the best average on the test set. The latter raises
every average by its choice alone; it shows what that would do, and no table follows it. Everything else on these pages
follows the recipes and the last epoch. Some of the recipes' settings were chosen after a look at this table, so that
the differences in fidelity.md may be too small."""


def _best(curve: Entries, metric: str) -> Entries:
    measured = [entry for entry in curve if entry.get(metric) is not None]
    return [max(measured, key=lambda entry: entry[metric])] if measured else []


def evaluate(store: Store) -> pd.DataFrame:
    """One line per task, reading, rule and metric of Tables 1 to 3 that has records in the paper's preset.

    Table 3, a line under the last epoch, only where all of its rows are measured; a reading only where it has runs
    that are not the recipes' own. ``recipes`` is the difference of the runs with the same methods and seeds under the
    recipes, and a gap where these do not have all of them.
    """
    lines = [
        (task, reading, rule, *line)
        for table in (TABLES["1"], TABLES["2"], TABLES["3"])
        for task in table.available_tasks
        for reading, found, same in _measured(table, task, store)
        for rule in ([LAST] if table is TABLES["3"] else RULES)
        for line in _lines(table, task, found, same, RULES[rule])
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def _measured(table: Table, task: str, store: Store) -> Iterator[tuple[str, tables.Found, tables.Found]]:
    """(reading, its records, the recipes' own of the same methods and seeds) of each reading that has a line."""
    stored = {
        reading: tables.collect(replace(table, tasks=(task,), overrides=overrides), store)
        for reading, overrides in READINGS.items()
    }
    own = stored[RECIPES]
    for reading, found in stored.items():
        enough = (all if table is TABLES["3"] else any)(found.values())
        if enough and (reading == RECIPES or any(each and each != own[key] for key, each in found.items())):
            yield reading, found, _same_runs(own, found)


def _same_runs(own: tables.Found, found: tables.Found) -> tables.Found:
    """The recipes' own records of the methods and seeds that were found; none at all where one is missing."""
    same = {
        key: [record for record in own[key] if record["seed"] in {each["seed"] for each in records}]
        for key, records in found.items()
    }
    whole = all(len(same[key]) == len(records) for key, records in found.items())
    return same if whole else {key: [] for key in found}


def _lines(
    table: Table, task: str, found: tables.Found, same: tables.Found, chosen: Callable[[Entries], Entries]
) -> Iterator[tuple[int, int, str, float, float, float]]:
    """(methods, runs, metric, difference, that of the recipes' same runs, rank correlation) of each metric."""
    runs = sum(map(len, found.values()))
    for metric in table.metrics:
        sound = _compared(table, task, found, metric, chosen)
        if len(sound):
            recipes_sound = _compared(table, task, same, metric, chosen)
            near, recipes_near = ((each["mean"] - each.paper).abs().mean() for each in (sound, recipes_sound))
            yield len(sound), runs, metric, near, recipes_near, fidelity.rank_correlation(sound)


def _compared(
    table: Table, task: str, found: tables.Found, metric: str, chosen: Callable[[Entries], Entries]
) -> pd.DataFrame:
    """The column's cells that have a measured mean and a sound published number."""
    cells = [
        (*cell, tables.published().get(cell), _mean(found[row.key, task], row, metric, chosen))
        for row in table.rows
        for cell in [(table.name, row.key, task, metric)]
    ]
    return fidelity.compared(errata.annotate(pd.DataFrame(cells, columns=[*errata.CELL, "paper", "mean"]).dropna()))


def _mean(found: list[Record], row: Row, metric: str, chosen: Callable[[Entries], Entries]) -> float | None:
    """The metric's mean over seeds, each the mean of the chosen epochs."""
    by_seed = [
        [tables.value(record, row, metric)]
        if metric == "bias_acc"
        else [entry.get(metric) for entry in chosen(records.target_curve(record))]
        for record in found
    ]
    measured = [[value for value in each if value is not None] for each in by_seed]
    values = [statistics.fmean(each) for each in measured if each]
    return statistics.fmean(values) if values else None


def write(found: pd.DataFrame, results: Path) -> str:
    """Write readings.csv and readings.md to the folder of results; returns the Markdown."""
    text = markdown(found)
    write_atomically(results / "readings.csv", found.to_csv(index=False, float_format="%.4f"))
    write_atomically(results / "readings.md", text)
    return text


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """One line per task and reading: each of ``DIFFERENCES``, and the last epoch's rank correlation.

    ``change`` is the difference of "all" from the same runs of the recipes, a gap for the recipes themselves.
    """
    key = ["task", "reading"]
    fair, last = found[found.metric.isin(METRICS)], found[found.epoch == LAST]
    by_metric = last.pivot_table("difference", key, "metric", sort=False)
    by_rule = fair.pivot_table("difference", key, "epoch", sort=False).rename(columns={LAST: "all"})
    own = fair[fair.epoch == LAST].groupby(key, sort=False).recipes.mean(skipna=False)
    averages = last[last.metric == "avg_acc"].set_index(key)[["methods", "runs", "rank_correlation"]]
    wide = averages.join([by_metric, by_rule, own])
    lines = wide.reindex(columns=["methods", "runs", *DIFFERENCES, "rank_correlation"]).reset_index()
    lines["change"] = (lines["all"] - lines.recipes).where(lines.reading != RECIPES)
    return lines


def markdown(found: pd.DataFrame) -> str:
    """A grid for each task."""
    parts = ["# Readings of what the paper leaves open to all methods", EXPLANATION]
    head = ["Reading", "Methods", "Runs", *DIFFERENCES.values(), "Rank correlation"]
    for task, lines in summary(found).groupby("task", sort=False):
        body = [
            [*(line[name] for name in ("reading", "methods", "runs")), *numbers(line, DIFFERENCES)]
            for line in lines.to_dict("records")
        ]
        parts += [f"## {tables.title(str(task))}", tabulate(body, head, tablefmt="github", disable_numparse=True)]
    return "\n\n".join(parts) + "\n"


def numbers(line: Mapping[Any, Any], names: Iterable[str]) -> list[str]:
    """A line of ``summary`` as printed: the differences of these names, the change signed, and the correlation."""
    return [
        f"{line[name]:+.2f}" if name == "change" and pd.notna(line[name]) else fidelity.number(line[name])
        for name in (*names, "rank_correlation")
    ]
