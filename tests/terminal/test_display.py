"""What is shown of trainings in progress: how far they are, how long it takes, and how much of a log that is."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from benchmark.terminal import display as module
from benchmark.terminal.display import Event, LiveDisplay, Log, Tally, display, duration, told


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def epoch(run: str, done: int, total: int = 10) -> Event:
    return Event("epoch", (run,), run, "train", done, total, {"avg_acc": 81.25, "model_bias": 12.5, "worst_acc": 40.0})


def ended(run: str, outcome: str = "done", text: str = "") -> Event:
    return Event("ended", (run,), run, text, metrics={"avg_acc": 81.25}, outcome=outcome, seconds=71)


def test_time_left_follows_the_pace_of_this_command(clock: Clock) -> None:
    tally = Tally(4)
    assert tally.line == "0 of 4 runs, 0 %"
    clock.now = 60
    tally.take(epoch("a", 6))  # five epochs were in its checkpoint
    assert tally.share == pytest.approx(0.15)
    assert tally.left == f"{duration(60 * 0.85 / 0.025)} left"
    tally.take(ended("a"))
    tally.take(epoch("b", 10))
    tally.take(ended("b"))
    assert (tally.ended, tally.share) == (2, 0.5)
    tally.take(ended("c"))
    tally.take(ended("d", "failed"))
    assert tally.line == "4 of 4 runs, 100 %"


def test_seeds_trained_as_one_count_each() -> None:
    tally = Tally(4)
    tally.take(Event("epoch", ("a", "b"), "seeds 0, 1", "train", 5, 10))
    assert tally.share == 0.25
    tally.take(ended("a"))
    assert (tally.share, tally.current) == (0.25, {})


def test_a_log_has_a_line_a_run_and_one_a_minute(clock: Clock) -> None:
    written = io.StringIO()
    with display(2, Console(file=written, width=80)) as shown:
        assert isinstance(shown, Log)
        for number in range(1, 10):
            clock.now += 20
            shown.tell(epoch("task/a seed 0", number))
        shown.tell(ended("task/a seed 0"))
        shown.tell(
            Event("note", (), "", "a [sentence] longer than the eighty columns that a terminal has, which stays one")
        )
        shown.tell(ended("task/b seed 0", "failed", "TrainingError: The loss became nan"))
    lines = written.getvalue().splitlines()
    assert lines[0] == "0 of 2 runs, 15 %, 6 min left: task/a seed 0 train 3/10 Avg. 81.2 Bias 12.5"
    assert [line.split(":")[0] for line in lines[1:3]] == [
        "0 of 2 runs, 30 %, 5 min left",
        "0 of 2 runs, 45 %, 4 min left",
    ]
    assert lines[3] == "done: task/a seed 0  last epoch Avg. 81.2, 71 s"
    assert lines[4] == "a [sentence] longer than the eighty columns that a terminal has, which stays one"
    assert lines[5] == "failed: task/b seed 0  TrainingError: The loss became nan"
    assert len(lines) == 6


def test_a_log_says_of_a_run_that_it_goes_on(clock: Clock) -> None:
    written = io.StringIO()
    with display(1, Console(file=written, width=80)) as shown:
        for number in (6, 7):
            shown.tell(epoch("task/a seed 0", number))
        for number in (11, 12):  # of two seeds together
            shown.tell(Event("epoch", ("b", "c"), "task/b seeds 0, 1", "train", number, 20))
    assert written.getvalue().splitlines() == [
        "task/a seed 0 goes on after epoch 5 of 10",
        "task/b seeds 0, 1 goes on after epoch 5 of 10",
    ]


def test_the_terminal_shows_every_run_in_eighty_columns(clock: Clock) -> None:
    written = io.StringIO()
    console = Console(file=written, width=80, height=24, force_terminal=True, color_system=None)
    shown = display(9, console)
    assert isinstance(shown, LiveDisplay)
    clock.now = 60
    shown.tell(epoch("celeba_bags_under_eyes/known_poisoning seed 12", 3))
    shown.tell(epoch("cmnist_99/lff seed 0", 7))
    with console.capture() as capture:
        console.print(shown._render())
    lines = capture.get().rstrip().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert "0 of 9 runs, 11 %, 40 min left" in lines[0], "two of the ten epochs are this command's"
    assert all("train" in line and "Avg. 81.2 Bias 12.5" in line for line in lines[1:])


@pytest.mark.parametrize("width", [59, 40, 20])
def test_a_narrow_terminal_shows_a_line_each_and_no_more_than_fits(clock: Clock, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None)
    shown = display(9, console)
    assert isinstance(shown, LiveDisplay)
    clock.now = 60
    shown.tell(epoch("celeba_bags_under_eyes/known_poisoning seed 12", 3))
    shown.tell(epoch("cmnist_99/lff seed 0", 7))
    with console.capture() as capture:
        console.print(shown._render())
    lines = capture.get().rstrip().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("0 of 9 runs, 11 %")
    assert [line.split()[-1] for line in lines[1:]] == ["3/10", "7/10"]


def test_why_a_run_failed_is_folded_beside_its_mark() -> None:
    written = io.StringIO()
    console = Console(file=written, width=50, height=24, force_terminal=True, color_system=None)
    with display(2, console) as shown:
        shown.tell(ended("cmnist_99/lff seed 0", "failed", "TrainingError: " + "a [long] reason " * 8))
    lines = [line for line in re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", written.getvalue()).splitlines() if line.strip()]
    mark = next(place for place, line in enumerate(lines) if "✗ cmnist_99/lff seed 0" in line)
    assert all(line.startswith("  ") and len(line.rstrip()) <= 50 for line in lines[mark + 1 : mark + 3])
    assert "".join(lines).count("[long]") == 8


def test_more_runs_than_lines_do_no_harm(clock: Clock) -> None:
    written = io.StringIO()
    with display(99, Console(file=written, width=80, height=10, force_terminal=True, color_system=None)) as shown:
        assert isinstance(shown, LiveDisplay)
        for number in range(60):
            shown.tell(epoch(f"task/method seed {number}", 3))
    last = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", written.getvalue().rpartition("0 of 99 runs")[2])
    assert len(last.rstrip().splitlines()) == 9, "less than the terminal has, so that all can be taken back"
    assert "  and 53 more" in last


def test_a_terminal_that_cannot_go_back_gets_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display(1, Console(file=io.StringIO(), force_terminal=True)), Log)


def test_lengths_of_time() -> None:
    assert [duration(each) for each in (0.4, 89, 91, 3000, 12000)] == ["0 s", "89 s", "2 min", "50 min", "3 h 20 min"]


def test_bias_accuracy_is_that_of_the_biased_network_where_one_is_trained_beside_the_target() -> None:
    target, biased = {"avg_acc": 50.0, "bias_acc": 55.0, "model_bias": None}, {"bias_acc": 90.0, "aligned_error": 1.0}
    assert told(target, biased) == {"avg_acc": 50.0, "bias_acc": 90.0}
    assert told(target, {}) == {"avg_acc": 50.0, "bias_acc": 55.0}
    assert told({}, biased) == biased
    assert told({}, {}) == {}
