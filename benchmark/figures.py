"""Figures as pure functions of records."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from benchmark import metrics, recipes, records
from benchmark.plan import COMPARED, FIGURES, Figure, Panel, Row, Table
from benchmark.records import Record
from benchmark.tables import Found, published, seeds

# Okabe and Ito's colours, which the colour-blind can tell apart, and dashes for what is printed in grey.
STYLES = [
    ("#000000", "-"),
    ("#E69F00", "-"),
    ("#56B4E9", "-"),
    ("#009E73", "-"),
    ("#CC79A7", "-"),
    ("#0072B2", "--"),
    ("#D55E00", "--"),
    ("#B22222", "-"),
    ("#777777", ":"),
]
DPI = 150  # of the PNGs
Curve = Callable[[Record], list[dict[str, Any]]]
PANELS: tuple[tuple[str, str, Curve], ...] = (
    ("avg_acc", "Average group accuracy (%) ↑", records.target_curve),
    ("model_bias", "Model bias (%) ↓", records.target_curve),
    ("bias_acc", "Bias Accuracy of the biased model (%)", records.biased_curve),
)


def write_curves(table: Table, found: Found, folder: Path) -> list[Path]:
    """Per-epoch curves of all methods, one figure for each task with records: ``folder``/<stem>-<task>.png, .pdf.

    The third panel shows methods with a biased model of their own, and plain training as ERM. A table without
    accuracies, such as Table 3, has no figure of its own: those of the others show its biased models. Nor has one of
    more rows than can be told apart.
    """
    written: list[Path] = []
    if not has_curves(table):
        return written
    for task in table.tasks:
        if not any(found[row.key, task] for row in table.rows):
            continue
        written += save(curves(table, found, task), folder / f"{table.stem}-{task}")
    return written


def has_curves(table: Table) -> bool:
    """Whether the curves of the table's methods are drawn."""
    return "avg_acc" in table.metrics and len(table.rows) <= 2 * len(STYLES)


def save(drawing: Drawing, stem: Path) -> list[Path]:
    """Write the drawing as ``stem``.png and .pdf, and close it."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "pdf")]
    for path in written:
        # Without a date a figure of the same records is the same file.
        drawing.savefig(path, dpi=DPI, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    plt.close(drawing)
    return written


def plain(axis: Axes) -> None:
    """A faint grid and no box."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def curves(table: Table, found: Found, task: str) -> Drawing:
    """The figure of one task: mean over seeds, with a band of one standard deviation where there are several."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 4.2), layout="constrained")
    for row, (color, dash) in zip(table.rows, STYLES * len(table.rows), strict=False):
        for axis, (metric, _, curve) in zip(axes, PANELS, strict=True):
            lines = [curve(record) for record in found[row.key, task]]
            if metric == "bias_acc" and not _has_biased_model(row.method, found[row.key, task]):
                continue
            plot(axis, lines, metric, row.title, color, dash)
    for axis, (_, title, _) in zip(axes, PANELS, strict=True):
        axis.set(title=title, xlabel="epoch", ylim=(0, 100))
        plain(axis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    modified = f", {table.modified}" if table.modified else ""
    measured = seeds(found[row.key, task] for row in table.rows)
    figure.suptitle(f"{recipes.task_title(task)}: test metrics and bias after each epoch (n = {measured}{modified})")
    return figure


def _has_biased_model(method: str, found: Sequence[Record]) -> bool:
    return method == "vanilla" or any("biased" in entry for record in found for entry in record["curves"])


def plot(axis: Axes, lines: list[list[dict[str, Any]]], metric: str, label: str, color: str, dash: str) -> None:
    """One method's metric after each epoch: the mean over ``lines``, one a seed, with a band of one deviation."""
    length = min((len(line) for line in lines), default=0)
    if not length or lines[0][0].get(metric) is None:
        return
    epochs = np.arange(1, length + 1)
    values = np.array([[entry[metric] for entry in line[:length]] for line in lines])
    mean = values.mean(0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    dot = "o" if length == 1 else None  # one epoch makes no line
    axis.plot(epochs, mean, color=color, linestyle=dash, linewidth=1.6, marker=dot, markersize=5, label=label)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        axis.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)


# How a metric is called and, where a panel contrasts metrics rather than methods, coloured.
METRIC_STYLES = {
    "aligned_error": ("error on aligned (%)", "#0072B2"),
    "conflicting_error": ("error on conflicting (%)", "#D55E00"),
    "aligned_loss": ("loss of aligned", "#0072B2"),
    "conflicting_loss": ("loss of conflicting", "#D55E00"),
    "bias_acc": ("Bias Accuracy (%)", "#000000"),
    "recall": ("recall of conflicting (%)", "#D55E00"),
    "precision": ("precision of conflicting (%)", "#009E73"),
    "avg_acc": ("average accuracy (%)", "#0072B2"),
    "worst_acc": ("worst group (%)", "#009E73"),
    "model_bias": ("model bias (%)", "#D55E00"),
}
METHOD_STYLES = {
    title: style
    for row, style in zip(COMPARED, STYLES, strict=True)
    for title in (row.title, "ERM" if row.method == "vanilla" else row.title)
} | {"GCE": ("#777777", "-.")}
X_TITLES = {
    "epoch": "epoch",
    "balance": "α: conflicting per aligned training sample",
    "poisoner.gamma": "γ",
    "poisoner.percentile": "p (%)",
    "poisoner.conflict_factor": "λ",
}
LOGARITHMIC = ("balance", "poisoner.percentile")


def write_figure(figure: Figure, found: Found, folder: Path) -> list[Path]:
    """Draw one of the paper's figures to ``folder``/<stem>.png and .pdf; panels without records say so."""
    return save(draw(figure, found), folder / figure.stem)


def caption(figure: Figure, found: Found) -> str:
    """What the figure shows, on what, from how many seeds, and what the paper reads from it."""
    tasks = " and ".join(recipes.task_title(task) for task in figure.tasks)
    originals = " and ".join(recipes.task_title(task) for task in FIGURES[figure.name.removeprefix("figure")].tasks)
    instead = f", in place of the paper's {originals}" if figure.stand_in else ""
    modified = f"; {figure.modified}" if figure.modified else ""
    return (
        f"{figure.title}. {tasks}{instead} (n = {seeds(found.values())}{modified}). The paper's claim: {figure.claim}"
    )


def draw(figure: Figure, found: Found) -> Drawing:
    """The figure, a row of panels for each of its tasks."""
    rows, columns = len(figure.tasks), len(figure.panels)
    if columns == 1:  # the tasks side by side
        rows, columns = columns, rows
    size = (max(4.2 * columns, 6.5), 3.6 * rows + 1.5)
    drawing, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    pairs = [(task, panel) for task in figure.tasks for panel in figure.panels]
    for axes, (task, panel) in zip(grid.flat, pairs, strict=True):
        ours = {row.key: found[row.key, task] for row in panel.rows}
        own = FIGURES[figure.name.removeprefix("figure")].tasks
        (_draw_curves if panel.x == "epoch" else _draw_sweep)(axes, panel, ours, task)
        if task in own and any(ours.values()):
            for x, y, text in panel.marks:
                axes.plot(x, y, "D", color="#555555", markerfacecolor="none")
                axes.annotate(text, (x, y), (6, 4), textcoords="offset points", fontsize="small", color="#555555")
        titles = (panel.title, recipes.task_title(task) if len(figure.tasks) > 1 or not panel.title else "")
        axes.set(title="\n".join(filter(None, titles)), xlabel=X_TITLES[panel.x])
        plain(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small")
        else:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#777777")
    heading = f"{figure.heading}: {caption(figure, found)}"
    drawing.suptitle(textwrap.fill(heading, int(size[0] * 12.5)), fontsize="medium", ha="left", x=0.01)
    return drawing


def _draw_curves(axes: Axes, panel: Panel, found: dict[str, list[Record]], task: str) -> None:
    """Metrics by colour, rows by dashes."""
    curve = records.biased_curve if panel.network == "biased" else records.target_curve
    for row, dash in zip(panel.rows, ("-", "--", ":", "-."), strict=False):
        for metric in panel.metrics:
            name, color = METRIC_STYLES[metric]
            label = f"{row.title}: {name}" if len(panel.rows) > 1 else name
            plot(axes, [curve(record) for record in found[row.key]], metric, label, color, dash)
    if panel.metrics[0].endswith("error"):
        axes.set_ylim(-2, 102)
    else:
        axes.set_ylim(bottom=0)


def _draw_sweep(axes: Axes, panel: Panel, found: dict[str, list[Record]], task: str) -> None:
    """A line through the points of each method and metric; what the paper prints of a point as a hollow diamond."""
    titles = list(dict.fromkeys(row.title for row in panel.rows))
    published_too = False
    for title in titles:
        for metric in panel.metrics:
            name, color = METRIC_STYLES[metric]
            dash = "-"
            if len(titles) > 1:
                name, (color, dash) = title, METHOD_STYLES[title]
            points = [
                (_position(panel.x, found[row.key][0]), row)
                for row in panel.rows
                if row.title == title and found[row.key]
            ]
            points.sort(key=lambda point: point[0])
            if not points:
                continue
            x = np.array([position for position, _ in points])
            values = [_finals(found[row.key], metric) for _, row in points]
            mean = np.array([each.mean() for each in values])
            spread = np.array([each.std(ddof=1) if len(each) > 1 else 0 for each in values])
            axes.errorbar(x, mean, spread, color=color, linestyle=dash, marker="o", markersize=4, capsize=2, label=name)
            for position, row in points:
                if (value := _printed(row, task, metric)) is not None:
                    axes.plot(position, value, "D", color=color, markerfacecolor="none")
                    published_too = True
    if published_too:
        axes.plot([], [], "D", color="#555555", markerfacecolor="none", label="as published")
    if panel.x in LOGARITHMIC:
        axes.set_xscale("log")
        ticks = sorted({_position(panel.x, each[0]) for each in found.values() if each})
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks], rotation=45)
        axes.minorticks_off()
    axes.set_ylim(0, 100 if any(metric != "model_bias" for metric in panel.metrics) else None)
    axes.set_ylabel(METRIC_STYLES[panel.metrics[0]][0] if len(panel.metrics) == 1 else "%")


def _position(x: str, record: Record) -> float:
    """Where a record stands on a sweep's axis."""
    if x == "balance":
        total = np.asarray(record["groups"]["train"])
        aligned = metrics.aligned_mask(total.shape, record["groups"]["aligned_bias"])
        return total[~aligned].sum() / total[aligned].sum()
    return record["settings"]["options"][x.partition(".")[2]]


def _finals(found: Sequence[Record], metric: str) -> np.ndarray:
    """The metric at the end of each seed's run, [seeds]."""
    if metric == "bias_acc":
        return np.array([records.bias_accuracy(record) for record in found], float)
    values = [(records.fairness(record) | records.identification(record))[metric] for record in found]
    return np.array(values, float)


def _printed(row: Row, task: str, metric: str) -> float | None:
    """What the paper prints of a point, or None."""
    values = (published().get((table, method, task, metric)) for table, method in row.published)
    return next((value for value in values if value is not None), None)
