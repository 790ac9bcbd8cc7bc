"""Figures as pure functions of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmark import metrics
from benchmark.compare import published, verdicts
from benchmark.compare.claims import of_figure
from benchmark.compare.doubts import doubts
from benchmark.metrics import METRICS
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.table import Figure, Panel, Row, Table
from benchmark.report import style
from benchmark.report.notes import marks, seeds, seeds_of
from benchmark.report.style import COLUMN, PAGE, PUBLISHED, finish, look, looks, percent, plain, plot, save, spread
from benchmark.rules import LAST, Rule
from benchmark.store.record import Entry, Record
from benchmark.store.results import Results, Series

# Metric, title and network of each panel of a table's curves.
PANELS: tuple[tuple[str, str, Literal["target", "biased"]], ...] = (
    ("avg_acc", "Test", "target"),
    ("model_bias", "Test", "target"),
    ("bias_acc", "Training, biased model", "biased"),
)
BIASED_MODELS = {row.method for row in (*TABLES["3"].rows, *FIGURES["2"].rows)}
"""Methods that train what Table 3 and Figure 2 take for a biased model."""
MOST_COLUMNS = 4  # of panels beside each other
X_TITLES = {
    "epoch": "epoch",
    "balance": "α, conflicting per aligned sample",
    "poisoner.gamma": "γ",
    "poisoner.percentile": "p (%)",
    "poisoner.conflict_factor": "λ",
}
LOGARITHMIC = ("balance", "poisoner.percentile")


def write_curves(table: Table, results: Results) -> list[Path]:
    """Per-epoch curves of all methods, one figure for each task with records: figures/<stem>-<task>.png, .pdf.

    The third panel shows methods with a biased model of their own, and those that the paper takes for one. A table
    without accuracies, such as Table 3, has no figure of its own: those of the others show its biased models. Nor has
    one of more rows than can be told apart.
    """
    written: list[Path] = []
    if not has_curves(table):
        return written
    for task in table.tasks:
        if results.measured(table, task):
            written += save(curves(table, results, task), results.folder / "figures" / table.stem_on(task))
    return written


def has_curves(table: Table) -> bool:
    """Whether the curves of the table's methods are drawn."""
    return "avg_acc" in table.metrics and len(table.rows) <= style.MOST_LINES


def curves(table: Table, results: Results, task: str) -> Drawing:
    """The figure of one task: mean over seeds, with a band of one standard deviation where there are several."""
    found = {row.key: results.cell(table, row, task) for row in table.rows}
    lines = {
        metric: [
            [record.curve(network) for record in found[row.key].records]
            if metric != "bias_acc" or _has_biased_model(row.method, found[row.key].records)
            else []
            for row in table.rows
        ]
        for metric, _, network in PANELS
    }
    panels = [each for each in PANELS if any(_measured(each[0], of_row) for of_row in lines[each[0]])]
    panels = panels or [PANELS[0]]  # empty, where no record has any of these curves
    drawing = Drawing(figsize=(PAGE, 2.1), layout="constrained")
    grid = drawing.subplots(1, len(panels), squeeze=False)
    entries: dict[str, Artist] = {}
    for axes, (metric, title, _) in zip(grid.flat, panels, strict=True):
        chosen = looks(row.method for row in table.rows)
        for row, (colour, dash), of_row in zip(table.rows, chosen, lines[metric], strict=True):
            plot(axes, of_row, metric, results.marked_title(row), colour, dash)
        axes.set(title=title, xlabel="epoch", ylabel=METRICS[metric].panel)
        _scale(axes, [metric])
        plain(axes)
        entries |= _entries(axes) | entries
    measured = ", ".join(filter(None, (f"n = {seeds(map(len, found.values()))}", table.modified)))
    warned = doubts((record for series in found.values() for record in series.records), results)
    rows = [(results.row_title(row), found[row.key].records) for row in table.rows]
    note = " ".join(
        (
            spread(map(len, found.values())),
            *marks("".join(results.mark(row.method) for row in table.rows)),
            *_scored(record for _, records in rows for record in records),
            *collapsed(rows, LAST, results.rule),
            *warned,
        )
    )
    finish(drawing, f"{results.task_title(task)}, after each epoch ({measured})", entries, note)
    return drawing


def collapsed(rows: Iterable[tuple[str, Sequence[Record]]], *rules: Rule) -> list[str]:
    """A sentence that names the rows, by their titles, of which any run collapsed in the epoch of any of the rules."""
    titles = dict.fromkeys(
        title for title, records in rows if any(each.collapsed(rule) for each in records for rule in rules)
    )
    where = " or ".join(dict.fromkeys(rule.title for rule in rules))
    return [f"Some or all runs collapsed ({where}): {', '.join(titles)}."] if titles else []


def _scored(records: Iterable[Record]) -> list[str]:
    """A sentence for data whose average accuracy leaves groups out."""
    for groups in (record.groups for record in records):
        if groups.scored is not None:
            scored = np.asarray(groups.scored)
            conflicting = ~metrics.aligned_mask(scored.shape, np.asarray(groups.aligned_bias))
            which = ", the conflicting ones" if np.array_equal(scored, conflicting) else ""
            return [f"The average accuracy is that of {scored.sum()} of {scored.size} groups{which}."]
    return []


def _has_biased_model(method: str, records: Sequence[Record]) -> bool:
    return method in BIASED_MODELS or any(record.has_biased for record in records)


def _measured(metric: str, lines: Sequence[Sequence[Entry]]) -> bool:
    """Whether a metric was measured after the epochs of these curves."""
    return any(entry.get(metric) is not None for line in lines for entry in line)


def _entries(axes: Axes) -> dict[str, Artist]:
    """What a legend shows of the axes, by its label."""
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def _scale(axes: Axes, chosen: Sequence[str]) -> None:
    """Percent of which 100 is the aim on their whole scale, all others from 0."""
    if any(METRICS[metric].unit == "%" and metric != "model_bias" for metric in chosen):
        percent(axes)
    else:
        style.from_zero(axes)


@dataclass(frozen=True)
class Part:
    """A panel of a figure on one task, with what is stored of its rows."""

    figure: Figure
    panel: Panel
    task: str
    found: Mapping[str, Series]

    def lacks(self, rule: Rule) -> str:
        """Why there is nothing to draw, or nothing."""
        if not any(map(len, self.found.values())):
            return "not measured" if self.panel.rows else NEEDS_BIAS
        if self.panel.x == "epoch":
            there = any(
                _measured(metric, [record.curve(self.panel.network) for record in series.records])
                for series in self.found.values()
                for metric in self.panel.metrics
            )
        else:
            records = [record for series in self.found.values() for record in series.records]
            there = any(len(finals(records, metric, rule)) for metric in self.panel.metrics)
            if not there and {*self.panel.metrics} & {*metrics.FAIRNESS}:
                return next(filter(None, (each.why_not(rule) for each in records)), NEEDS_GROUPS)
        return "" if there else NEEDS_BIAS


NEEDS_BIAS = "needs the bias of training images"
NEEDS_GROUPS = "needs test images of each class with several values of the bias"


def parts(figure: Figure, results: Results) -> list[Part]:
    """The panels of a figure on each of its tasks, row by row."""
    return [
        Part(figure, panel, task, {row.key: results.cell(figure, row, task) for row in panel.rows})
        for task in figure.tasks
        for panel in figure.panels
    ]


def write_figure(figure: Figure, results: Results) -> list[Path]:
    """Draw one of the paper's figures to figures/<stem>.png and .pdf; without records there is none, nor an old one."""
    stem = results.folder / "figures" / results.name(figure.stem)
    if has_panels(figure, results):
        return save(draw(figure, results), stem)
    style.remove(stem)
    return []


def has_panels(figure: Figure, results: Results) -> bool:
    """Whether anything of the figure is measured, so that it is drawn."""
    return any(not part.lacks(results.rule) for part in parts(figure, results))


def caption(figure: Figure, results: Results) -> str:
    """What the figure shows, on what, from how many seeds, what the paper reads from it, and what came out."""
    return f"{subject(figure, results)} {reading(figure, results)}"


def subject(figure: Figure, results: Results) -> str:
    """What the figure shows, on what, and from how many seeds."""
    tasks = " and ".join(map(results.task_title, figure.tasks))
    originals = " and ".join(map(results.task_title, figure.own_tasks))
    where = "of" if {*figure.tasks} < {*figure.own_tasks} else "in place of"
    instead = f", {where} the paper's {originals}" if figure.stand_in else ""
    modified = f"; {figure.modified}" if figure.modified else ""
    tested = any({*panel.metrics} & {*metrics.FAIRNESS} for panel in figure.panels)
    chosen = f"; numbers of the test of the {results.rule.note}" if tested else ""
    measured = f"n = {seeds_of(figure, results)}{modified}{chosen}"
    return f"{figure.title}. {tasks}{instead} ({measured})."


def reading(figure: Figure, results: Results) -> str:
    """What the paper reads from the figure, what came out of it here, what is doubtful, and what is not drawn."""
    said = [f"The paper's claim: {figure.claim}", *_outcomes(figure, results)]
    missing: dict[str, list[str]] = {}
    all_parts = parts(figure, results)
    for part in all_parts:
        if why := part.lacks(results.rule):
            missing.setdefault(why, []).append(_name(part, results))
    swept = (
        (f"{results.row_title(row)} at {position(part.panel.x, records[0]):g}", records)
        for part in all_parts
        for row in part.panel.rows
        if part.panel.x != "epoch" and (records := part.found[row.key].records)
    )
    said += collapsed(swept, results.rule)
    found = (series for part in all_parts for series in part.found.values())
    said += doubts((record for series in found for record in series.records), results)
    for why, names in missing.items():
        which = "Nothing is drawn" if len(names) == len(all_parts) else f"Not drawn: {'; '.join(names)}"
        said.append(f"{which}: {why}." if names else "")
    return " ".join(said)


def _name(part: Part, results: Results) -> str:
    """A panel by its title, its task, or both where there are several of both."""
    several = len(part.figure.tasks) > 1 or not part.panel.title
    return ", ".join(filter(None, (part.panel.title, results.task_title(part.task) if several else "")))


def _outcomes(figure: Figure, results: Results) -> Iterator[str]:
    """The verdicts on what the paper reads from the figure, the claims of each verdict after one another."""
    if figure.overrides:
        return  # verdicts are of runs as in the recipes
    for task in figure.tasks:
        found: dict[str, list[str]] = {}
        for claim in of_figure(figure.number):
            verdict = verdicts.decide(claim, task, figure.preset, results)["verdict"]
            if verdict != verdicts.MISSING:
                found.setdefault(verdict, []).append(claim.sentence)
        for verdict, sentences in found.items():
            yield f"{verdict.capitalize()} on {results.task_title(task)}: {' '.join(sentences)}"


def draw(figure: Figure, results: Results) -> Drawing:
    """The figure: those of its panels that are measured, for each task."""
    shown = [part for part in parts(figure, results) if not part.lacks(results.rule)]
    columns = min(len(shown), MOST_COLUMNS, len(figure.panels) if len(figure.panels) > 1 else len(figure.tasks))
    rows = -(-len(shown) // columns)
    width = PAGE if columns > 1 else COLUMN
    drawing = Drawing(figsize=(width, 2.1 * rows), layout="constrained")
    grid = drawing.subplots(rows, columns, squeeze=False)
    entries, published_too = dict[str, Artist](), dict[str, Artist]()
    for axes, part in zip(grid.flat, shown, strict=False):
        panel = part.panel
        if panel.x == "epoch":
            _draw_curves(axes, part, results)
        else:
            _draw_sweep(axes, part, results, width / columns)
        if len(own := _entries(axes)) > 1:  # a single line is named by its axis
            entries |= own | entries
        if any(line.get_marker() == style.DIAMOND for line in axes.lines):
            published_too["as published"] = PUBLISHED
        if part.task in figure.own_tasks:
            for x, y, text in panel.marks:
                style.published(axes, x, y, style.PAPER)
                published_too[text] = PUBLISHED
        title = _name(part, results) if len(shown) > 1 else panel.title
        axes.set_title("\n".join(style.wrap(title, width / columns - 0.3)))
        axes.set(xlabel=X_TITLES[panel.x], ylabel=_unit(panel))
        plain(axes)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    note = f"{reading(figure, results)} {spread(len(series) for part in shown for series in part.found.values())}"
    finish(drawing, f"{figure.heading}: {subject(figure, results)}", entries | published_too, note)
    return drawing


def _unit(panel: Panel) -> str:
    """What the y-axis counts: the panel's one metric, or what its metrics have in common."""
    if len(panel.metrics) == 1:
        return METRICS[panel.metrics[0]].label
    first = METRICS[panel.metrics[0]]
    if _of_one_kind(panel):
        return f"training {first.axis.split()[0]} ({first.unit})"
    return f"{'test' if panel.metrics[0] in metrics.FAIRNESS else 'training'} images ({first.unit})"


def _of_one_kind(panel: Panel) -> bool:
    """Whether all metrics are the errors, or the losses, on aligned and conflicting samples."""
    return len({METRICS[metric].axis.split()[0] for metric in panel.metrics}) == 1


def _draw_curves(axes: Axes, part: Part, results: Results) -> None:
    """Metrics by colour, rows by dashes."""
    panel = part.panel
    for row, dash in zip(panel.rows, ("-", "--", ":", "-."), strict=False):
        lines = [record.curve(panel.network) for record in part.found[row.key].records]
        for metric in panel.metrics:
            name, colour = METRICS[metric].axis, METRICS[metric].colour
            if _of_one_kind(panel):
                name = f"{name.split()[-1]} samples"
            label = f"{results.row_title(row)}: {name}" if len(panel.rows) > 1 else name
            plot(axes, lines, metric, label, colour, dash)
    _scale(axes, panel.metrics)


def _draw_sweep(axes: Axes, part: Part, results: Results, width: float) -> None:
    """A line through the points of each method and metric, and beside them what the paper prints."""
    panel, found = part.panel, part.found
    methods = list(dict.fromkeys(row.method for row in panel.rows))
    for method in methods:
        rows = [row for row in panel.rows if row.method == method and len(found[row.key])]
        points = sorted(((position(panel.x, found[row.key].records[0]), row) for row in rows), key=lambda each: each[0])
        if not points:
            continue
        for metric in panel.metrics:
            name, colour, dash = METRICS[metric].axis, METRICS[metric].colour, "-"
            if len(methods) > 1:
                name, (colour, dash) = results.row_title(points[0][1]), look(method)
            values = [finals(found[row.key].records, metric, results.rule) for _, row in points]
            drawn = [(*point, each) for point, each in zip(points, values, strict=True) if len(each)]
            if drawn:
                x, mean = [place for place, *_ in drawn], [each.mean() for *_, each in drawn]
                axes.plot(x, mean, color=colour, linestyle=dash, label=name)
            for place, row, each in drawn:
                deviation = each.std(ddof=1) if len(each) > 1 else None
                axes.errorbar(
                    place, each.mean(), deviation, color=colour, marker="o", capsize=2, linewidth=0.8,
                    markerfacecolor=style.face(len(each), colour),
                )  # fmt: skip
                if (value := printed_value(row, part.task, metric)) is not None:
                    style.published(axes, place, value, colour)
    ticks = sorted({position(panel.x, each.records[0]) for each in found.values() if len(each)})
    if panel.x in LOGARITHMIC:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.margins(x=0.08)
    axes.set_xticks(ticks, _labels(axes, ticks, width))
    _scale(axes, panel.metrics)


def _labels(axes: Axes, ticks: Sequence[float], width: float) -> list[str]:
    """The numbers at ticks, of which those are left out that would run into the next one."""
    places = axes.transAxes.inverted().transform(axes.transData.transform([(tick, 0) for tick in ticks]))[:, 0]
    kept, labels = np.inf, []
    for tick, place in zip(reversed(ticks), reversed(places * (width - 0.6)), strict=True):
        fits = kept - place > 0.3
        kept = place if fits else kept
        labels.append(f"{round(tick, 2):g}" if fits else "")
    return labels[::-1]


def position(x: str, record: Record) -> float:
    """Where a record stands on a sweep's axis."""
    if x == "balance":
        total = np.asarray(record.groups.train)
        aligned = metrics.aligned_mask(total.shape, np.asarray(record.groups.aligned_bias))
        return total[~aligned].sum() / total[aligned].sum()
    return record.settings["options"][x.partition(".")[2]]


def finals(records: Sequence[Record], metric: str, rule: Rule) -> np.ndarray:
    """The metric of each seed that has it: of test images in the epoch that the rule chooses, of training ones at the
    end.
    """
    values = (
        record.bias_accuracy()
        if metric == "bias_acc"
        else (record.fairness(rule) | record.identification()).get(metric)
        for record in records
    )
    return np.array([value for value in values if value is not None])


def printed_value(row: Row, task: str, metric: str) -> float | None:
    """What the paper prints of a point, or None."""
    values = (published.numbers().get((table, method, task, metric)) for table, method in row.published)
    return next((value for value in values if value is not None), None)
