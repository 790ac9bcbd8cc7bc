"""Curves as text: numbers of a few epochs and a sparkline of all, of stored runs and of those in progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from rich.live import Live
from rich.text import Text
from tabulate import tabulate

from benchmark.collect import collect
from benchmark.errors import UserError
from benchmark.metrics import METRICS
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import PAPER
from benchmark.store import logs
from benchmark.store.logs import Line
from benchmark.store.record import Entry, epochs_of
from benchmark.store.results import Results
from benchmark.store.status import looking
from benchmark.store.store import Store
from benchmark.terminal.output import Output, sparkline

SHORTEST, LONGEST = 8, 30  # sparklines, in characters
SECONDS = 2.0  # between two looks at the logs
Network = Literal["target", "biased"]


@dataclass(frozen=True)
class Panel:
    """A metric after each epoch, of one of the networks."""

    metric: str
    title: str
    network: Network


def on_test(metric: str) -> Panel:
    return Panel(metric, f"Test: {METRICS[metric].axis} {METRICS[metric].arrow}", "target")


def on_training(metric: str) -> Panel:
    return Panel(metric, f"Training*: {METRICS[metric].axis}", "biased")


PREVIEWED = on_test("avg_acc"), on_test("model_bias"), on_training("bias_acc")


class Measured(Protocol):
    """A run, stored or in progress."""

    def curve(self, network: Network) -> list[Entry]: ...


def preview(title: str, lines: Mapping[str, Sequence[Measured]], width: int = 120) -> str:
    """Means over the runs of each line, by its label: of a few epochs, and of all as a sparkline from 0 to 100.

    What has no room on so many columns is a shorter sparkline.
    """
    parts = [title]
    for panel in PREVIEWED:
        means = {
            label: _mean([run.curve(panel.network) for run in runs], panel.metric) for label, runs in lines.items()
        }
        measured = sorted({epoch for mean in means.values() for epoch in mean})
        wanted = 1, 2, *(round(max(measured, default=0) * share) for share in (0.25, 0.5, 0.75, 1))
        epochs = sorted({_nearest(measured, each) for each in wanted}) if measured else []
        room = width - max(map(len, (panel.title, *means))) - 7 * len(epochs) - 2
        rows = [
            [
                label,
                *(f"{mean[epoch]:.1f}" if epoch in mean else "" for epoch in epochs),
                sparkline([*mean.values()], max(SHORTEST, min(LONGEST, room))),
            ]
            for label, mean in means.items()
            if mean
        ]
        head = [panel.title.replace("*", ""), *map(str, epochs), "0 to 100"]
        align = ["left", *["right"] * len(epochs), "left"]
        if rows:
            parts.append(tabulate(rows, head, tablefmt="simple", disable_numparse=True, colalign=align))
    return "\n\n".join(parts) + "\n"


def _nearest(measured: Sequence[int], epoch: int) -> int:
    return min(measured, key=lambda each: abs(each - epoch))


def _mean(lines: Sequence[list[Entry]], metric: str) -> dict[int, float]:
    """Mean over the seeds' curves by the epochs that all have; empty where the metric was not measured."""
    length = min(map(len, lines))
    values = np.array([[entry.get(metric) for entry in line[:length]] for line in lines], dtype=float)
    known = np.isfinite(values).all()
    return dict(zip(epochs_of(lines[0][:length]), values.mean(0).tolist(), strict=True)) if known else {}


@dataclass(frozen=True)
class InProgress:
    """A run that is trained now, as its log tells."""

    id: str
    lines: Sequence[Line]

    @property
    def task(self) -> str:
        return self.id.split("/")[0]

    @property
    def method(self) -> str:
        return self.id.split("/")[1]

    @property
    def seed(self) -> str:
        return self.id.rpartition("-s")[2]

    def curve(self, network: Network) -> list[Entry]:
        """As ``Record.curve``; the biased network of plain training is the target."""
        role = network if any(each.biased for each in self.lines) else "target"
        return [{"epoch": each.epoch, **getattr(each, role)} for each in self.lines if getattr(each, role)]


def in_progress(
    store: Store, beginnings: Sequence[str], tasks: Sequence[str], methods: Sequence[str]
) -> list[InProgress]:
    """The runs in progress that write a log, whose ids begin so, of these tasks and methods, or of all."""
    look, folder, found = looking(store, {}), logs.folder(store.folder), []
    for path in sorted(folder.glob("*/*/*.jsonl")):
        run = InProgress(path.relative_to(folder).as_posix().removesuffix(".jsonl"), ())
        wanted = (not tasks or run.task in tasks) and (not methods or run.method in methods)
        if wanted and run.id.startswith(tuple(beginnings)) and look(run.id)[0] == "running":
            found.append(InProgress(run.id, logs.read(store.folder, run.id)))
    return [run for run in found if run.lines]


def watch(
    store: Store, recipes: Recipes, beginnings: Sequence[str], tasks: Sequence[str], methods: Sequence[str]
) -> None:
    """Show the curves of runs in progress, above those that are stored of their tasks, until Ctrl-C.

    Raises UserError where there is no terminal to show them on.
    """
    output = Output()
    if not output.is_terminal:
        raise UserError("--live redraws a terminal, which this is not: use --text.")
    results, known = collect(store, recipes), set[str]()
    try:
        with Live(console=output, auto_refresh=False) as live:
            while True:
                running = in_progress(store, beginnings, tasks, methods)
                ids = {run.id for run in running}
                if known - ids:  # of which one may be stored now
                    results = collect(store, recipes)
                known = ids
                live.update(
                    Text("\n".join(pictures(running, results, methods, output.width)), no_wrap=True), refresh=True
                )
                time.sleep(SECONDS)
    except KeyboardInterrupt:
        pass


def pictures(running: Sequence[InProgress], results: Results, methods: Sequence[str], width: int) -> Iterator[str]:
    """A text for each task of a run in progress; of what is stored that as in the recipes."""
    if not running:
        yield "No run in progress writes a log: train with --log jsonl."
    titles = results.names.methods
    for task in dict.fromkeys(run.task for run in running):
        lines: dict[str, Sequence[Measured]] = {}
        for run in (run for run in running if run.task == task):
            last = run.lines[-1]
            lines[f"▸ {titles.get(run.method, run.method)} seed {run.seed}, {last.done}/{last.total}"] = [run]
        for series in results.series.values():
            wanted = series.task == task and (not methods or series.method in methods)
            if wanted and series.records and not series.apart:
                preset = series.settings["preset"]
                label = titles.get(series.method, series.method) + ("" if preset == PAPER else f", {preset} preset")
                lines[f"{label} (n = {len(series)})"] = series.records
        yield preview(results.task_title(task), lines, width)
