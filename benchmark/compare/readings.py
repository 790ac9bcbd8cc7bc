"""Which reading of what the paper leaves open to all methods comes nearest to its numbers, whole columns at a time.

A reading is a setting that all methods share, or a rule that chooses the epoch, and is judged by every method's numbers
together. Readings of Poisoner's formulas are judged by its row on all tasks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from benchmark import quoting
from benchmark.compare import cells, fidelity, published
from benchmark.compare.doubts import doubts
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.ours import CENTRED, GIFL_READINGS
from benchmark.plan.paper import POISONER, TABLES
from benchmark.plan.run import PAPER
from benchmark.plan.table import Override, Row, Table
from benchmark.rules import LAST, RULES, Rule
from benchmark.store.atomic import write_atomically
from benchmark.store.record import Number, Record
from benchmark.store.results import Results

RECIPES = "as in the recipes"
CENTRED_INPUTS = "inputs in [−1, 1]"
_CHANGES: dict[str, tuple[Override, ...]] = {
    "constant learning rate": (Override("", "learning_rate_decay", 1.0),),
    "weight decay 1e-4": (Override("", "weight_decay", 1e-4),),
    **{f"{length} epochs": (Override("", "epochs", length),) for length in (15, 50, 100)},
}
READINGS: dict[str, tuple[Override, ...]] = {
    RECIPES: (),
    **_CHANGES,
    CENTRED_INPUTS: CENTRED,
    **{f"{name}, {CENTRED_INPUTS}": (*overrides, *CENTRED) for name, overrides in _CHANGES.items()},
}
OF_GIFL: dict[str, tuple[Override, ...]] = {RECIPES: (), **{row.title: row.overrides for row in GIFL_READINGS}}


@dataclass(frozen=True)
class Judged:
    """A table whose columns judge readings, by which rules, and whether only where all of its rows are measured."""

    table: Table
    rules: tuple[Rule, ...]
    complete: bool = False
    readings: Mapping[str, tuple[Override, ...]] = field(default_factory=lambda: READINGS)
    subject: str = "all methods"

    def under(self, preset: str) -> Judged:
        return replace(self, table=replace(self.table, preset=preset))

    def measured(self, found: Found) -> bool:
        return (all if self.complete else any)(found.values())


JUDGED = (
    Judged(TABLES["1"], tuple(RULES.values())),
    Judged(TABLES["2"], tuple(RULES.values())),
    Judged(TABLES["3"], (LAST,), complete=True),  # its rows name their epochs themselves
    *(
        Judged(replace(TABLES[number], rows=(POISONER,)), tuple(RULES.values()), False, OF_GIFL, "Poisoner alone")
        for number in "12"
    ),
)
Found = dict[str, tuple[Record, ...]]
"""The records of each row of a table on one task."""
COLUMNS = [
    *("preset", "subject", "task", "reading", "selection", "methods", "runs", "collapsed", "metric"),
    *("difference", "in_validation", "recipes", "rank_correlation"),
]
KEY = ["preset", "subject", "task", "reading"]
DIFFERENCES = {
    "in_validation": "All, in validation",
    **{metric: METRICS[metric].head for metric in FAIRNESS},
    "all": "All",
    "recipes": "Recipes, same runs",
    "change": "Change",
    "bias_acc": METRICS["bias_acc"].head,
}
EXPLANATION = """\
For each task the mean absolute difference, in points, between the published numbers and those measured under a
reading, over all methods that have runs, and Spearman's rank correlation of their average accuracies, all in the
{rule}. "All" is the mean of bias, average and worst group, and beside it stands that of the recipes with the same
methods and seeds only. Runs are those that the rule can be applied to; runs without validation counts have a last
epoch only, which the column of that rule counts, too. A published number that cannot be right does not count. Collapsed
runs (at chance, with one answer for everything, or with the bias turned round) do: such a model may be near a published
number, and is of no use. "All, in validation" is the same with validation images in
place of the test's, which is what can be seen without a test; the inputs and the reading of GIFL were first met in
trials whose test numbers were known. Its worst groups are extremes of fewer images. Readings have different numbers
of runs, so that lines are compared by their "Change" from the one to the other: below 0, the reading is nearer than
the recipes. Bias Accuracy is Table 3, whose rows name their epochs themselves. The last columns are "All" under
other rules for the epoch, by the names that --select takes; test_average raises every average by its choice alone,
and shows what that would do. Since settings were chosen by their nearness to the published numbers, the differences
in fidelity.md may be too small."""


def evaluate(results: Results) -> pd.DataFrame:
    """One line per preset, task, reading, rule and metric of Tables 1 to 3 that has records.

    A reading has a line only where it has runs that no earlier one has. ``recipes`` is the difference of the
    runs with the same methods and seeds under the recipes, and a gap where these do not have all of them.
    """
    recorded = {(record.preset, record.task) for record in results.records}
    lines = [
        (preset, judged.subject, task, reading, rule.name, *line)
        for preset in results.names.all_presets
        for judged in (each.under(preset) for each in JUDGED)
        for task in results.available(judged.table)
        if (preset, task) in recorded
        for reading, found, own in _measured(judged, task, results)
        for rule in judged.rules
        if _has(rule, found)
        for line in _lines(judged.table, task, _readable(rule, found), own, rule)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def _measured(judged: Judged, task: str, results: Results) -> Iterator[tuple[str, Found, Found]]:
    """(reading, its records, the recipes' own) of each reading that has a line."""
    own = _records(judged.table, task, results)
    told: set[str] = set()
    for reading, overrides in judged.readings.items():
        found = _records(replace(judged.table, overrides=overrides), task, results)
        runs = {record.run.id for records in found.values() for record in records}
        if judged.measured(found) and runs - told:
            yield reading, found, own
        told |= runs


def _read(results: Results) -> Iterator[Record]:
    """The records that any reading was judged by."""
    for preset in results.names.all_presets:
        for judged in (each.under(preset) for each in JUDGED):
            for overrides in judged.readings.values():
                table = replace(judged.table, overrides=overrides)
                yield from results.records_of(table, table.tasks)


def _has(rule: Rule, found: Found) -> bool:
    """Whether the rule can choose an epoch of some run of every method: a column of fewer is no reading's."""
    return all(any(record.epoch(rule) for record in records) for records in found.values() if records)


def _readable(rule: Rule, found: Found) -> Found:
    """The records in which the rule can choose an epoch; those without validation counts have the last one only."""
    return {key: tuple(record for record in records if record.epoch(rule)) for key, records in found.items()}


def _records(table: Table, task: str, results: Results) -> Found:
    return {row.key: results.cell(table, row, task).records for row in table.rows}


def _same_runs(own: Found, found: Found) -> Found:
    """The recipes' own records of the methods and seeds that were found; none at all where one is missing."""
    same = {
        key: tuple(record for record in own[key] if record.seed in {each.seed for each in records})
        for key, records in found.items()
    }
    whole = all(len(same[key]) == len(records) for key, records in found.items())
    return same if whole else dict.fromkeys(found, ())


def _lines(
    table: Table, task: str, found: Found, recipes: Found, rule: Rule
) -> Iterator[tuple[int, int, int, str, float, float, float, float]]:
    """(methods, runs, collapsed runs, metric, difference in testing, in validation, of the recipes' same runs, rank
    correlation)."""
    same = _same_runs(_readable(rule, recipes), found)
    methods, runs = sum(map(bool, found.values())), sum(map(len, found.values()))
    collapsed = sum(record.collapsed(rule) for records in found.values() for record in records)
    for metric in table.metrics:
        sound = _compared(table, task, found, metric, rule)
        if sound:
            held_out = _compared(table, task, found, metric, rule, _in_validation)
            own = _compared(table, task, same, metric, rule)
            correlation = fidelity.rank_correlation(*zip(*sound, strict=True))
            yield methods, runs, collapsed, metric, _distance(sound), _distance(held_out), _distance(own), correlation


def _distance(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.fmean(abs(printed - mean) for printed, mean in pairs) if pairs else math.nan


Read = Callable[[Record, Row, str, Rule], Number]


def _in_validation(record: Record, _row: Row, metric: str, rule: Rule) -> Number:
    return record.fairness_in_validation(rule).get(metric)


def _compared(
    table: Table, task: str, found: Found, metric: str, rule: Rule, read: Read = cells.value
) -> list[tuple[float, float]]:
    """The sound published number and the measured mean of each of the column's cells that has both."""
    pairs = []
    for row in table.rows:
        cell = (table.name, row.key, task, metric)
        printed, mean = published.numbers().get(cell), _mean(read(each, row, metric, rule) for each in found[row.key])
        if printed is not None and mean is not None and not published.is_wrong(cell):
            pairs.append((printed, mean))
    return pairs


def _mean(values: Iterable[Number]) -> Number:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def write(found: pd.DataFrame, results: Results) -> str:
    """Write readings.csv and readings.md to the folder of results; returns the Markdown."""
    text = markdown(found, results)
    write_atomically(results.folder / f"{results.name('readings')}.csv", quoting.csv(found))
    write_atomically(results.folder / f"{results.name('readings')}.md", text)
    return text


def summary(found: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """One line per ``KEY``: ``DIFFERENCES`` and rank correlation under a rule; "all" under others.

    ``change`` is the difference of "all" from the same runs of the recipes, a gap for the recipes themselves. ``runs``
    are those in which the rule can choose an epoch, or all where it can in none, ``collapsed`` those of no use in it.
    """
    fair = found[found.metric.isin(FAIRNESS)]
    chosen = fair[fair.selection == rule.name]
    by_metric = chosen.pivot_table("difference", KEY, "metric", sort=False)
    bias = found[found.metric == "bias_acc"].set_index(KEY).difference.rename("bias_acc")
    by_rule = fair.pivot_table("difference", KEY, "selection", sort=False).rename(columns={rule.name: "all"})
    by_all = chosen.groupby(KEY, sort=False)[["in_validation", "recipes"]]
    counted = ["methods", "runs", "collapsed"]
    counts = fair.groupby(KEY, sort=False)[counted].max()  # of readings that the rule cannot read
    counts.update(chosen.groupby(KEY)[counted].first())
    correlation = chosen[chosen.metric == "avg_acc"].set_index(KEY).rank_correlation
    wide = counts.join([correlation, by_metric, bias, by_rule, by_all.mean(skipna=False)])
    others = [name for name in RULES if name != rule.name]
    lines = wide.reindex(columns=[*counted, *DIFFERENCES, *others, "rank_correlation"]).reset_index()
    lines["change"] = (lines["all"] - lines.recipes).where(lines.reading != RECIPES)
    return lines


def markdown(found: pd.DataFrame, results: Results) -> str:
    """A grid for each preset, subject and task."""
    rule = results.rule
    parts = ["# Readings of what the paper leaves open to all methods", EXPLANATION.format(rule=rule.note)]
    parts += [f"**{each}**" for each in doubts(_read(results), results)]
    names = DIFFERENCES | {name: name for name in RULES if name != rule.name}
    head = ["Reading", "Methods", "Runs", "Collapsed", *names.values(), "Rank correlation"]
    for (preset, subject, task), lines in summary(found, rule).groupby(KEY[:-1], sort=False):
        body = [
            [*(line[name] for name in ("reading", "methods", "runs", "collapsed")), *numbers(line, names)]
            for line in lines.to_dict("records")
        ]
        parts += [
            f"## {quoting.markdown(results.task_title(str(task)))}: {subject}"
            + (f" ({preset} preset)" if preset != PAPER else ""),
            quoting.grid(body, head),
        ]
    return "\n\n".join(parts) + "\n"


def numbers(line: Mapping[Any, Any], names: Iterable[str]) -> list[str]:
    """A line of ``summary`` as printed: the differences of these names, the change signed, and the correlation."""
    return [
        f"{line[name]:+.2f}" if name == "change" and pd.notna(line[name]) else fidelity.number(line[name])
        for name in (*names, "rank_correlation")
    ]
