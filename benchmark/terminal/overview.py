"""What ``--status`` and ``--list`` show: how runs stand, one run in progress, and what can be asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

import networks
from benchmark.errors import UserError
from benchmark.metrics import METRICS
from benchmark.plan.ours import OURS
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.recipes import Recipes
from benchmark.plan.run import Settings
from benchmark.plan.uses import WORDS, told
from benchmark.store import leases, logs
from benchmark.store.leases import Epoch
from benchmark.store.record import Record, numbers
from benchmark.store.status import Condition, Job, Status, counts, looking
from benchmark.store.store import Store
from benchmark.terminal import display
from benchmark.terminal.display import SHOWN, duration
from benchmark.terminal.output import Column, Grid, Output, hanging, sparkline

# What stands beside done/asked in a cell, and the colour of each condition.
MARKS: dict[Condition, str] = {"running": "▸", "failed": "✗", "waiting": "…", "stale": "~"}
STYLES: dict[Condition, str] = {
    "done": "green", "stale": "magenta", "running": "cyan", "waiting": "yellow", "failed": "red", "missing": "dim",
}  # fmt: skip
NAMED = 6  # runs, where one is to be chosen
# In this order runs are told one by one; of those that are done or missing, the matrix says enough.
TOLD: tuple[Condition, ...] = ("failed", "running", "waiting", "stale", "missing")


def print_status(tables: Sequence[tuple[str, Sequence[Status]]]) -> None:
    """Print for every table, by its heading, how many seeds are done, then what there is to say of single runs."""
    output = Output()
    for heading, statuses in tables:
        output.print(Text(f"{heading}: {counts(statuses)}", "bold"), soft_wrap=True)
        output.print(Padding(_matrix(statuses), (0, 0, 0, 2)))
    every = {each.run.id: each for _, statuses in tables for each in statuses}
    marks = [f"{MARKS[each]} {each}" for each in MARKS if any(each == one.condition for one in every.values())]
    output.print(Text("  ".join(("  done/asked", *marks)), "dim"))
    for line, note in _told(every.values()):
        if output.is_terminal:
            output.print(hanging(line, Text(note)))
        else:  # a line a run, to be searched
            output.print(Text.assemble(line, "  ", note), soft_wrap=True)


def _matrix(statuses: Sequence[Status]) -> Grid:
    """Methods by tasks: done of asked seeds, and how many are on the way or were lost."""
    cells: dict[tuple[str, str], list[Condition]] = {}
    for each in statuses:
        cells.setdefault((each.run.method, each.run.task), []).append(each.condition)
    methods, tasks = (list(dict.fromkeys(name[place] for name in cells)) for place in (0, 1))
    columns = [
        Column(
            Text(task.replace("_", "_\n")), [_cell(cells.get((method, task), ())) for method in methods], right=False
        )
        for task in tasks
    ]
    return Grid([Column(Text("method"), list(map(Text, methods)), right=False), *columns])


def _cell(conditions: Sequence[Condition]) -> Text:
    if not conditions:
        return Text()
    number = Counter(conditions)
    done = number["done"] + number["stale"]
    style = STYLES["done"] if number["done"] == len(conditions) else "" if done else STYLES["missing"]
    marks = [(f" {mark}{number[each]}", STYLES[each]) for each, mark in MARKS.items() if number[each]]
    return Text.assemble((f"{done}/{len(conditions)}", style), *marks)


def _told(statuses: Iterable[Status]) -> Iterator[tuple[Text, str]]:
    """The runs of which there is more to say: by their ids where several have one name, like points of a search.

    Those that wait are counted by their jobs.
    """
    statuses = list(statuses)
    alike = Counter(str(each.run) for each in statuses)
    waiting = Counter(each.note.split("_")[0] for each in statuses if each.condition == "waiting")
    for condition in TOLD:
        for job, number in waiting.items() if condition == "waiting" else ():
            yield Text.assemble(("waiting ", STYLES[condition]), f" {number} run{'s' * (number > 1)}"), job
        for each in statuses:
            if each.condition == condition != "waiting" and each.note:
                name = each.run.id if alike[str(each.run)] > 1 else str(each.run)
                yield Text.assemble((f"{condition:8}", STYLES[condition]), f" {name}"), each.note


def print_runs(part: str, store: Store, jobs: Mapping[str, Job]) -> None:
    """Print how the run called so stands, with its last epochs; where several are, those that are running.

    Raises UserError where none is called so, or several are and none is running.
    """
    look = looking(store, jobs)
    found = {run: look(run) for run in store.begun(part)}
    running = {run: each for run, each in found.items() if each[0] == "running"}
    if len(found) > 1 and not running:
        listed = [f"{run} ({condition})" for run, (condition, _) in found.items()]
        shown = ", ".join([*listed[:NAMED], *(["..."] if len(listed) > NAMED else [])])
        raise UserError(f"{len(listed)} runs are called '{part}', and none is running: {shown}: name one.")
    output = Output()
    for run, (condition, note) in (running or found).items():
        output.print(Text.assemble((condition, STYLES[condition]), f" {run}"), soft_wrap=True)
        output.print(Padding(Group(*_of_run(run, condition, note, store)), (0, 0, 0, 2)))


def _of_run(run: str, condition: Condition, note: str, store: Store) -> Iterator[RenderableType]:
    if note:
        yield Text(note, overflow="fold")
    path = store.record_path(run)
    epochs = [
        Epoch(each.phase, each.epoch, each.loss, display.told(each.target, each.biased), 0.0)
        for each in logs.read(store.folder, run)
    ]
    if record := store.read(run):
        epochs = list(_recorded(record))
    elif condition == "running" and (holder := leases.newest(path)) and (owner := holder.owner):
        if len(epochs) < owner.done:  # a log of an earlier life
            epochs = list(owner.last)
        if owner.pace:
            left = owner.pace * (owner.total - max(owner.done, len(epochs)))
            pace = f"{owner.pace:.2g} s" if owner.pace < 10 else duration(owner.pace)
            yield Text(f"{pace} an epoch, {duration(left)} left")
    if trace := store.failure(run).get("trace"):
        yield Text(str(trace).rstrip(), "dim", overflow="fold")
    if epochs:
        yield _table(epochs[-leases.LAST :])
        for metric in SHOWN:
            curve = [each.metrics[metric] for each in epochs if metric in each.metrics]
            if len(curve) > 1:
                yield Text(f"{METRICS[metric].head:9} {sparkline(curve, 30)}  0 to 100, {len(curve)} epochs")
    elif condition == "running":
        yield Text("It has told of no epoch yet; it does so every ten seconds.")


def _table(epochs: Sequence[Epoch]) -> Grid:
    shown = [metric for metric in SHOWN if any(metric in each.metrics for each in epochs)]

    def column(head: str, cells: Iterable[str], right: bool = True) -> Column:
        return Column(Text(head), list(map(Text, cells)), right)

    return Grid(
        [
            column("phase", (each.phase for each in epochs), right=False),
            column("epoch", (str(each.epoch) for each in epochs)),
            column("loss", (f"{each.loss:.4g}" for each in epochs)),
            *(
                column(
                    METRICS[metric].head,
                    (f"{each.metrics[metric]:.1f}" if metric in each.metrics else "" for each in epochs),
                )
                for metric in shown
            ),
        ]
    )


def _recorded(record: Record) -> Iterator[Epoch]:
    """The epochs of a finished run."""
    for phase in record.phases:
        measured = [
            {name: numbers(each) for name, each in curves.measured.items()} if curves else {}
            for curves in (phase.target, phase.biased)
        ]
        for place, loss in enumerate(phase.loss.tolist()):
            target, biased = ({name: values[place] for name, values in each.items()} for each in measured)
            yield Epoch(phase.name, place + 1, loss, display.told(target, biased), 0.0)


def print_listing(recipes: Recipes) -> None:
    """Print everything that can be asked for, with the settings of tasks and methods."""
    output = Output()

    def heading(text: str) -> None:
        output.print(Text(text, "bold"))

    def item(name: str, text: str, more: str = "") -> None:
        output.print(Padding(hanging(Text(name, "cyan"), Text(text)), (0, 0, 0, 2)))
        if more:
            output.print(Padding(Text(more, "dim", overflow="fold"), (0, 0, 0, 4)))

    heading("Tables")
    for name, table in (TABLES | OURS).items():
        item(name, table.title, ", ".join(table.tasks))
    heading("Figures")
    for name, figure in FIGURES.items():
        item(name, figure.title, ", ".join(figure.tasks))
    settings = {task: _flat(recipes.task_settings(task)) for task in recipes.tasks}
    first, *others = settings.values()
    common = {key: value for key, value in first.items() if all(key in each and each[key] == value for each in others)}
    heading("Tasks")
    item("every task", "", _listed(common))
    for task in recipes.tasks:
        own = {key: value for key, value in settings[task].items() if key not in common}
        presets = ", ".join(recipes.presets(task))
        item(task, f"{recipes.task_title(task)}; presets: {presets}", _listed(own))
    heading("Methods")
    for method in recipes.methods:
        words = " and ".join(WORDS[each] for each in told(recipes.uses(method)))
        options = {f"{method}.{key}": value for key, value in recipes.options(method).items()}
        item(method, f"{recipes.method_title(method)}{f' (uses {words})' if words else ''}", _listed(options))
    heading("Networks")
    more = " ".join(sorted(networks.library("torchvision")))
    item(", ".join(networks.own()), "")
    item("timm/MODEL", "every model of timm")
    item("of torchvision", "", more)


def _flat(settings: Settings) -> Settings:
    return settings | {f"data.{key}": value for key, value in settings.pop("data").items()}


def _listed(settings: Settings) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())
