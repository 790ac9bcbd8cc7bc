"""The paper's figures as numbers, for the page's script to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmark.metrics import METRICS
from benchmark.plan.table import Figure, Panel, Table
from benchmark.report import figures, style
from benchmark.report.page_records import CURVES
from benchmark.report.page_tables import anchor, command
from benchmark.report.words import Context
from benchmark.store.record import NETWORKS
from benchmark.store.results import Results


def drawn(shown: Sequence[Table], under: Mapping[str, Results], series: Mapping[str, int]) -> Iterator[Context]:
    """Every figure that has any record: what it says, and its panels."""
    results = next(iter(under.values()))
    for figure in shown:
        if isinstance(figure, Figure) and any(results.measured(figure, task) for task in figure.tasks):
            whole = all(len(results.cell(figure, row, task)) for task in figure.tasks for row in figure.rows)
            yield {
                "id": anchor(figure.stem),
                "preset": figure.preset,
                "heading": figure.heading,
                "title": figure.title,
                "on": " and ".join(map(results.task_title, figure.tasks)),
                "captions": {name: figures.caption(figure, each) for name, each in under.items()},
                "command": "" if whole else command(figure, figure.tasks, [], results),
                "panels": [
                    _panel(figure, panel, task, under, series) for task in figure.tasks for panel in figure.panels
                ],
            }


def _panel(figure: Figure, panel: Panel, task: str, under: Mapping[str, Results], series: Mapping[str, int]) -> Context:
    results = next(iter(under.values()))
    title = panel.title if len(figure.tasks) == 1 else " – ".join(filter(None, (panel.title, results.task_title(task))))
    context: Context = {"title": title, "x": figures.X_TITLES[panel.x]}
    found = {row.key: results.cell(figure, row, task) for row in panel.rows}
    if panel.x == "epoch":
        dashes = dict(zip(found, style.DASHES, strict=False))
        return context | {
            "marks": panel.marks if task in figure.own_tasks else [],
            "curves": [
                [
                    series[found[row.key].id],
                    NETWORKS.index(panel.network),
                    CURVES.index(metric),
                    ": ".join([results.row_title(row)] * (len(panel.rows) > 1) + [METRICS[metric].axis]),
                    METRICS[metric].colour,
                    dashes[row.key],
                ]
                for row in panel.rows
                if len(found[row.key])
                for metric in panel.metrics
            ],
        }
    return context | {
        "log": panel.x in figures.LOGARITHMIC,
        "sweeps": {name: list(_sweep(figure, panel, task, each)) for name, each in under.items()},
    }


def _sweep(figure: Figure, panel: Panel, task: str, results: Results) -> Iterator[list[object]]:
    """A line for each method and metric: name, colour, dash, and its points [x, mean, deviation, seeds, paper's]."""
    found = {row.key: results.cell(figure, row, task).records for row in panel.rows}
    methods = list(dict.fromkeys(row.method for row in panel.rows if found[row.key]))
    for method in methods:
        rows = [row for row in panel.rows if row.method == method and found[row.key]]
        for metric in panel.metrics:
            name, (colour, dash) = METRICS[metric].axis, (METRICS[metric].colour, "-")
            if len({row.method for row in panel.rows}) > 1:
                name, (colour, dash) = results.row_title(rows[0]), style.look(method)
            points: list[tuple[float, float, float, int, float | None]] = []
            for row in rows:
                values = figures.finals(found[row.key], metric, results.rule)
                if len(values):
                    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                    x = float(figures.position(panel.x, found[row.key][0]))
                    printed = figures.printed_value(row, task, metric)
                    points.append((x, round(float(values.mean()), 2), round(spread, 2), len(values), printed))
            if points:
                yield [name, colour, dash, sorted(points, key=lambda point: point[0])]
