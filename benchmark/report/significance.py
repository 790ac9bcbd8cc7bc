"""What a table's differences are worth, as Markdown, CSV and a picture of the ranks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import quoting
from benchmark.compare import significance
from benchmark.compare.search import on_cpu
from benchmark.compare.significance import LEVEL, METHODS, TASKS, Ranking
from benchmark.metrics import METRICS
from benchmark.plan.table import Table
from benchmark.report import rank_diagram
from benchmark.report.notes import marks, provenance, seeds, selection
from benchmark.report.style import save
from benchmark.report.words import COLLAPSED, ONE_SEED
from benchmark.store.atomic import withdraw, write_atomically
from benchmark.store.results import Results


def write(table: Table, results: Results) -> list[Path]:
    """Write tables/<stem>-tests.md and .csv where any rows can be compared; returns what was written.

    Where enough tasks are measured there are tables/<stem>-ranks.csv and figures/<stem>-ranks.png and .pdf, too. What
    earlier records gave, and these do not, is removed.
    """
    lines, rankings = significance.differences(table, results), list(significance.rankings(table, results))
    stems = {name: results.folder / "tables" / f"{results.name(table.stem)}-{name}" for name in ("tests", "ranks")}
    picture = results.folder / "figures" / stems["ranks"].name
    text, tests, ranks = (
        Path(f"{stems[name]}.{end}") for name, end in (("tests", "md"), ("tests", "csv"), ("ranks", "csv"))
    )
    written: list[Path] = []
    if len(lines) or rankings:
        write_atomically(text, markdown(table, lines, rankings, results))
        write_atomically(tests, quoting.csv(lines))
        written += [text, tests]
    if rankings:
        write_atomically(ranks, quoting.csv(significance.ranks_frame(table, rankings)))
        names = [[results.marked_title(row) for row in each.rows] for each in rankings]
        written += [ranks, *save(rank_diagram.draw(rankings, names, table.full_title), picture)]
    for path in {text, tests, ranks, Path(f"{picture}.png"), Path(f"{picture}.pdf")} - {*written}:
        withdraw(path)
    return written


def markdown(table: Table, lines: pd.DataFrame, rankings: Sequence[Ranking], results: Results) -> str:
    """The differences of each task, the ranks across tasks, and what a reader must know of the numbers."""
    reference = quoting.markdown(results.marked_title(table.rows[0]))
    parts = [f"# Tests of {quoting.markdown(table.full_title)}", "## On each task", _on_tasks_explained(reference)]
    for task in dict.fromkeys(lines.task):
        parts += [f"### {quoting.markdown(results.task_title(task))}", _differences(table, lines, task, results)]
    parts += ["## Across tasks"]
    if rankings:
        parts += [ACROSS_EXPLAINED, *(part for each in rankings for part in _ranking(each, results))]
    else:
        measured = sum(results.measured(table, task) for task in table.tasks)
        parts.append(
            f"Ranks are compared where at least {METHODS} methods are measured on the same {TASKS} or more tasks, "
            f"which is not so here: {measured} of {len(table.tasks)} tasks have records."
        )
    notes = [f"Selection: {selection(table, results)}."]
    notes += marks("".join(results.mark(row.method) for row in table.rows))
    notes += [*_devices_note(table, results), *provenance(table, results)]
    return "\n\n".join((*parts, quoting.points(notes))) + "\n"


def _devices_note(table: Table, results: Results) -> Iterator[str]:
    """On which devices the compared runs were computed, where these are several or not known."""
    devices = Counter(record.provenance.device for record in results.records_of(table, table.tasks))
    unknown = sum(count for device, count in devices.items() if on_cpu(device) and "," not in device)
    known = sorted(device for device in devices if not on_cpu(device) or "," in device)
    if unknown or len(known) > 1:
        parts = [f"{unknown} on processors that their records do not name"] if unknown else []
        parts += [f"{devices[device]} on {device}" for device in known]
        yield (
            f"Computed {', '.join(parts)}. Each kind rounds otherwise, and trainings of one seed on two kinds part "
            "after a few epochs: what pairs share is the data and the weights at the start."
        )


def _on_tasks_explained(reference: str) -> str:
    return (
        f"Points by which each method differs from {reference}, the first row of the table, in the mean over the n "
        "seeds that both have; in brackets Student's 95 % interval of the paired differences, in bold where it leaves "
        "out 0. Every interval stands for itself: of twenty methods that differ in nothing, one is in bold. One seed "
        f"has no interval ({ONE_SEED}), nor have seeds whose differences are all equal (–)."
    )


def _differences(table: Table, lines: pd.DataFrame, task: str, results: Results) -> str:
    """The grid of one task."""
    found: dict[Any, dict[Any, Any]] = {
        (line["method"], line["metric"]): line for line in lines[lines.task == task].to_dict("records")
    }
    body = []
    for row in table.rows[1:]:
        own = [found.get((row.key, metric)) for metric in table.metrics]
        if any(own):
            shown = ("–" if each is None else _difference(each) for each in own)
            n = seeds(each["n"] for each in own if each)
            body.append([quoting.markdown(results.marked_title(row)), *shown, n])
    head = ["Method", *(METRICS[metric].heading for metric in table.metrics), "n"]
    return quoting.grid(body, head)


def _difference(line: dict[Any, Any]) -> str:
    # Of what is rounded to 0 there is no sign.
    mean, low, high = (f"{line[name]:+.2f}".replace("-0.00", "+0.00") for name in ("difference", "low", "high"))
    if line["n"] == 1:
        shown = f"{mean}{ONE_SEED}"
    elif math.isnan(line["low"]):
        shown = f"{mean} (–)"
    else:
        outside = line["low"] > 0 or line["high"] < 0
        shown = (f"**{mean}**" if outside and not line["collapsed"] else mean) + f" ({low} to {high})"
    return shown + COLLAPSED * bool(line["collapsed"])


ACROSS_EXPLAINED = f"""\
Friedman's test asks whether all methods have the same average rank, 1 for the best on a task by the table's means.
Where its p-value is below {LEVEL:g}, methods are told apart whose average ranks differ by more than the critical
difference (CD) of Nemenyi's test. F, by Iman and Davenport, is the less conservative statistic: its p-value is the one
to read. Tasks of the same images are not independent of each other, as the test takes them to be."""


def _ranking(ranking: Ranking, results: Results) -> Iterator[str]:
    """The tests of one metric, its average ranks, and what was left out."""
    titles = {row.key: quoting.markdown(results.marked_title(row)) for row in ranking.rows}
    tasks, rows = ranking.ranks.shape
    test = ranking.friedman
    yield f"### {METRICS[ranking.metric].heading}"
    yield (
        f"{rows} methods on {tasks} tasks: Friedman's χ²({rows - 1}) = {test.chi_square:.2f}, p = "
        f"{test.chi_square_p:.4f}; F({rows - 1}, {(rows - 1) * (tasks - 1)}) = {test.f:.2f}, p = {test.f_p:.4f}; CD = "
        f"{ranking.critical_difference:.2f}."
    )
    apart = "; ".join(f"{titles[better.key]} before {titles[worse.key]}" for better, worse in ranking.apart())
    if test.f_p >= LEVEL:
        yield "The methods are not told apart."
    else:
        yield f"Told apart: {apart}." if apart else "The ranks are not all the same, but no two methods are told apart."
    order = ranking.average.argsort(kind="stable")
    body = [
        [titles[ranking.rows[row].key], f"{ranking.average[row]:.2f}"]
        + [
            f"{rank:g}{COLLAPSED if dead else ''}"
            for rank, dead in zip(ranking.ranks[:, row], ranking.collapsed[:, row], strict=True)
        ]
        for row in order
    ]
    head = ["Method", "Average rank", *(quoting.markdown(results.task_title(task)) for task in ranking.tasks)]
    yield quoting.grid(body, head)
    if ranking.collapsed.any():
        yield f"{COLLAPSED} collapsed, hence last: {ranking.collapsed.sum()} of these {ranking.collapsed.size} cells."
    few, gaps = ranking.left_out
    if few:
        left_out = ", ".join(quoting.markdown(results.marked_title(row)) for row in few)
        yield f"Left out, since measured on fewer than {TASKS} tasks: {left_out}."
    if gaps:
        left_out = ", ".join(quoting.markdown(results.task_title(task)) for task in gaps)
        yield f"Left out, since some of these methods are not measured there: {left_out}."
