"""Figures as pure functions of records."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmark import metrics
from benchmark.compare import published
from benchmark.metrics import METRICS
from benchmark.plan.table import Figure, Panel, Row, Table
from benchmark.report.style import look, looks, plain, plot, save
from benchmark.report.tables import seeds, seeds_of
from benchmark.rules import LAST, Rule
from benchmark.store.record import Record
from benchmark.store.results import Results, Series

# Metric, title and network of each panel of a table's curves.
PANELS: tuple[tuple[str, str, Literal["target", "biased"]], ...] = (
    ("avg_acc", METRICS["avg_acc"].panel, "target"),
    ("model_bias", METRICS["model_bias"].panel, "target"),
    ("bias_acc", "Bias Accuracy of the biased model (%)", "biased"),
)
MOST_LINES = 18  # of a table that has curves
X_TITLES = {
    "epoch": "epoch",
    "balance": "α: conflicting per aligned training sample",
    "poisoner.gamma": "γ",
    "poisoner.percentile": "p (%)",
    "poisoner.conflict_factor": "λ",
}
LOGARITHMIC = ("balance", "poisoner.percentile")
Found = Mapping[str, Series]
"""What is stored of each row on one task, by the row's key."""


def write_curves(table: Table, results: Results) -> list[Path]:
    """Per-epoch curves of all methods, one figure for each task with records: figures/<stem>-<task>.png, .pdf.

    The third panel shows methods with a biased model of their own, and plain training as ERM. A table without
    accuracies, such as Table 3, has no figure of its own: those of the others show its biased models. Nor has one of
    more rows than can be told apart.
    """
    written: list[Path] = []
    if not has_curves(table):
        return written
    for task in table.tasks:
        if results.measured(table, task):
            written += save(curves(table, results, task), results.folder / "figures" / f"{table.stem}-{task}")
    return written


def has_curves(table: Table) -> bool:
    """Whether the curves of the table's methods are drawn."""
    return "avg_acc" in table.metrics and len(table.rows) <= MOST_LINES


def curves(table: Table, results: Results, task: str) -> Drawing:
    """The figure of one task: mean over seeds, with a band of one standard deviation where there are several."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 4.2), layout="constrained")
    found = {row.key: results.cell(table, row, task) for row in table.rows}
    for row, (color, dash) in zip(table.rows, looks(row.method for row in table.rows), strict=True):
        records = found[row.key].records
        for axis, (metric, _, network) in zip(axes, PANELS, strict=True):
            if metric == "bias_acc" and not _has_biased_model(row.method, records):
                continue
            plot(axis, [record.curve(network) for record in records], metric, results.row_title(row), color, dash)
    for axis, (_, title, _) in zip(axes, PANELS, strict=True):
        axis.set(title=title, xlabel="epoch", ylim=(0, 100))
        plain(axis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    modified = f", {table.modified}" if table.modified else ""
    measured = seeds(map(len, found.values()))
    figure.suptitle(f"{results.task_title(task)}: test metrics and bias after each epoch (n = {measured}{modified})")
    return figure


def _has_biased_model(method: str, records: Sequence[Record]) -> bool:
    return method == "vanilla" or any(record.has_biased for record in records)


def write_figure(figure: Figure, results: Results) -> list[Path]:
    """Draw one of the paper's figures to figures/<stem>.png and .pdf; panels without records say so."""
    return save(draw(figure, results), results.folder / "figures" / results.name(figure.stem))


def caption(figure: Figure, results: Results) -> str:
    """What the figure shows, on what, from how many seeds, and what the paper reads from it."""
    tasks = " and ".join(map(results.task_title, figure.tasks))
    originals = " and ".join(map(results.task_title, figure.own_tasks))
    instead = f", in place of the paper's {originals}" if figure.stand_in else ""
    modified = f"; {figure.modified}" if figure.modified else ""
    chosen = "" if results.rule is LAST else f"; numbers of the test of the {results.rule.note}"
    measured = f"n = {seeds_of(figure, results)}{modified}{chosen}"
    return f"{figure.title}. {tasks}{instead} ({measured}). The paper's claim: {figure.claim}"


def draw(figure: Figure, results: Results) -> Drawing:
    """The figure, a row of panels for each of its tasks."""
    rows, columns = len(figure.tasks), len(figure.panels)
    if columns == 1:  # the tasks side by side
        rows, columns = columns, rows
    size = (max(4.2 * columns, 6.5), 3.6 * rows + 1.5)
    drawing, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    pairs = [(task, panel) for task in figure.tasks for panel in figure.panels]
    for axes, (task, panel) in zip(grid.flat, pairs, strict=True):
        found = {row.key: results.cell(figure, row, task) for row in panel.rows}
        if panel.x == "epoch":
            _draw_curves(axes, panel, found, results)
        else:
            _draw_sweep(axes, panel, found, results, task)
        if task in figure.own_tasks and any(map(len, found.values())):
            for x, y, text in panel.marks:
                axes.plot(x, y, "D", color="#555555", markerfacecolor="none")
                axes.annotate(text, (x, y), (6, 4), textcoords="offset points", fontsize="small", color="#555555")
        titles = (panel.title, results.task_title(task) if len(figure.tasks) > 1 or not panel.title else "")
        axes.set(title="\n".join(filter(None, titles)), xlabel=X_TITLES[panel.x])
        plain(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small")
        else:
            axes.set(xticks=[], yticks=[])
            unlabelled = any(map(len, found.values())) or not panel.rows
            why = "needs the bias of training images" if unlabelled else "not measured"
            axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color="#777777")
    heading = f"{figure.heading}: {caption(figure, results)}"
    drawing.suptitle(textwrap.fill(heading, int(size[0] * 12.5)), fontsize="medium", ha="left", x=0.01)
    return drawing


def _draw_curves(axes: Axes, panel: Panel, found: Found, results: Results) -> None:
    """Metrics by colour, rows by dashes."""
    for row, dash in zip(panel.rows, ("-", "--", ":", "-."), strict=False):
        lines = [record.curve(panel.network) for record in found[row.key].records]
        for metric in panel.metrics:
            name, color = METRICS[metric].label, METRICS[metric].colour
            label = f"{results.row_title(row)}: {name}" if len(panel.rows) > 1 else name
            plot(axes, lines, metric, label, color, dash)
    if panel.metrics[0].endswith("error"):
        axes.set_ylim(-2, 102)
    else:
        axes.set_ylim(bottom=0)


def _draw_sweep(axes: Axes, panel: Panel, found: Found, results: Results, task: str) -> None:
    """A line through the points of each method and metric; what the paper prints of a point as a hollow diamond."""
    methods = list(dict.fromkeys(row.method for row in panel.rows))
    published_too = False
    for method in methods:
        rows = [row for row in panel.rows if row.method == method and len(found[row.key])]
        points = sorted(
            ((_position(panel.x, found[row.key].records[0]), row) for row in rows), key=lambda each: each[0]
        )
        if not points:
            continue
        for metric in panel.metrics:
            name, color, dash = METRICS[metric].label, METRICS[metric].colour, "-"
            if len(methods) > 1:
                name, (color, dash) = results.row_title(points[0][1]), look(method)
            values = [_finals(found[row.key].records, metric, results.rule) for _, row in points]
            mean = np.array([each.mean() for each in values])
            spread = np.array([each.std(ddof=1) if len(each) > 1 else 0 for each in values])
            x = np.array([position for position, _ in points])
            axes.errorbar(x, mean, spread, color=color, linestyle=dash, marker="o", markersize=4, capsize=2, label=name)
            for position, row in points:
                if (value := _printed(row, task, metric)) is not None:
                    axes.plot(position, value, "D", color=color, markerfacecolor="none")
                    published_too = True
    if published_too:
        axes.plot([], [], "D", color="#555555", markerfacecolor="none", label="as published")
    if panel.x in LOGARITHMIC:
        axes.set_xscale("log")
        ticks = sorted({_position(panel.x, each.records[0]) for each in found.values() if len(each)})
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks], rotation=45)
        axes.minorticks_off()
    axes.set_ylim(0, 100 if any(metric != "model_bias" for metric in panel.metrics) else None)
    axes.set_ylabel(METRICS[panel.metrics[0]].label if len(panel.metrics) == 1 else "%")


def _position(x: str, record: Record) -> float:
    """Where a record stands on a sweep's axis."""
    if x == "balance":
        total = np.asarray(record.groups.train)
        aligned = metrics.aligned_mask(total.shape, np.asarray(record.groups.aligned_bias))
        return total[~aligned].sum() / total[aligned].sum()
    return record.settings["options"][x.partition(".")[2]]


def _finals(records: Sequence[Record], metric: str, rule: Rule) -> np.ndarray:
    """The metric of each seed, [seeds]: of test images in the epoch that the rule chooses, of training ones at the end.

    NaN where there is none.
    """
    if metric == "bias_acc":
        return np.array([record.bias_accuracy() for record in records], float)
    return np.array([(record.fairness(rule) | record.identification()).get(metric) for record in records], float)


def _printed(row: Row, task: str, metric: str) -> float | None:
    """What the paper prints of a point, or None."""
    values = (published.numbers().get((table, method, task, metric)) for table, method in row.published)
    return next((value for value in values if value is not None), None)
