"""The page's first screen: which of the paper's claims hold, and which method is best where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmark.compare import cells, verdicts
from benchmark.compare.claims import CLAIMS, TASKS, Claim
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.run import PAPER
from benchmark.plan.table import Figure, Row, Table
from benchmark.report.words import Context, lines_of, number, signed
from benchmark.store.results import Results

GROUPS = {
    "Debiasing": ("poisoner.", "groupdro.", "gifl."),
    "Biased models": ("bias_acc.",),
    "Figures": ("fig",),
}
"""Headings of claims, and how the ids of those under them begin."""


def judged_under(under: Mapping[str, Results], judged: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of ``verdicts.evaluate`` under every rule; ``judged`` are those of the first."""
    first, *others = under
    return {first: judged, **{name: verdicts.evaluate(under[name]) for name in others}}


def claims(preset: str, judged: Mapping[str, pd.DataFrame], results: Results) -> Context:
    """The matrix of claims and tasks of a preset: rows of those with any verdict, and how many have none.

    Each cell has the kind of the verdict, its seeds and the words of its dialog, by rule where that changes them.
    """
    own = {name: lines[lines.preset == preset] for name, lines in judged.items()}
    decided = pd.concat([lines[lines.verdict != verdicts.MISSING] for lines in own.values()])
    tasks = [task for task in TASKS if task in set(decided.task)]
    found = {
        name: {(line["claim"], line["task"]): _verdict(line) for line in lines_of(lines)} for name, lines in own.items()
    }
    numbers = {claim.id: place for place, claim in enumerate(CLAIMS, 1)}
    groups = []
    for heading, beginnings in GROUPS.items():
        members = [claim for claim in CLAIMS if claim.id.startswith(beginnings) and claim.id in set(decided.claim)]
        if members:
            rows = [_row(claim, numbers[claim.id], tasks, found, results) for claim in members]
            groups.append({"heading": heading, "rows": rows})
    return {
        "preset": preset,
        "tasks": [(task, results.task_title(task)) for task in tasks],
        "groups": groups,
        "open": len(CLAIMS) - decided.claim.nunique(),
        "all": len(CLAIMS),
        "counts": {name: _counts(lines) for name, lines in own.items()},
    }


def _counts(lines: pd.DataFrame) -> str:
    return f"By claim and task: {verdicts.in_words(lines[lines.verdict != verdicts.MISSING])}."


def _row(
    claim: Claim,
    place: int,
    tasks: Sequence[str],
    found: Mapping[str, Mapping[tuple[str, str], Context]],
    results: Results,
) -> Context:
    return {
        "id": f"claim-{place}",
        "number": place,
        "sentence": claim.sentence,
        "where": claim.where,
        "cells": [
            {"task": task, "under": _differing({name: lines.get((claim.id, task)) for name, lines in found.items()})}
            for task in tasks
        ],
    }


def _differing(under: Mapping[str, Context | None]) -> dict[str, Context | None]:
    """What is so under the first rule, and under the others only what is not as there."""
    first, *others = under
    return {first: under[first], **{name: under[name] for name in others if under[name] != under[first]}}


def _verdict(line: Context) -> Context:
    """A cell of the matrix: kind, seeds, and what its dialog says."""
    missing = line["verdict"] == verdicts.MISSING
    return {
        "kind": line["verdict"].removesuffix(verdicts.ONE_SEED),
        "n": int(line["n"]),
        "own": line["scope"] == "paper",
        "comparison": "" if missing else line["comparison"],
        "difference": "" if missing else signed(line["difference"]),
        "interval": "" if pd.isna(line["low"]) else f"{signed(line['low'])} to {signed(line['high'])}",
        "paper": signed(line["paper"]),
        "note": f"{line['errata']} {line['collapsed']}".strip(),
    }


def best(preset: str, shown: Iterable[Table], under: Mapping[str, Results]) -> list[Context]:
    """Of each measured task, the best method without bias labels in each metric, in words under every rule."""
    found = dict.fromkeys(
        (row, task)
        for table in shown
        if not isinstance(table, Figure) and not table.overrides and set(FAIRNESS) <= set(table.metrics)
        for row in table.rows
        if not row.overrides and row.epoch is None
        for task in table.tasks
    )
    results = next(iter(under.values()))
    lines = []
    for task in dict.fromkeys(task for _, task in found):
        rows = [row for row, each in found if each == task and len(results.find(task, row.method, (), preset))]
        table = Table("best", "", (task,), tuple(dict.fromkeys(replace(row, title="") for row in rows)), FAIRNESS)
        table = replace(table, preset=preset)
        if table.rows:
            by_rule = {name: [_best(table, task, metric, each) for metric in FAIRNESS] for name, each in under.items()}
            lines.append({"task": task, "title": results.task_title(task), "under": by_rule})
    return lines


def _best(table: Table, task: str, metric: str, results: Results) -> Context | None:
    """The best row of a column, with intervals of its mean and of its lead, and for a bias the average beside it.

    None where less than two can be it, or two are, and where the best gets nothing right.
    """
    sign = -1 if METRICS[metric].better == "lower" else 1
    fair: list[tuple[float, Row, dict[int, float]]] = []
    informed: list[tuple[float, Row, int]] = []
    for row in table.rows:
        records = results.cell(table, row, task).records
        values = cells.by_seed(records, row, metric, results.rule)
        if not values or any(record.collapsed(results.rule) for record in records):
            continue
        if metric == "model_bias" and cells.has_capped_bias(table, row, task, results):
            continue
        mean = round(float(np.mean(list(values.values()))), 2)
        if row.method in results.use_bias_labels:
            informed.append((mean, row, len(values)))
        else:
            fair.append((mean, row, values))
    if len(fair) < 2:
        return None
    (mean, row, values), (_, second, others) = sorted(fair, key=lambda each: -sign * each[0])[:2]
    if mean == round(float(np.mean(list(others.values()))), 2) or (sign > 0 and mean == 0):
        return None
    pairs = [sign * (values[seed] - others[seed]) for seed in sorted(values.keys() & others.keys())]
    low, high = verdicts.interval(list(values.values()))
    top = max(informed, key=lambda each: sign * each[0], default=None)
    return {
        "method": row.method,
        "title": results.marked_title(row),
        "mean": number(mean),
        "interval": f"{number(low)} to {number(high)}" if low < high else "",
        "n": len(values),
        "average": number(_average(table, task, row, results)) if sign < 0 else "",
        "lead": _lead(results.row_title(second), pairs),
        "informed": f"with bias labels, {results.row_title(top[1])}: {number(top[0])}, n = {top[2]}"
        if top and sign * top[0] > sign * mean
        else "",
    }


def _average(table: Table, task: str, row: Row, results: Results) -> float:
    values = cells.by_seed(results.cell(table, row, task).records, row, "avg_acc", results.rule)
    return float(np.mean(list(values.values())))


def _lead(second: str, pairs: Sequence[float]) -> str:
    """What the best is ahead of the second by on the seeds that both have, and whether that is more than chance."""
    if not pairs:
        return f"ahead of {second}, on other seeds"
    mean = float(np.mean(pairs))
    if mean < 0:
        seeds = "the one seed" if len(pairs) == 1 else f"the {len(pairs)} seeds"
        return f"{number(-mean)} behind {second} on {seeds} of both, and best by seeds that {second} lacks"
    ahead = f"{number(mean)} ahead of {second}"
    if len(pairs) == 1:
        return f"{ahead} on the one seed of both, may be chance"
    low, high = verdicts.interval(pairs)
    within = f" ({number(low)} to {number(high)})" if low < high else ", by the same in each,"
    return f"{ahead}{within} on {len(pairs)} seeds" + ("" if low > 0 else ", may be chance")


def preset_note(preset: str) -> str:
    if preset == PAPER:
        return "The paper's settings"
    return f"The {preset} preset, for orientation: the paper's numbers are of other settings"


def presets(results: Results) -> Iterator[str]:
    """The presets with records, the paper's first; it alone where there are none."""
    found = {record.preset for record in results.records}
    yield from dict.fromkeys(preset for preset in (*results.names.all_presets, *sorted(found)) if preset in found)
    if not found:
        yield PAPER
