"""What a search tried and chose: a table of its choices, every point in a CSV, and each option against the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from benchmark import quoting
from benchmark.compare.doubts import data_notes, doubts
from benchmark.compare.search import Outcome
from benchmark.plan.table import Table
from benchmark.report.style import COLUMN, PAGE, finish, plain, save
from benchmark.store.atomic import write_atomically
from benchmark.store.record import Record
from benchmark.store.results import Results

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"


def notes(outcomes: Sequence[Outcome], table: Table, results: Results) -> list[str]:
    """What a reader must know of the tuned rows: the budget, the rule, what it cost, and what is doubtful about the
    points, by themselves or beside the rows of the ``table``.
    """
    count = len(outcomes[0].search.points)
    hours = sum(each.hours for each in outcomes)
    devices = " and ".join(sorted({each.device for each in outcomes if each.device}))
    missing = sum(each.missing for each in outcomes)
    said = [
        f"Tuned: of {count} points a method, the recipe among them, the one with the best score on validation images "
        f"in the {results.rule.note}; trained anew on seeds that were not searched.",
        f"The search took {hours:.2g} {devices} hours.",
    ]
    shown = results.records_of(table, table.tasks)
    known, both = doubts(shown, results), [*shown, *_points(outcomes)]
    said += [f"With the points of the search: {each}" for each in doubts(both, results) if each not in known]
    if missing:
        said.append(f"{missing} points of the search are not measured yet: methods that lack some are not tuned.")
    return said


def _points(outcomes: Sequence[Outcome]) -> list[Record]:
    return [record for each in outcomes for record in each.records.values()]


def write(outcomes: Sequence[Outcome], table: Table, results: Results) -> str:
    """Write tables/<stem>-points.csv and -choices.md; returns the Markdown of the choices."""
    text = choices(outcomes, table, results)
    stem = results.folder / "tables" / results.name(table.stem)
    write_atomically(stem.with_name(f"{stem.name}-points.csv"), quoting.csv(points(outcomes)))
    write_atomically(stem.with_name(f"{stem.name}-choices.md"), text)
    return text


def points(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One line a point: what it changes, its validation score in percent, what decides between equal ones, and why it
    has none. No number of a test.
    """
    lines = []
    for each in outcomes:
        for number, point in enumerate(each.search.points):
            lines.append(
                {
                    "task": each.search.task,
                    "row": each.search.row.key,
                    "point": number,
                    "settings": "; ".join(map(str, point.overrides)) or "recipe",
                    "score": each.scores[number][0] if number in each.scores else None,
                    "tie_break": next(iter(each.scores.get(number, ())[1:]), None),
                    "chosen": number == each.chosen,
                    "failure": each.failures.get(number, ""),
                    "run": point.run.id,
                }
            )
    return pd.DataFrame(lines)


def choices(outcomes: Sequence[Outcome], table: Table, results: Results) -> str:
    """What was chosen for each row, with the score of the recipe and of the choice, points, failures and hours."""
    body = []
    for each in outcomes:
        chosen = each.chosen
        settings = "" if chosen is None else "; ".join(map(str, each.search.points[chosen].overrides)) or "the recipe"
        body.append(
            [
                quoting.markdown(results.marked_title(each.search.row)),
                f"{len(each.records)} of {len(each.search.points)}",
                len(each.failures),
                f"{each.hours:.2g}",
                _score(each, 0),
                "–" if chosen is None else _score(each, chosen),
                quoting.markdown(settings) or "not all points are measured",
            ]
        )
    head = ["Method", "Points", "Failed", "Hours", "Score of the recipe", "Best score", "Chosen"]
    ties = ["In parentheses the average that decides between equal scores."] if len(results.rule.scores) > 1 else []
    said = quoting.points((*ties, *notes(outcomes, table, results), *data_notes(_points(outcomes), results)))
    grid = quoting.grid(body, head)
    return f"# What the search chose\n\n{grid}\n\n{said}\n"


def _score(outcome: Outcome, number: int) -> str:
    """The score of a point, with what decides between equal ones, if the rule has such."""
    if number not in outcome.scores:
        return "–"
    score, *others = (f"{each:.2f}" for each in outcome.scores[number])
    return f"{score} ({', '.join(others)})" if others else score


def draw(outcomes: Sequence[Outcome], table: Table, results: Results) -> list[Path]:
    """Each option of each row against the validation score of its points: figures/<stem>-options.png and .pdf."""
    columns = max(len(_searched(each)) for each in outcomes)
    size = (PAGE if columns > 1 else COLUMN, 1.6 * len(outcomes))
    drawing = Drawing(figsize=size, layout="constrained")
    grid = drawing.subplots(len(outcomes), columns, squeeze=False)
    for line, each in zip(grid, outcomes, strict=True):
        searched = _searched(each)
        for axis, name in zip(line, searched, strict=False):
            _panel(axis, each, name)
            axis.set_xlabel(name.partition(".")[2] or name)
            plain(axis)
        line[0].set_ylabel(f"{results.marked_title(each.search.row)}\nscore (%)")
        for axis in line[len(searched) :]:
            axis.axis("off")
    legend = {
        label: Line2D([], [], color=colour, marker=marker, linestyle="", markerfacecolor=face)
        for marker, colour, face, label in (
            ("o", GREY, GREY, "a point"),
            ("s", BLUE, BLUE, "the recipe"),
            ("*", ORANGE, "none", "chosen"),
        )
    }
    task = results.task_title(outcomes[0].search.task)
    finish(drawing, f"{task}: validation score, {results.rule.name}, over the searched options", legend)
    return save(drawing, results.folder / "figures" / f"{results.name(table.stem)}-options")


def _searched(outcome: Outcome) -> list[str]:
    """The settings that the search changes, as --set names them."""
    return list(dict.fromkeys(each.name for point in outcome.search.points for each in point.overrides))


def _panel(axis: Axes, outcome: Outcome, name: str) -> None:
    values: dict[int, Any] = {}
    for number, point in enumerate(outcome.search.points):
        own = {each.name: each.value for each in point.overrides}
        values[number] = own.get(name, _default(outcome, name))
    for number, (score, *_) in sorted(outcome.scores.items()):
        marker, colour, size = ("s", BLUE, 4) if number == 0 else ("o", GREY, 3)
        axis.plot(values[number], score, marker, color=colour, markersize=size)
    if (chosen := outcome.chosen) is not None:
        score = outcome.scores[chosen][0]
        # Hollow, so that the point below it is seen.
        axis.plot(
            values[chosen],
            score,
            "*",
            color=ORANGE,
            markersize=9,
            markerfacecolor="none",
            markeredgewidth=1.2,
            zorder=3,
        )
    axis.margins(0.1)
    if name in outcome.search.logarithmic:
        _scale(axis, [value for value in values.values() if value > 0], with_zero=0 in values.values())


def _scale(axis: Axes, values: Sequence[float], with_zero: bool) -> None:
    """A logarithmic scale, on which 0 has a place of its own, with three powers of ten at most, or else its ends."""
    least, most = (math.log10(each) for each in (min(values), max(values)))
    powers = range(math.ceil(least - 1e-9), math.floor(most + 1e-9) + 1)
    ticks = [10.0**power for power in powers[:: max(1, math.ceil(len(powers) / (3 - with_zero)))]]
    if len(ticks) < 2:
        ticks = sorted({min(values), max(values)})
    if with_zero:
        axis.set_xscale("symlog", linthresh=min(values), linscale=0.5)
    else:
        axis.set_xscale("log")
    axis.set_xticks([0.0] * with_zero + ticks, ["0"] * with_zero + list(map(_short, ticks)))
    axis.minorticks_off()


def _short(value: float) -> str:
    """A number in few characters: 0.01, 1, 100, 1e-5 and 4e-4."""
    if 0.01 <= value <= 100:
        return f"{value:.2g}"
    digit, _, power = f"{value:.0e}".partition("e")
    return f"{digit}e{int(power)}"


def _default(outcome: Outcome, name: str) -> Any:
    settings = outcome.search.points[0].run.settings
    owner, _, key = name.rpartition(".")
    return settings["options"][key] if owner else settings[key]
