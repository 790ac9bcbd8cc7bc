"""One picture of all that the paper compares: average accuracies, as measured and as published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from benchmark.compare.cells import shown, tidy
from benchmark.compare.claims import CELEBA_MEAN, ROWS
from benchmark.compare.doubts import doubts
from benchmark.metrics import METRICS
from benchmark.plan.paper import TABLES
from benchmark.report import style
from benchmark.report.notes import seeds
from benchmark.report.style import COLUMN, PAGE, PUBLISHED, finish, look, plain, save, spread
from benchmark.report.words import COLLAPSED
from benchmark.store.results import Results

METRIC = "avg_acc"
MOST_COLUMNS = 3  # of panels beside each other
MEASURED = Line2D([], [], marker="o", linestyle="", color=style.PAPER, label="measured")


def averages(results: Results) -> pd.DataFrame:
    """The lines of average accuracy of Tables 1 and 2, of those tasks on which any row was measured in full size."""
    lines = pd.concat([shown(tidy(TABLES[number], results), results) for number in ("1", "2")], ignore_index=True)
    lines = lines[(lines.metric == METRIC) & (lines.task != CELEBA_MEAN)]
    return lines[lines.task.isin(lines.task[lines.n > 0])]


def write(results: Results) -> list[Path]:
    """Draw figures/overview.png and .pdf; where nothing is measured there is none, nor an old one."""
    stem = results.folder / "figures" / results.name("overview")
    lines = averages(results)
    if len(lines):
        return save(draw(lines, results), stem)
    style.remove(stem)
    return []


def draw(lines: pd.DataFrame, results: Results) -> Drawing:
    """A panel for each task, in each of them a row for each method: a dot as measured, a diamond as published."""
    tasks, methods = list(lines.task.unique()), list(lines.method.unique())
    columns = min(len(tasks), MOST_COLUMNS)
    rows = -(-len(tasks) // columns)
    size = (PAGE if columns > 1 else COLUMN, (0.16 * len(methods) + 0.45) * rows)
    drawing = Drawing(figsize=size, layout="constrained")
    grid = drawing.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, task in zip(grid.flat, tasks, strict=False):
        of_task = lines[lines.task == task].set_index("method")
        for place, method in enumerate(methods):
            _pair(axes, place, look(ROWS[method].method)[0], of_task.loc[method])
        names = [results.marked_title(ROWS[each]) for each in methods]
        axes.set_yticks(range(len(methods)), names)
        axes.set(title=results.task_title(task), xlabel=METRICS[METRIC].label, ylim=(len(methods) - 0.4, -0.6))
        axes.tick_params(axis="y", length=0)
        plain(axes)
    for axes in grid.flat[len(tasks) :]:
        axes.remove()
    counts = lines.n[lines.n > 0]
    notes = [spread(counts)]
    notes += ["* uses bias labels."] if any(results.mark(ROWS[each].method) for each in methods) else []
    notes += [f"{COLLAPSED} collapsed."] if lines.collapsed.any() else []
    records = (record for number in ("1", "2") for record in results.records_of(TABLES[number], tasks))
    notes += doubts(records, results)
    heading = f"Average accuracy, measured beside published (n = {seeds(counts)}; {results.rule.note})"
    finish(drawing, heading, LEGEND, " ".join(notes))
    return drawing


LEGEND: Mapping[str, Artist] = {"measured": MEASURED, "as published": PUBLISHED}


def _pair(axes: Axes, place: int, colour: str, line: pd.Series) -> None:
    """What was measured of a method and what was published, with a line between them."""
    if not pd.isna(line["paper"]):
        axes.plot(line["paper"], place, style.DIAMOND, color=colour, markerfacecolor="white")
    if not line["n"]:
        return
    axes.plot([line["mean"], line["paper"]], [place, place], color=colour, linewidth=0.6, zorder=1)
    deviation = None if pd.isna(line["std"]) else line["std"]
    axes.errorbar(
        line["mean"], place, xerr=deviation, color=colour, marker="o", capsize=2, linewidth=1,
        markerfacecolor=style.face(line["n"], colour),
    )  # fmt: skip
    if line["collapsed"]:
        axes.annotate(COLLAPSED, (line["mean"], place), (0, 3), textcoords="offset points", ha="center")
