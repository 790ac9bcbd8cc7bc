"""Figures as pure functions of records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark import recipes, records
from benchmark.plan import Table
from benchmark.records import Record
from benchmark.tables import Found

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
Curve = Callable[[Record], list[dict[str, Any]]]
PANELS: tuple[tuple[str, str, Curve], ...] = (
    ("avg_acc", "Average group accuracy (%) ↑", records.target_curve),
    ("model_bias", "Model bias (%) ↓", records.target_curve),
    ("bias_acc", "Bias Accuracy of the biased model (%)", records.biased_curve),
)


def write_curves(table: Table, found: Found, folder: Path) -> list[Path]:
    """Per-epoch curves of all methods, one figure for each task with records: ``folder``/<stem>-<task>.png, .pdf.

    The third panel shows methods with a biased model of their own, and plain training as ERM. A table without
    accuracies, such as Table 3, has no figure of its own: those of the others show its biased models.
    """
    written = []
    for task in table.tasks:
        if "avg_acc" not in table.metrics or not any(found[row.key, task] for row in table.rows):
            continue
        written += save(curves(table, found, task), folder / f"{table.stem}-{task}")
    return written


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write the figure as ``stem``.png and .pdf, and close it."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "pdf")]
    for path in written:
        # Without a date a figure of the same records is the same file.
        figure.savefig(path, dpi=150, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    plt.close(figure)
    return written


def plain(axis: Axes) -> None:
    """A faint grid and no box."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def curves(table: Table, found: Found, task: str) -> Figure:
    """The figure of one task: mean over seeds, with a band of one standard deviation where there are several."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 4.2), layout="constrained")
    for row, (color, dash) in zip(table.rows, STYLES * len(table.rows), strict=False):
        for axis, (metric, _, curve) in zip(axes, PANELS, strict=True):
            lines = [curve(record) for record in found[row.key, task]]
            if metric == "bias_acc" and not _has_biased_model(row.method, found[row.key, task]):
                continue
            draw(axis, lines, metric, row.title, color, dash)
    for axis, (_, title, _) in zip(axes, PANELS, strict=True):
        axis.set(title=title, xlabel="epoch", ylim=(0, 100))
        plain(axis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    seeds = max(len(each) for each in found.values())
    modified = f", {table.modified}" if table.modified else ""
    figure.suptitle(f"{recipes.task_title(task)}: test metrics and bias after each epoch (n = {seeds}{modified})")
    return figure


def _has_biased_model(method: str, found: Sequence[Record]) -> bool:
    return method == "vanilla" or any("biased" in entry for record in found for entry in record["curves"])


def draw(axis: Axes, lines: list[list[dict[str, Any]]], metric: str, label: str, color: str, dash: str) -> None:
    """One method's metric after each epoch: the mean over ``lines``, one a seed, with a band of one deviation."""
    length = min((len(line) for line in lines), default=0)
    if not length or lines[0][0].get(metric) is None:
        return
    epochs = np.arange(1, length + 1)
    values = np.array([[entry[metric] for entry in line[:length]] for line in lines])
    mean = values.mean(0)
    dot = "o" if length == 1 else None  # one epoch makes no line
    axis.plot(epochs, mean, color=color, linestyle=dash, linewidth=1.6, marker=dot, markersize=5, label=label)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        axis.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
