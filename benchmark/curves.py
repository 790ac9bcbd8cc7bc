"""The command line ``python -m benchmark.curves``: curves and trade-offs of any stored runs. Needs no data."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tabulate import tabulate

from benchmark import figures, plan, recipes, records, tables
from benchmark.errors import UserError, exit_code
from benchmark.plan import Run
from benchmark.records import Record, Store, run_of

EPILOG = """examples:
  python -m benchmark.curves --tasks cmnist_99                  all methods of a task
  python -m benchmark.curves --tasks cmnist_99 cmnist_98 --methods vanilla poisoner be
  python -m benchmark.curves --runs cmnist_99/poisoner/2271acb9df3d-s0 cmnist_99/gce
  python -m benchmark.curves --tasks colored_digits --text      numbers and sparklines in the terminal, too

It writes two figures a task, as PNG and PDF: curves-<task>, what is measured after each epoch, and
curves-<task>-tradeoff, model bias against average accuracy. A figure of some methods only has their names in its own.
Of a task with many runs, those as in the recipes are drawn; --runs chooses any.
"""
METHODS = [row.method for row in plan.COMPARED]
PANELS: tuple[tuple[str, str, figures.Curve] | None, ...] = (
    ("avg_acc", "Test: average group accuracy (%) ↑", records.target_curve),
    ("bias_acc", "Training: Bias Accuracy* (%)", records.biased_curve),
    ("aligned_error", "Training: error* of aligned samples (%)", records.biased_curve),
    ("conflicting_error", "Training: error* of conflicting samples (%)", records.biased_curve),
    ("model_bias", "Test: model bias (%) ↓", records.target_curve),
    None,
    ("aligned_loss", "Training: loss* of aligned samples", records.biased_curve),
    ("conflicting_loss", "Training: loss* of conflicting samples", records.biased_curve),
)
"""Metric, title and the curve it is part of, row by row; the panel that is None holds the legend."""
PREVIEWED = ("avg_acc", "model_bias", "bias_acc")
# Two colours more, for methods that are not in the paper's comparison.
STYLES = [*figures.STYLES, ("#8C510A", "-."), ("#542788", "-.")]
# More lines than these cannot be told apart, and their legend leaves the page.
MOST = 14
# The mark that goes with each dash.
MARKERS = {"-.": "^", ":": "D", "--": "s", "-": "o"}
BLOCKS = "▁▂▃▄▅▆▇█"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.curves",
        description="Draw what stored runs measured after each epoch, and their trade-off of bias and accuracy.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="only these tasks")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="only these methods")
    parser.add_argument("--runs", nargs="+", metavar="ID", default=[""], help="only runs whose ids begin so")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="FOLDER", help="folder of records (default results/)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to write (default: figures in the results folder)"
    )
    parser.add_argument(
        "--text", action="store_true", help="print a preview, too; a terminal gets it unless --output is given"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    store = Store(options.results)
    chosen = select(store, options.runs, options.tasks, options.methods)
    folder = options.output or store.folder / "figures"
    preview = options.text or (options.output is None and sys.stdout.isatty())
    for group in map(legible, group_by_task(chosen)):
        if preview:
            print(text(group))
        names = list(dict.fromkeys(series.run.method for series in group.series))
        narrowed = names if options.methods or options.runs != [""] else []
        stem = "-".join(("curves", group.stem, *narrowed))
        try:
            written = figures.save(curves(group), folder / stem)
            written += figures.save(tradeoff(group), folder / f"{stem}-tradeoff")
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}): name another with --output.") from error
        for path in written:
            print(f"wrote {path}")
    return 0


def select(
    store: Store, beginnings: Sequence[str], tasks: Sequence[str] | None, methods: Sequence[str] | None
) -> list[Record]:
    """The records whose ids begin so, of these tasks and methods where any are named. Raises UserError if none is."""
    found = {run_of(record).id: record for beginning in beginnings for record in store.find(beginning)}
    for record in found.values():
        recipes.add_folder_of(record["settings"])
    if tasks:
        tasks = [recipes.check_task(task) for task in tasks]
    if methods:
        methods = [recipes.check_method(method) for method in methods]
    chosen = [
        record
        for record in found.values()
        if (not tasks or record["task"] in tasks) and (not methods or record["method"] in methods)
    ]
    if not chosen:
        there = ", ".join(sorted({f"{record['task']}/{record['method']}" for record in found.values()}))
        raise UserError(f"No stored run is of these tasks and methods; there are {there}.")
    return chosen


@dataclass(frozen=True)
class Series:
    """All seeds of the same settings, and how they are drawn."""

    run: Run
    found: list[Record]
    label: str
    color: str
    dash: str


@dataclass(frozen=True)
class Group:
    """What one figure shows: the runs of a task in one preset."""

    task: str
    preset: str
    series: list[Series]

    @property
    def stem(self) -> str:
        return self.task if self.preset == recipes.PAPER else f"{self.task}-{self.preset}"

    @property
    def title(self) -> str:
        """The task's title, its preset where that is not the paper's, and the number of seeds."""
        seeds = tables.seeds(series.found for series in self.series)
        preset = "" if self.preset == recipes.PAPER else f", {self.preset} preset"
        return f"{recipes.task_title(self.task)}{preset} (n = {seeds})"


def group_by_task(chosen: Sequence[Record]) -> list[Group]:
    """The records as figures and series, methods in the order of the paper's tables."""

    def figure(run: Run) -> tuple[str, str]:
        return run.task, run.preset

    def series(run: Run) -> tuple[int, str, bool, str]:
        # The recipe's own settings before modified ones.
        return _place(run.method), run.method, bool(recipes.changes(run.settings)), run.digest

    runs = sorted((run_of(record) for record in chosen), key=lambda run: (figure(run), series(run), run.seed))
    by_id = {run_of(record).id: record for record in chosen}
    groups = []
    for (task, preset), members in groupby(runs, figure):
        each = [list(seeds) for _, seeds in groupby(members, series)]
        groups.append(Group(task, preset, list(_series(each, by_id))))
    return groups


def legible(group: Group) -> Group:
    """The group, of too many series only those as in the recipes, with a word. Raises UserError if still too many."""
    if len(group.series) <= MOST:
        return group
    own = [series for series in group.series if series.label == recipes.method_title(series.run.method)]
    if not 0 < len(own) <= MOST:
        raise UserError(
            f"{group.title} has {len(own) or len(group.series)} kinds of runs, of which a figure shows {MOST} at most: "
            "choose some with --methods or --runs."
        )
    print(
        f"{group.task}: {len(own)} of {len(group.series)} kinds of runs, those as in the recipes; for others name "
        f"{MOST} at most with --runs."
    )
    # Styled anew, as if the others were not there.
    return group_by_task([record for series in own for record in series.found])[0]


def _place(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def _series(runs: Sequence[Sequence[Run]], by_id: dict[str, Record]) -> Iterator[Series]:
    """A method looks as in the tables' figures; its variants have the same colour and other dashes."""
    known = [*METHODS, *sorted({seeds[0].method for seeds in runs} - set(METHODS))]
    used: set[tuple[str, str]] = set()
    for seeds in runs:
        run = seeds[0]
        color, dash = STYLES[known.index(run.method) % len(STYLES)]
        variants = ((color, each) for each in MARKERS)
        others = ((other, each) for other, _ in STYLES for each in MARKERS)
        style = next((each for each in chain([(color, dash)], variants, others) if each not in used), (color, dash))
        used.add(style)
        yield Series(run, [by_id[each.id] for each in seeds], _label(run), *style)


def _label(run: Run) -> str:
    """The method's title and what sets the run apart from its recipe."""
    changes = recipes.changes(run.settings)
    parts = [f"{each.key}={each.value}" for each in changes]
    if recipes.resolve(run.task, run.method, changes, run.preset) != run.settings:
        parts.append("older recipe")
    return recipes.method_title(run.method) + (f" ({', '.join(parts)})" if parts else "")


def curves(group: Group) -> Figure:
    """What was measured after each epoch: mean over seeds, with a band of one standard deviation."""
    figure, axes = plt.subplots(2, 4, figsize=(17, 7.6), layout="constrained")
    for axis, panel in zip(axes.flat, PANELS, strict=True):
        if panel is None:
            continue
        metric, title, curve = panel
        for series in group.series:
            lines = [curve(record) for record in series.found]
            figures.plot(axis, lines, metric, series.label, series.color, series.dash)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("epoch")
        if metric.endswith("_loss"):
            axis.set_yscale("log")
        elif metric == "aligned_error":  # a few percent that would lie on the axis
            axis.set_ylim(bottom=0)
        else:
            axis.set_ylim(0, 100)
        figures.plain(axis)
    corner = axes.flat[PANELS.index(None)]
    size, spacing = (10.0, 0.5) if len(group.series) < 10 else (8.5, 0.3)  # the footnote stands below
    corner.legend(
        *axes.flat[0].get_legend_handles_labels(),
        loc="upper left",
        fontsize=size,
        labelspacing=spacing,
        frameon=False,
    )
    corner.text(0.03, 0, _footnote(group), transform=corner.transAxes, va="bottom", fontsize=9, color="#444444")
    corner.axis("off")
    band = any(len(series.found) > 1 for series in group.series)
    figure.suptitle(f"{group.title}: after each epoch" + (", with a band of ± one standard deviation" if band else ""))
    return figure


def _footnote(group: Group) -> str:
    """Whose errors and losses are drawn."""
    own = [series.label for series in group.series if any("biased" in record["train"] for record in series.found)]
    parts = [f"of the biased model of {', '.join(own)}"] if own else []
    if len(own) < len(group.series):
        parts.append("of the tested network" + (" of all others" if own else ""))
    return textwrap.fill(f"* {'; '.join(parts)}", 48)


def tradeoff(group: Group) -> Figure:
    """Model bias against average accuracy: a small mark a seed, a large one for their mean, a hollow one as published.

    A published number belongs to the settings of its table's row only, and is joined to what they measured.
    """
    figure, axis = plt.subplots(figsize=(8, 5.6), layout="constrained")
    for series in group.series:
        _mark(axis, series)
    axis.set(xlabel="← better     model bias (%)", ylabel="average group accuracy (%)     better →")
    figures.plain(axis)
    handles, labels = axis.get_legend_handles_labels()
    grey = "#777777"
    for label, size, face in (("measured, mean", 9, grey), ("measured, a seed", 4, grey), ("published", 9, "white")):
        mark = Line2D([], [], color=grey, linestyle="", marker="o", markersize=size, markerfacecolor=face)
        handles.append(mark)
        labels.append(label)
    axis.legend(handles, labels, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.suptitle(f"{group.title}: bias and accuracy on the test set", fontsize=12)
    return figure


def _mark(axis: Axes, series: Series) -> None:
    points = measured(series)
    if not len(points):
        return
    mean, color = points.mean(0), series.color
    marker = MARKERS[series.dash]
    if paper := published(series.run):
        axis.plot(*zip(mean, paper, strict=True), color=color, linewidth=0.8, alpha=0.6, zorder=1)
        axis.plot(*paper, marker, markersize=9, color=color, markerfacecolor="white")
    if len(points) > 1:
        axis.plot(*points.T, marker, markersize=4, color=color, alpha=0.5, markeredgewidth=0)
    axis.plot(*mean, marker, markersize=9, color=color, label=series.label)


def measured(series: Series) -> np.ndarray:
    """Model bias and average accuracy of every seed after the last epoch, [k, 2]; seeds without both are left out."""
    results = [records.fairness(record) for record in series.found]
    points = [(each.get("model_bias"), each.get("avg_acc")) for each in results]
    return np.array([point for point in points if None not in point], dtype=float).reshape(-1, 2)


def published(run: Run) -> tuple[float, float] | None:
    """The paper's model bias and average accuracy of exactly these settings, from the first table that has them."""
    for table in plan.TABLES.values():
        for row in table.rows if run.task in table.available_tasks and "model_bias" in table.metrics else ():
            if table.run(row, run.task, 0).digest == run.digest:
                numbers = (
                    tables.published().get((table.name, row.key, run.task, each)) for each in ("model_bias", "avg_acc")
                )
                bias, accuracy = numbers
                if bias is not None and accuracy is not None:
                    return float(bias), float(accuracy)
    return None


def text(group: Group) -> str:
    """A few epochs of each series as numbers, and all of them as a sparkline from 0 to 100."""
    parts = [group.title]
    for metric, title, curve in (panel for panel in PANELS if panel and panel[0] in PREVIEWED):
        means = {series.label: _mean([curve(record) for record in series.found], metric) for series in group.series}
        length = max(map(len, means.values()))
        epochs = sorted({1, 2, *(round(length * share) for share in (0.25, 0.5, 0.75, 1))} & set(range(1, length + 1)))
        rows = [
            [label, *(f"{mean[epoch - 1]:.1f}" if epoch <= len(mean) else "" for epoch in epochs), sparkline(mean)]
            for label, mean in means.items()
            if len(mean)
        ]
        head = [title.replace("*", ""), *map(str, epochs), "0 to 100"]
        align = ["left", *["right"] * len(epochs), "left"]
        if rows:
            parts.append(tabulate(rows, head, tablefmt="simple", disable_numparse=True, colalign=align))
    return "\n\n".join(parts) + "\n"


def _mean(lines: Sequence[list[dict[str, Any]]], metric: str) -> np.ndarray:
    """Mean over the seeds' curves after each epoch that all have; empty where the metric was not measured."""
    length = min(map(len, lines))
    values = np.array([[entry.get(metric) for entry in line[:length]] for line in lines], dtype=float)
    return values.mean(0) if np.isfinite(values).all() else np.empty(0)


def sparkline(values: np.ndarray, width: int = 30) -> str:
    """Percentages as at most ``width`` block characters, 0 the lowest and 100 the highest."""
    chosen = np.linspace(0, len(values) - 1, min(width, len(values))).round().astype(int)
    heights = np.clip(values[chosen] / 100 * len(BLOCKS), 0, len(BLOCKS) - 1).astype(int)
    return "".join(BLOCKS[height] for height in heights)


if __name__ == "__main__":
    sys.exit(main())
