"""Whether the paper's claims hold on our records, as pure functions of records and published numbers.

On each task a claim holds only if every one of its comparisons does, and fails if a single one does. Runs are
compared seed by seed, for seeds that both have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit
from tabulate import tabulate

from benchmark import quoting
from benchmark.compare import claims, published
from benchmark.compare.claims import CELEBA_MEAN, CLAIMS, TASKS, Claim, Comparison, Quantity
from benchmark.compare.doubts import data_notes, doubts
from benchmark.metrics import FAIRNESS
from benchmark.plan.paper import CELEBA
from benchmark.plan.run import PAPER
from benchmark.plan.table import Row
from benchmark.rules import Rule
from benchmark.store.atomic import write_atomically
from benchmark.store.record import Record
from benchmark.store.results import Results

COLUMNS = [
    "claim", "task", "preset", "scope", "verdict", "comparison", "difference", "low", "high", "n", "paper", "collapsed",
    "errata",
]  # fmt: skip
HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not hold", "undecided", "not measured"
ONE_SEED = " (one seed)"
ELSEWHERE = "†"
# Of several comparisons, the one whose verdict comes first here decides.
DECISIVE = (FAILS, FAILS + ONE_SEED, MISSING, UNDECIDED, UNDECIDED + ONE_SEED, HOLDS + ONE_SEED, HOLDS)
SYMBOLS = {
    HOLDS: "✓", FAILS: "✗", UNDECIDED: "?", MISSING: "·",
    HOLDS + ONE_SEED: "(✓)", FAILS + ONE_SEED: "(✗)", UNDECIDED + ONE_SEED: "(?)",
}  # fmt: skip


def by_seed(quantity: Quantity, task: str, preset: str, results: Results) -> dict[int, float]:
    """The quantity of every seed. CelebA's mean is over its four tasks, for seeds that all of them have."""
    if task == CELEBA_MEAN:
        parts = [by_seed(quantity, each, preset, results) for each in CELEBA]
        seeds = sorted(set.intersection(*(set(part) for part in parts)))
        return {seed: float(np.mean([part[seed] for part in parts])) for seed in seeds}
    row = quantity.row
    records = results.find(task, row.method, row.overrides, preset).records
    values = {each.seed: quantity.read(each, results.rule) for each in records}
    return {seed: value for seed, value in values.items() if value is not None}


def differences(comparison: Comparison, task: str, preset: str, results: Results) -> list[float]:
    """Left less right for each seed that both have, in order of the seeds."""
    parts = [by_seed(quantity, task, preset, results) for quantity in comparison.quantities]
    seeds = sorted(set.intersection(*(set(part) for part in parts)))
    return [parts[0][seed] - sum(part[seed] for part in parts[1:]) for seed in seeds]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of their mean, by Student's t.

    NaN where nothing tells how far seeds spread: of one value, and of several that are equal, which is a coincidence
    (of few seeds and few images) and no certainty.
    """
    array = np.asarray(values)
    if np.ptp(array) < 1e-9:
        return math.nan, math.nan
    half = stdtrit(len(array) - 1, 0.975) * array.std(ddof=1) / math.sqrt(len(array))
    return float(array.mean() - half), float(array.mean() + half)


def verdict(differences: Sequence[float], low: float, high: float) -> str:
    """Whether the mean difference lies between ``low`` and ``high``: undecided where its interval contains a bound.

    One difference decides as it is, and is marked; several without an interval decide nothing.
    """
    if not differences:
        return MISSING
    lower, upper = (differences[0],) * 2 if len(differences) == 1 else interval(differences)
    if low < lower and upper < high:
        decided = HOLDS
    elif upper < low or lower > high:
        decided = FAILS
    else:
        decided = UNDECIDED
    return decided + (ONE_SEED if len(differences) == 1 else "")


def evaluate(results: Results) -> pd.DataFrame:
    """One line per claim, task and preset, with the comparison that decides it.

    In the paper's preset every task that the claim is made on has a line. Where the paper makes the claim on other
    tasks only (scope "elsewhere"), and in other presets, there is a line where the claim could be decided.
    """
    asked = {(claim.id, PAPER, task) for claim in CLAIMS for task in claim.tasks}
    recorded = {(record.preset, record.task) for record in results.records}
    recorded |= {(preset, CELEBA_MEAN) for preset, task in recorded if task in CELEBA}
    lines = (
        decide(claim, task, preset, results)
        for claim in CLAIMS
        for preset in results.names.all_presets
        for task in TASKS
        if (preset, task) in recorded or (claim.id, preset, task) in asked
    )
    kept = [
        line for line in lines if line["verdict"] != MISSING or (line["claim"], line["preset"], line["task"]) in asked
    ]
    return pd.DataFrame(kept, columns=COLUMNS)


def decide(claim: Claim, task: str, preset: str, results: Results) -> dict[str, Any]:
    """The line of one claim on one task: its verdict, and the numbers of the comparison that decides it."""
    collapsed = [row for row in _rows(claim) if _has_collapsed(row, task, preset, results)]
    comparisons = [each for each in claim.comparisons if not _is_meaningless(each, collapsed)]
    outcomes = [_outcome(comparison, task, preset, results) for comparison in comparisons or claim.comparisons]
    if not comparisons:
        outcomes = [each | {"verdict": _open(each["verdict"])} for each in outcomes]
    return {
        "claim": claim.id,
        "task": task,
        "preset": preset,
        "scope": "paper" if task in claim.tasks else "elsewhere",
        "collapsed": _left_out(collapsed, claim, results),
        "errata": _errata(claim, task, results),
        **min(outcomes, key=lambda each: (DECISIVE.index(each["verdict"]), each["slack"])),
    }


def _open(verdict: str) -> str:
    """Undecided, where there is a verdict: what collapsed decides nothing."""
    return verdict if verdict == MISSING else UNDECIDED + ONE_SEED * verdict.endswith(ONE_SEED)


def _rows(claim: Claim) -> list[Row]:
    """The rows whose numbers of the test the claim compares."""
    quantities = (each for comparison in claim.comparisons for each in comparison.quantities)
    return list(dict.fromkeys(each.row for each in quantities if each.metric in FAIRNESS))


def records(preset: str, results: Results) -> Iterator[Record]:
    """Those that the verdicts of a preset rest on."""
    quantities = (each for claim in CLAIMS for comparison in claim.comparisons for each in comparison.quantities)
    rows = dict.fromkeys((each.row.method, each.row.overrides) for each in quantities)
    for task in TASKS:
        for method, overrides in rows if task != CELEBA_MEAN else ():
            yield from results.find(task, method, overrides, preset).records


def _has_collapsed(row: Row, task: str, preset: str, results: Results) -> bool:
    tasks = CELEBA if task == CELEBA_MEAN else (task,)
    found = (record for each in tasks for record in results.find(each, row.method, row.overrides, preset).records)
    return any(record.collapsed(results.rule) for record in found)


def _is_meaningless(comparison: Comparison, collapsed: Sequence[Row]) -> bool:
    """Whether it compares the test of a model that tells nothing apart, or has turned the bias round: of the one the
    bias is none, of the other the conflicting groups are best.
    """
    return any(each.metric in FAIRNESS and each.row in collapsed for each in comparison.quantities)


def _left_out(collapsed: Sequence[Row], claim: Claim, results: Results) -> str:
    """Which of the claim's rows collapsed, and whether the verdict is of the others alone; nothing where none did."""
    if not collapsed:
        return ""
    titles = ", ".join(map(results.row_title, collapsed))
    whole = all(_is_meaningless(each, collapsed) for each in claim.comparisons)
    return f"Collapsed, so that its numbers mean nothing: {titles}{'' if whole else '; left out'}."


def _outcome(comparison: Comparison, task: str, preset: str, results: Results) -> dict[str, Any]:
    measured = differences(comparison, task, preset, results)
    mean = float(np.mean(measured)) if measured else math.nan
    low, high = interval(measured) if measured else (math.nan, math.nan)
    printed = [cell[1] if (cell := each.published(task)) else math.nan for each in comparison.quantities]
    return {
        "verdict": verdict(measured, comparison.low, comparison.high),
        "comparison": comparison.describe(results),
        "difference": mean,
        "low": low,
        "high": high,
        "n": len(measured),
        "paper": printed[0] - sum(printed[1:]),
        "slack": min(mean - comparison.low, comparison.high - mean),
    }


def _errata(claim: Claim, task: str, results: Results) -> str:
    """The errata of the published numbers that the claim compares on the task, each with the rows it concerns."""
    rows: dict[str, list[str]] = {}
    for quantity in dict.fromkeys(each for comparison in claim.comparisons for each in comparison.quantities):
        if printed := quantity.published(task):
            for erratum in published.errata_of(printed[0]):
                titles = [results.row_title(quantity.row)] if erratum.cell[1] else []
                rows.setdefault(erratum.note, []).extend(titles)
    return " ".join(f"{', '.join(titles)}: {note}" if titles else note for note, titles in rows.items())


def count(lines: pd.DataFrame) -> tuple[Counter[str], Counter[str]]:
    """How many lines hold, do not hold, are undecided and not measured; those of one seed, which are hints, apart."""
    hint = lines.verdict.str.endswith(ONE_SEED)
    return Counter(lines.verdict[~hint]), Counter(each.removesuffix(ONE_SEED) for each in lines.verdict[hint])


def in_words(lines: pd.DataFrame) -> str:
    """The counts of what several seeds decide, and of the hints that one seed gives."""
    several, hints = count(lines)
    said = f"{several[HOLDS]} hold, {several[FAILS]} do not, and {several[UNDECIDED]} are undecided"
    if not hints:
        return said
    return f"{said}; of {hints.total()} hints of one seed, {hints[HOLDS]} are for and {hints[FAILS]} against"


def write(lines: pd.DataFrame, results: Results) -> str:
    """Write what ``evaluate`` found to tables/claims.csv and .md in the folder of results; returns the Markdown."""
    text = markdown(lines, results)
    path = results.folder / "tables" / results.name("claims")
    write_atomically(path.with_suffix(".csv"), quoting.csv(lines))
    write_atomically(path.with_suffix(".md"), text)
    return text


def markdown(lines: pd.DataFrame, results: Results) -> str:
    """How to read it, all claims in short and, for each preset, by task, and a section per claim."""
    parts = ["# The paper's claims, checked on the records of this repository", explanation(results.rule)]
    if (lines.verdict[lines.preset == PAPER] != MISSING).any():
        parts += ["## In short", _in_short(lines[lines.preset == PAPER], results)]
    for preset in results.names.all_presets:
        shown = lines[lines.preset == preset]
        if (shown.verdict != MISSING).any():
            behind = list(records(preset, results))
            warned = [f"**{each}**" for each in doubts(behind, results)]
            parts += [f"## Overview{preset_note(preset)}", *warned, _overview(shown, results)]
            parts += [quoting.points(data_notes(behind, results))]
    parts += [
        _section(number, claim, lines[lines.claim == claim.id], results) for number, claim in enumerate(CLAIMS, 1)
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def explanation(rule: Rule) -> str:
    """How verdicts come about, with the rule by which the epochs of tested networks were chosen."""
    return EXPLANATION.format(rule=rule.note)


EXPLANATION = f"""\
Each claim is one comparison, or several that must all hold. What it says of test images is of the {{rule}}; of
training images, of the last epoch unless it names another. Runs with the same seed are compared with each other; the
interval is Student's 95 % interval of the mean difference over seeds. A claim holds where the whole interval lies
within what the claim states, does not hold where it lies outside, and is undecided in between. One seed has no
interval: its verdict says so and is a hint, not a result. Nor have seeds whose differences are all equal, which leave
the claim undecided. With two or three seeds the interval is wide, as it must be, and few claims are decided.

Poisoner is read as its recipe says: with ten classes the gradient flows through the group means of GIFL, as Eq. 10 and
11 print them; with two, where that fails, the means are constants. Other readings are settings
(`--set poisoner.differentiated=neither`), and no verdict here is of them.

Where several comparisons make a claim, the one shown decides it: one that fails, or else the closest. "Paper" is the
same difference in the printed numbers, which do not always bear out the text. How words were read: an error is low
below {claims.LOW:g} % and near 100 % above {claims.NEAR_100:g} %, well above is by more than \
{claims.WELL_ABOVE:g} points, about equal is within {claims.ABOUT_EQUAL:g},
and a loss has dropped to 0 quickly if it is below {claims.QUICKLY:g} after half of the epochs.

In the overview, ✓ is for a claim that holds, ✗ for one that does not, ? for undecided, and · for not measured in the
paper's settings on a task that it makes the claim on. Parentheses stand for one seed, and † for a task that the paper
does not make the claim on. Whatever else was not measured is blank. Tasks without any verdict are left out. In short,
the marks of several claims stand in the order of their numbers, · for all that was not measured, and a † set apart is
for every mark before it. A claim about several settings, such as all balances of the data, fails with one that was
measured, and holds with all of them."""


def preset_note(preset: str) -> str:
    return "" if preset == PAPER else f" ({preset} preset, for orientation)"


def _in_short(lines: pd.DataFrame, results: Results) -> str:
    """How many claims hold, and the marks of all by topic, in order; one † where all are made on other tasks only."""
    marks, body, last = _marks(lines), [], 0
    tasks = _decided_tasks(lines)
    for topic, of_topic in claims.TOPICS.items():
        first, last = last + 1, last + len(of_topic)
        cells = [[marks.get((claim.id, task), SYMBOLS[MISSING]) for claim in of_topic] for task in tasks]
        body.append([f"{first}–{last}. {topic}", *map(_joined, cells)])
    measured = lines[lines.verdict != MISSING]
    said = f"Of {len(measured)} verdicts so far, each on one claim and one task, {in_words(measured)}."
    warned = [f"**{each}**" for each in doubts(records(str(lines.preset.iloc[0]), results), results)]
    return f"{' '.join((said, *warned))}\n\n{_grid(body, ['Claims', *(results.task_title(task) for task in tasks)])}"


def _joined(marks: Sequence[str]) -> str:
    """The marks of a cell of several claims, blank where none was measured."""
    there = [mark for mark in marks if mark != SYMBOLS[MISSING]]
    if there and all(mark.endswith(ELSEWHERE) for mark in there):
        return " ".join(mark.removesuffix(ELSEWHERE) for mark in marks) + f" {ELSEWHERE}"
    return " ".join(marks) if there else ""


def _overview(lines: pd.DataFrame, results: Results) -> str:
    marks, tasks = _marks(lines), _decided_tasks(lines)
    body = [
        [f"{number}. {claim.sentence}", *(marks.get((claim.id, task), "") for task in tasks)]
        for number, claim in enumerate(CLAIMS, 1)
    ]
    return _grid(body, ["Claim", *(results.task_title(task) for task in tasks)])


def _grid(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return tabulate(body, list(map(quoting.markdown, head)), tablefmt="github", disable_numparse=True)


def _marks(lines: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The mark of each claim on each task."""
    return {
        (line["claim"], line["task"]): SYMBOLS[line["verdict"]] + _dagger(line) for line in lines.to_dict("records")
    }


def _decided_tasks(lines: pd.DataFrame) -> list[str]:
    decided = set(lines.task[lines.verdict != MISSING])
    return [task for task in TASKS if task in decided]


def _dagger(line: Mapping[Any, Any]) -> str:
    return ELSEWHERE if line["scope"] == "elsewhere" else ""


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _section(number: int, claim: Claim, lines: pd.DataFrame, results: Results) -> str:
    decided = lines[lines.verdict != MISSING]
    parts = [f"## {number}. {claim.sentence}", f"{claim.where}; `{claim.id}`"]
    if len(decided):
        body = [
            [
                quoting.markdown(results.task_title(line["task"])) + _dagger(line) + preset_note(line["preset"]),
                line["verdict"],
                line["comparison"],
                _number(line["difference"]),
                "–" if math.isnan(line["low"]) else f"{_number(line['low'])} to {_number(line['high'])}",
                line["n"],
                _number(line["paper"]),
            ]
            for line in decided.to_dict("records")
        ]
        head = ["Task", "Verdict", "Decided by", "Measured", "95 % interval", "n", "Paper"]
        parts.append(quoting.grid(body, head, words=3))
    missing = lines[lines.verdict == MISSING]
    titles = "; ".join(results.task_title(task) for task in missing.task)
    notes = [f"Not measured in the paper's settings: {titles}."] if titles else []
    notes += [
        f"{results.task_title(line['task'])}{preset_note(line['preset'])}: {line['collapsed']}"
        for line in decided[decided.collapsed != ""].to_dict("records")
    ]
    errata = lines[lines.errata != ""].drop_duplicates("task")  # of the published numbers, whatever was measured
    notes += [
        f"Errata, {results.task_title(task)}. {note}" for task, note in zip(errata.task, errata.errata, strict=True)
    ]
    return "\n\n".join((*parts, "\n".join(f"- {note}" for note in notes)))
