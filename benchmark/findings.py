"""Whether the paper's claims hold on our records, as pure functions of records and published numbers.

On each task a claim holds only if every one of its comparisons does, and fails if a single one does. Runs are
compared seed by seed, for seeds that both have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from benchmark import errata, recipes, statements, tables
from benchmark.plan import CELEBA, Row, Run
from benchmark.recipes import Override
from benchmark.records import Record, Store, write_atomically
from benchmark.statements import CELEBA_MEAN, CLAIMS, TASKS, Claim, Comparison, Quantity

COLUMNS = [
    "claim", "task", "preset", "scope", "verdict", "comparison", "difference", "low", "high", "n", "paper", "note",
]  # fmt: skip
HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not hold", "undecided", "not measured"
ONE_SEED = " (one seed)"
# Of several comparisons, the one whose verdict comes first here decides.
DECISIVE = (FAILS, FAILS + ONE_SEED, MISSING, UNDECIDED, UNDECIDED + ONE_SEED, HOLDS + ONE_SEED, HOLDS)
SYMBOLS = {
    HOLDS: "✓", FAILS: "✗", UNDECIDED: "?", MISSING: "·",
    HOLDS + ONE_SEED: "(✓)", FAILS + ONE_SEED: "(✗)", UNDECIDED + ONE_SEED: "(?)",
}  # fmt: skip


class Measured:
    """The numbers of a store's runs; each record is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[tuple[str, tuple[Override, ...], str, str], list[Record]] = {}

    def by_seed(self, quantity: Quantity, task: str, preset: str) -> dict[int, float]:
        """The quantity of every seed. CelebA's mean is over its four tasks, for seeds that all of them have."""
        if task == CELEBA_MEAN:
            parts = [self.by_seed(quantity, each, preset) for each in CELEBA]
            seeds = sorted(set.intersection(*(set(part) for part in parts)))
            return {seed: float(np.mean([part[seed] for part in parts])) for seed in seeds}
        values = {record["seed"]: quantity.read(record) for record in self._records(quantity.row, task, preset)}
        return {seed: value for seed, value in values.items() if value is not None}

    def _records(self, row: Row, task: str, preset: str) -> list[Record]:
        key = (row.method, row.overrides, task, preset)
        if key not in self._found:
            self._found[key] = self._load(*key)
        return self._found[key]

    def _load(self, method: str, overrides: tuple[Override, ...], task: str, preset: str) -> list[Record]:
        if preset not in recipes.presets(task):
            return []
        return self._store.seeds(Run(recipes.resolve(task, method, overrides, preset), 0))

    def differences(self, comparison: Comparison, task: str, preset: str) -> list[float]:
        """Left less right for each seed that both have, in order of the seeds."""
        parts = [self.by_seed(quantity, task, preset) for quantity in comparison.quantities]
        seeds = sorted(set.intersection(*(set(part) for part in parts)))
        return [parts[0][seed] - sum(part[seed] for part in parts[1:]) for seed in seeds]


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; the same at every call. One value is its own interval."""
    values = np.asarray(differences)
    resampled = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def verdict(differences: Sequence[float], low: float, high: float) -> str:
    """Whether the mean difference lies between ``low`` and ``high``: undecided where its interval contains a bound."""
    if not differences:
        return MISSING
    lower, upper = interval(differences)
    if low < lower and upper < high:
        decided = HOLDS
    elif upper < low or lower > high:
        decided = FAILS
    else:
        decided = UNDECIDED
    return decided + (ONE_SEED if len(differences) == 1 else "")


def evaluate(store: Store) -> pd.DataFrame:
    """One line per claim, task and preset, with the comparison that decides it.

    In the paper's preset every task that the claim is made on has a line. Where the paper makes the claim on other
    tasks only (scope "elsewhere"), and in other presets, there is a line where the claim could be decided.
    """
    measured = Measured(store)
    lines = [
        line
        for claim in CLAIMS
        for preset in recipes.all_presets()
        for task in TASKS
        for line in [decide(claim, task, preset, measured)]
        if line["verdict"] != MISSING or (preset == recipes.PAPER and task in claim.tasks)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def decide(claim: Claim, task: str, preset: str, measured: Measured) -> dict[str, Any]:
    """The line of one claim on one task: its verdict, and the numbers of the comparison that decides it."""
    results = [
        _result(comparison, task, measured.differences(comparison, task, preset)) for comparison in claim.comparisons
    ]
    return {
        "claim": claim.id,
        "task": task,
        "preset": preset,
        "scope": "paper" if task in claim.tasks else "elsewhere",
        "note": _note(claim, task),
        **min(results, key=lambda each: (DECISIVE.index(each["verdict"]), each["slack"])),
    }


def _result(comparison: Comparison, task: str, differences: Sequence[float]) -> dict[str, Any]:
    mean = float(np.mean(differences)) if differences else math.nan
    low, high = interval(differences) if len(differences) > 1 else (math.nan, math.nan)
    printed = [cell[1] if (cell := each.published(task)) else math.nan for each in comparison.quantities]
    return {
        "verdict": verdict(differences, comparison.low, comparison.high),
        "comparison": str(comparison),
        "difference": mean,
        "low": low,
        "high": high,
        "n": len(differences),
        "paper": printed[0] - sum(printed[1:]),
        "slack": min(mean - comparison.low, comparison.high - mean),
    }


def _note(claim: Claim, task: str) -> str:
    """The errata of the published numbers that the claim compares on the task, each with the rows it concerns."""
    rows: dict[str, list[str]] = {}
    for quantity in dict.fromkeys(each for comparison in claim.comparisons for each in comparison.quantities):
        if cell := quantity.published(task):
            for erratum in errata.of_cell(cell[0], quantity.row.key, task, quantity.metric):
                rows.setdefault(erratum["note"], []).extend([quantity.row.title] if erratum["method"] else [])
    return " ".join(f"{', '.join(titles)}: {note}" if titles else note for note, titles in rows.items())


def count(lines: pd.DataFrame) -> Counter[str]:
    """How many lines hold, do not hold, are undecided and not measured, whatever their number of seeds."""
    return Counter(each.removesuffix(ONE_SEED) for each in lines.verdict)


def write(lines: pd.DataFrame, results: Path) -> str:
    """Write what ``evaluate`` found to tables/claims.csv and .md in the folder of results; returns the Markdown."""
    text = markdown(lines)
    folder = results / "tables"
    write_atomically(folder / "claims.csv", lines.to_csv(index=False, float_format="%.4f"))
    write_atomically(folder / "claims.md", text)
    return text


def markdown(lines: pd.DataFrame) -> str:
    """How to read it, an overview of all claims and tasks for each preset, and a section per claim."""
    parts = ["# The paper's claims, checked on the records of this repository", EXPLANATION]
    for preset in recipes.all_presets():
        shown = lines[lines.preset == preset]
        if (shown.verdict != MISSING).any():
            parts += [f"## Overview{preset_note(preset)}", _overview(shown)]
    parts += [_section(number, claim, lines[lines.claim == claim.id]) for number, claim in enumerate(CLAIMS, 1)]
    return "\n\n".join(parts) + "\n"


EXPLANATION = f"""\
Each claim is one comparison, or several that must all hold, of what was measured in the last epoch unless it names
another. Runs with the same seed are compared with each other; the interval is a 95 % bootstrap interval of the mean
difference over seeds. A claim holds where the whole interval lies within what the claim states, does not hold where
it lies outside, and is undecided in between. One seed has no interval: its verdict says so and is a hint, not a
result. With two or three seeds the interval is hardly more than their range and is too narrow.

Where several comparisons make a claim, the one shown decides it: one that fails, or else the closest. "Paper" is the
same difference in the printed numbers, which do not always bear out the text. How words were read: an error is low
below {statements.LOW:g} % and near 100 % above {statements.NEAR_100:g} %, well above is by more than \
{statements.WELL_ABOVE:g} points, about equal is within {statements.ABOUT_EQUAL:g},
and a loss has dropped to 0 quickly if it is below {statements.QUICKLY:g} after half of the epochs.

In the overview, ✓ is for a claim that holds, ✗ for one that does not, ? for undecided, and · for not measured on a
task that the paper makes the claim on. Parentheses stand for one seed, and † for a task that the paper does not make
the claim on, which is left blank where nothing was measured. Tasks without any verdict are left out. A claim about
several settings, such as all balances of the data, fails with one that was measured, and holds with all of them."""


def preset_note(preset: str) -> str:
    return "" if preset == recipes.PAPER else f" ({preset} preset, for orientation)"


def _overview(lines: pd.DataFrame) -> str:
    marks = {(line["claim"], line["task"]): _mark(line) for line in lines.to_dict("records")}
    decided = set(lines.task[lines.verdict != MISSING])
    tasks = [task for task in TASKS if task in decided]
    body = [
        [f"{number}. {claim.sentence}", *(marks.get((claim.id, task), "") for task in tasks)]
        for number, claim in enumerate(CLAIMS, 1)
    ]
    return tabulate(body, ["Claim", *map(tables.title, tasks)], tablefmt="github", disable_numparse=True)


def _mark(line: Mapping[Any, Any]) -> str:
    return SYMBOLS[line["verdict"]] + _dagger(line)


def _dagger(line: Mapping[Any, Any]) -> str:
    return "†" if line["scope"] == "elsewhere" else ""


def _section(number: int, claim: Claim, lines: pd.DataFrame) -> str:
    decided = lines[lines.verdict != MISSING]
    parts = [f"## {number}. {claim.sentence}", f"{claim.where}; `{claim.id}`"]
    if len(decided):
        body = [
            [
                tables.title(line["task"]) + _dagger(line) + preset_note(line["preset"]),
                line["verdict"],
                line["comparison"],
                f"{line['difference']:.2f}",
                "–" if math.isnan(line["low"]) else f"{line['low']:.2f} to {line['high']:.2f}",
                line["n"],
                "–" if math.isnan(line["paper"]) else f"{line['paper']:.2f}",
            ]
            for line in decided.to_dict("records")
        ]
        head = ["Task", "Verdict", "Decided by", "Measured", "95 % interval", "n", "Paper"]
        parts.append(tabulate(body, head, tablefmt="github", disable_numparse=True))
    missing = lines[lines.verdict == MISSING]
    titles = "; ".join(tables.title(task) for task in missing.task)
    notes = [f"Not measured in the paper's settings: {titles}."] if titles else []
    noted = lines[lines.note != ""].drop_duplicates("task")
    notes += [f"Errata, {tables.title(task)}. {note}" for task, note in zip(noted.task, noted.note, strict=True)]
    return "\n\n".join((*parts, "\n".join(f"- {note}" for note in notes)))
