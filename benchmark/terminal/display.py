"""What is shown of trainings in progress: a live display on a terminal, and sparse lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, NamedTuple, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmark.metrics import METRICS
from benchmark.terminal.output import hanging

NARROW = 60  # columns
MINUTE = 60.0  # at most one line of a log in so many seconds, beside one a run
SHOWN = ("avg_acc", "model_bias", "worst_acc", "bias_acc")
MARKS = {"done": ("✓", "green"), "failed": ("✗", "red"), "elsewhere": ("–", "dim")}


def told(target: Mapping[str, float | None], biased: Mapping[str, float | None]) -> dict[str, float]:
    """What is shown of an epoch's metrics: the target's, and Bias Accuracy of the biased network that is trained beside
    it; those of one of them where the other is not trained.
    """
    known = {**(target or biased), **({"bias_acc": biased.get("bias_acc")} if biased else {})}
    return {name: value for name, value in known.items() if value is not None}


class Event(NamedTuple):
    """What a worker tells of runs that it trains, by their ids: that an epoch of theirs is over, or all are.

    A ``note`` is a sentence, of runs or of none. ``done`` of ``total`` epochs are over, in ``seconds``; ``metrics`` are
    of the last one that was measured.
    """

    kind: Literal["epoch", "ended", "note"]
    runs: tuple[str, ...]
    title: str
    text: str = ""
    done: int = 0
    total: int = 0
    metrics: Mapping[str, float] = {}
    outcome: str = ""
    seconds: float = 0.0


Tell = Callable[[Event], None]


class Display(Protocol):
    """Shows events from the beginning of its context to the end."""

    def tell(self, event: Event) -> None: ...


def display(runs: int, console: Console | None = None) -> AbstractContextManager[Display]:
    """A display of so many runs, on the terminal where there is one."""
    console = console or Console(highlight=False)
    live = console.is_terminal and not console.is_dumb_terminal  # which cannot go back to what it has shown
    return LiveDisplay(runs, console) if live else Log(runs, console)


class Tally:
    """How far so many runs have come, all counting alike; what does not change once it was told."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.ended = 0
        self.before = 0.0  # of that, what a checkpoint held already
        self.current: dict[tuple[str, ...], Event] = {}
        self.started = time.monotonic()

    def take(self, event: Event) -> None:
        if event.kind == "epoch":
            if event.runs not in self.current and event.total:
                self.before += len(event.runs) * (event.done - 1) / event.total / self.runs
            self.current[event.runs] = event
        elif event.kind == "ended":
            self.ended += len(event.runs)
            for runs in [each for each in self.current if set(each) & set(event.runs)]:
                del self.current[runs]

    @property
    def share(self) -> float:
        """Of all work, from 0 to 1."""
        partial = sum(len(event.runs) * event.done / event.total for event in self.current.values() if event.total)
        return min(1.0, (self.ended + partial) / self.runs) if self.runs else 1.0

    @property
    def left(self) -> str:
        """How long the rest will take at the pace so far, once there is one."""
        share, elapsed = self.share, time.monotonic() - self.started
        worked = share - self.before
        return f"{duration(elapsed * (1 - share) / worked)} left" if worked > 0 and share < 1 else ""

    @property
    def line(self) -> str:
        """Such as "7 of 18 runs, 39 %, 4 min left"."""
        return ", ".join(filter(None, (f"{self.ended} of {self.runs} runs", f"{100 * self.share:.0f} %", self.left)))


class Log:
    """A line for each run that ended or goes on from a checkpoint, each note, and at most one a minute of how far all
    are."""

    def __init__(self, runs: int, console: Console) -> None:
        self.tally, self.console = Tally(runs), console
        self.last = time.monotonic()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def tell(self, event: Event) -> None:
        if event.kind == "epoch" and event.runs not in self.tally.current and event.done > len(event.runs):
            done, total = (number // len(event.runs) for number in (event.done - 1, event.total))  # of each seed
            self._print(f"{event.title} goes on after epoch {done} of {total}")
        self.tally.take(event)
        if event.kind == "note":
            self._print(event.text)
        elif event.kind == "ended":
            self._print(f"{event.outcome}: {event.title}{_tail(event)}")
        elif time.monotonic() - self.last >= MINUTE:
            self.last = time.monotonic()
            now = "; ".join(f"{each.title} {_state(each)}" for each in self.tally.current.values())
            self._print(f"{self.tally.line}: {now}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


class LiveDisplay:
    """A bar over all runs with the time left, and a line for each that is trained; those that ended stay above.

    On less than NARROW columns neither the bar nor metrics of what is trained.
    """

    def __init__(self, runs: int, console: Console) -> None:
        self.tally, self.console = Tally(runs), console
        self.live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._render)

    def __enter__(self) -> LiveDisplay:
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def tell(self, event: Event) -> None:
        self.tally.take(event)
        if event.kind == "note":
            self.console.print(event.text, markup=False)
        elif event.kind == "ended":
            mark, style = MARKS[event.outcome]
            text = Text.assemble(event.title, (_tail(event), "dim"), overflow="fold")
            self.console.print(hanging(Text(mark, style), text, gap=1))

    def _render(self) -> Group:
        wide = self.console.width >= NARROW
        overall, each = Table.grid(padding=(0, 1)), Table.grid(padding=(0, 2, 0, 0))
        line = Text(self.tally.line, overflow="ellipsis", no_wrap=True)
        bar = ProgressBar(total=1.0, completed=self.tally.share, width=24)
        overall.add_row(*([bar, line] if wide else [line]))
        current = list(self.tally.current.values())
        shown = current if len(current) < self.console.height else current[: max(0, self.console.height - 3)]
        for event in shown:
            each.add_row(
                Text(f"  {event.title}", overflow="ellipsis", no_wrap=True),
                Text(f"{event.text} {event.done}/{event.total}", no_wrap=True),
                *([Text(_metrics(event), "dim", overflow="ellipsis", no_wrap=True)] if wide else []),
            )
        more = [Text(f"  and {len(current) - len(shown)} more", "dim")] if len(shown) < len(current) else []
        return Group(overall, each, *more)


def _metrics(event: Event) -> str:
    """Such as "Avg. 82.1 Bias 13.0": two of them, for a line of 80 columns."""
    shown = [f"{METRICS[name].head} {event.metrics[name]:.1f}" for name in SHOWN if name in event.metrics]
    return " ".join(shown[:2])


def _state(event: Event) -> str:
    return " ".join(filter(None, (event.text, f"{event.done}/{event.total}", _metrics(event))))


def _tail(event: Event) -> str:
    """What there is to say of a run that ended: numbers, which follow no rule, and time, or why it has none."""
    if event.outcome == "done":
        took = duration(event.seconds) if event.seconds else ""
        measured = f"last epoch {_metrics(event)}" if _metrics(event) else ""
        return f"  {', '.join(filter(None, (measured, event.text, took)))}"
    return f"  {event.text}" if event.text else ""


def duration(seconds: float) -> str:
    """Such as "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
