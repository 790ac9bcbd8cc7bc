"""The command line ``python -m benchmark.curves``: curves and trade-offs of any stored runs. Needs no data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark import quoting
from benchmark.arguments import Parser, folder
from benchmark.collect import collect
from benchmark.compare import published
from benchmark.compare.doubts import doubts
from benchmark.errors import UserError, exit_code
from benchmark.metrics import METRICS
from benchmark.plan.paper import COMPARED, TABLES
from benchmark.plan.recipes import Recipes, load
from benchmark.plan.run import PAPER
from benchmark.report import style
from benchmark.report.figures import collapsed
from benchmark.report.notes import seeds
from benchmark.report.style import MOST_LINES
from benchmark.report.words import COLLAPSED
from benchmark.rules import LAST, Rule
from benchmark.store.record import Record
from benchmark.store.results import Results, Series
from benchmark.store.store import Store
from benchmark.terminal.preview import on_test, on_training, preview, watch

EPILOG = """examples:
  python -m benchmark.curves --tasks cmnist_99                  all methods of a task
  python -m benchmark.curves --tasks cmnist_99 cmnist_98 --methods vanilla poisoner be
  python -m benchmark.curves --runs cmnist_99/poisoner/2271acb9df3d-s0 cmnist_99/gce
  python -m benchmark.curves --tasks colored_digits --text      numbers and sparklines in the terminal, too
  python -m benchmark.curves --live                             those of runs in progress, redrawn as they come

It writes two figures a task, as PNG and PDF: curves-<task>, what is measured after each epoch, and
curves-<task>-tradeoff, model bias against average accuracy. A figure of some methods only has their names in its own.
Of a task with many runs, those as in the recipes are drawn; --runs chooses any.
"""
METHODS = [row.method for row in COMPARED]


# Row by row; None is left empty.
PANELS = (
    on_test("avg_acc"),
    on_test("worst_acc"),
    on_test("model_bias"),
    on_training("bias_acc"),
    on_training("aligned_error"),
    on_training("conflicting_error"),
    None,
    on_training("aligned_loss"),
    on_training("conflicting_loss"),
)
# The mark that goes with each dash.
MARKERS = {"-.": "^", ":": "v", "--": "s", "-": "o"}


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.curves",
        description="Draw what stored runs measured after each epoch, and their trade-off of bias and accuracy.",
        epilog=EPILOG,
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="only these tasks")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="only these methods")
    parser.add_argument("--runs", nargs="+", metavar="ID", default=[""], help="only runs whose ids begin so")
    parser.add_argument(
        "--results", type=folder, default="results", metavar="FOLDER", help="folder of records (default results/)"
    )
    parser.add_argument(
        "--output", type=folder, metavar="FOLDER", help="where to write (default: figures in the results folder)"
    )
    parser.add_argument(
        "--text", action="store_true", help="print a preview, too; a terminal gets it unless --output is given"
    )
    parser.add_argument(
        "--live", action="store_true",
        help="show curves of runs in progress, which --log jsonl writes, beside the stored ones until Ctrl-C",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    return exit_code(lambda: _main(parser().parse_args(arguments)))


def _main(options: argparse.Namespace) -> int:
    recipes, store = load(), Store(options.results)
    if options.live:
        watch(store, recipes, options.runs, options.tasks or (), options.methods or ())
        return 0
    chosen = {run for beginning in options.runs for run in store.ids(beginning)}
    results = collect(store, recipes)
    found = select(results, chosen, recipes, options.tasks, options.methods)
    folder = options.output or store.folder / "figures"
    preview = options.text or (options.output is None and sys.stdout.isatty())
    for group in (legible(group, results) for group in group_by_task(found, results)):
        if preview:
            print(text(group, results))
        names = list(dict.fromkeys(line.method for line in group.lines))
        narrowed = names if options.methods or options.runs != [""] else []
        stem = quoting.file_name("-".join(("curves", group.stem, *narrowed)))
        try:
            written = style.save(curves(group, results), folder / stem)
            written += style.save(tradeoff(group, results), folder / f"{stem}-tradeoff")
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}): name another with --output.") from error
        for path in written:
            print(f"wrote {path}")
    return 0


def select(
    results: Results, runs: set[str], recipes: Recipes, tasks: Sequence[str] | None, methods: Sequence[str] | None
) -> list[Series]:
    """The series of these runs, and of these tasks and methods where any are named. Raises UserError if none is."""
    found = [
        replace(series, records=records)
        for series in results.series.values()
        if (records := tuple(record for record in series.records if record.run.id in runs))
    ]
    own = {series.task for series in found}  # a folder of one's own is in no recipe
    tasks = [task if task in own else recipes.check_task(task) for task in tasks or ()]
    methods = [recipes.check_method(method) for method in methods or ()]
    chosen = [
        series for series in found if (not tasks or series.task in tasks) and (not methods or series.method in methods)
    ]
    if not found:
        raise UserError(f"No run is stored in {results.folder} that could be drawn.")
    if not chosen:
        there = ", ".join(sorted({series.id.rpartition("/")[0] for series in found}))
        raise UserError(f"No stored run is of these tasks and methods; there are {there}.")
    return chosen


@dataclass(frozen=True)
class Line:
    """A series, and how it is drawn."""

    series: Series
    label: str
    color: str
    dash: str

    @property
    def method(self) -> str:
        return self.series.method

    @property
    def records(self) -> tuple[Record, ...]:
        return self.series.records


@dataclass(frozen=True)
class Group:
    """What one figure shows: the runs of a task in one preset."""

    task: str
    task_title: str
    preset: str
    lines: list[Line]

    @property
    def records(self) -> list[Record]:
        return [record for line in self.lines for record in line.records]

    @property
    def stem(self) -> str:
        return self.task if self.preset == PAPER else f"{self.task}-{self.preset}"

    @property
    def title(self) -> str:
        """The task's title, its preset where that is not the paper's, and the number of seeds."""
        preset = "" if self.preset == PAPER else f", {self.preset} preset"
        return f"{self.task_title}{preset} (n = {seeds(len(line.series) for line in self.lines)})"


def group_by_task(found: Sequence[Series], results: Results) -> list[Group]:
    """The series as figures and lines, methods in the order of the paper's tables, the recipe's settings first."""

    def figure(series: Series) -> tuple[str, str]:
        return series.task, series.settings["preset"]

    def place(series: Series) -> tuple[int, str, bool, str]:
        method = series.method
        known = METHODS.index(method) if method in METHODS else len(METHODS)
        return known, method, bool(series.changes), series.id

    ordered = sorted(found, key=lambda series: (figure(series), place(series)))
    return [
        Group(task, results.task_title(task), preset, list(_lines(list(members), results)))
        for (task, preset), members in groupby(ordered, figure)
    ]


def legible(group: Group, results: Results) -> Group:
    """The group, of too many lines only those as in the recipes, with a word. Raises UserError if still too many."""
    if len(group.lines) <= MOST_LINES:
        return group
    own = [line.series for line in group.lines if not line.series.apart]
    if not 0 < len(own) <= MOST_LINES:
        raise UserError(
            f"{group.title} has {len(own) or len(group.lines)} kinds of runs, of which a figure shows "
            f"{MOST_LINES} at most: choose some with --methods or --runs."
        )
    print(
        f"{group.task}: {len(own)} of {len(group.lines)} kinds of runs, those as in the recipes; for others name "
        f"{MOST_LINES} at most with --runs."
    )
    # Styled anew, as if the others were not there.
    return group_by_task(own, results)[0]


def _lines(found: Sequence[Series], results: Results) -> Iterator[Line]:
    """A method looks as everywhere; its variants have the same colour and other dashes."""
    for series, (color, dash) in zip(found, style.looks(series.method for series in found), strict=True):
        yield Line(series, _label(series, results), color, dash)


def _label(series: Series, results: Results) -> str:
    """The method's title and what sets the runs apart from its recipe."""
    method = series.method
    parts = [each.removeprefix(f"{method}.") for each in series.apart]
    return results.names.methods.get(method, method) + (f" ({', '.join(parts)})" if parts else "")


def curves(group: Group, results: Results) -> Figure:
    """What was measured after each epoch: mean over seeds, with a band of one standard deviation."""
    figure = Figure(figsize=(style.PAGE, 5.4), layout="constrained")
    axes = figure.subplots(3, 3)
    legend: dict[str, Artist] = {}
    for axis, panel in zip(axes.flat, PANELS, strict=True):
        if panel is None:
            axis.axis("off")
            continue
        metric = panel.metric
        for line in group.lines:
            epochs = [record.curve(panel.network) for record in line.records]
            style.plot(axis, epochs, metric, line.label, line.color, line.dash)
        axis.set(title=panel.title, xlabel="epoch", ylabel=METRICS[metric].unit)
        if metric.endswith("_loss"):
            style.logarithmic(axis)
        elif metric in ("aligned_error", "model_bias"):  # a few percent that would lie on the axis
            style.from_zero(axis)
        else:
            style.percent(axis)
        style.plain(axis)
        handles, labels = axis.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True)) | legend
    spread = style.spread(len(line.series) for line in group.lines)
    fallen = collapsed(((line.label, line.records) for line in group.lines), LAST, results.rule)
    note = " ".join((_footnote(group), spread, *fallen, *doubts(group.records, results)))
    style.finish(figure, f"{group.title}: after each epoch", legend, note)
    return figure


def _footnote(group: Group) -> str:
    """Whose errors and losses are drawn."""
    own = [line.label for line in group.lines if any(record.has_biased for record in line.records)]
    parts = [f"of the biased model of {', '.join(own)}"] if own else []
    if len(own) < len(group.lines):
        parts.append("of the tested network" + (" of all others" if own else ""))
    return f"* {'; '.join(parts)}."


def tradeoff(group: Group, results: Results) -> Figure:
    """Model bias against average accuracy: a small mark a seed, a large one for their mean, a diamond as published.

    All in the epoch of the rule, or in the last one where no run can be selected by it. A published number belongs to
    the settings of its table's row only, and is joined to what they measured.
    """
    figure = Figure(figsize=(style.COLUMN, 2.8), layout="constrained")
    axis = figure.subplots()
    rule = results.rule if any(record.fairness(results.rule) for record in group.records) else LAST
    for line in group.lines:
        _mark(axis, line, printed(line.series, results), rule)
    axis.set(xlabel="← better     model bias (%)", ylabel="average group accuracy (%)     better →")
    style.plain(axis)
    handles, labels = axis.get_legend_handles_labels()
    legend: dict[str, Artist] = dict(zip(labels, handles, strict=True))
    if any(line.get_marker() == style.DIAMOND for line in axis.lines):
        legend["as published"] = style.PUBLISHED
    several = any(len(line.series) > 1 for line in group.lines)
    note = "Large marks are means over seeds, small ones are seeds. " if several else ""
    note += "Hollow marks are of one seed. " if any(len(line.series) == 1 for line in group.lines) else ""
    if any(record.collapsed(rule) for record in group.records):
        note += f"{COLLAPSED} collapsed. "
    note += " ".join(doubts(group.records, results))
    style.finish(figure, f"{group.title}: bias and accuracy on the test set; {rule.note}", legend, note)
    return figure


def _mark(axis: Axes, line: Line, paper: tuple[float, float] | None, rule: Rule) -> None:
    points = measured(line.series, rule)
    if not len(points):
        return
    mean, color = points.mean(0), line.color
    marker = MARKERS[line.dash]
    if paper:
        axis.plot(*zip(mean, paper, strict=True), color=color, linewidth=0.6, alpha=0.6, zorder=1)
        axis.plot(*paper, style.DIAMOND, markersize=4.5, color=color, markerfacecolor="white")
    if len(points) > 1:
        axis.plot(*points.T, marker, markersize=2.5, color=color, alpha=0.5, markeredgewidth=0)
    axis.plot(
        *mean, marker, markersize=5.5, color=color, markerfacecolor=style.face(len(points), color), label=line.label
    )
    if any(record.collapsed(rule) for record in line.records):
        axis.annotate(COLLAPSED, mean, (0, 3), textcoords="offset points", ha="center")


def measured(series: Series, rule: Rule) -> np.ndarray:
    """Model bias and average accuracy of every seed in the rule's epoch, [k, 2]; seeds without both are left out."""
    found = [record.fairness(rule) for record in series.records]
    points = [(each.get("model_bias"), each.get("avg_acc")) for each in found]
    return np.array([point for point in points if None not in point], dtype=float).reshape(-1, 2)


def printed(series: Series, results: Results) -> tuple[float, float] | None:
    """The paper's model bias and average accuracy of exactly these settings, from the first table that has them."""
    numbers, task = published.numbers(), series.task
    for table in TABLES.values():
        for row in table.rows if task in table.tasks and "model_bias" in table.metrics else ():
            if results.cell(table, row, task).id == series.id:
                bias, accuracy = (numbers.get((table.name, row.key, task, each)) for each in ("model_bias", "avg_acc"))
                if bias is not None and accuracy is not None:
                    return bias, accuracy
    return None


def text(group: Group, results: Results) -> str:
    """A few epochs of each series as numbers, and all of them as a sparkline."""
    shown = preview(group.title, {line.label: line.records for line in group.lines})
    return "\n".join((shown, *doubts(group.records, results)))


if __name__ == "__main__":
    sys.exit(main())
