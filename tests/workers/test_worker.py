"""The worker: whose run it is, what is stored, and seeds trained together."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from factories import digits
from factories.digits import tiny_settings
from factories.leases import rewrite
from factories.records import make_run
from rich.console import Console

from benchmark.errors import ROOT, TrainingError, UserError
from benchmark.plan.run import Run
from benchmark.store import leases
from benchmark.store.leases import acquire, newest
from benchmark.store.store import Store
from benchmark.terminal.display import Event, Log
from benchmark.training.training import Training
from benchmark.training.updates import Updates
from benchmark.workers.worker import Worker, check_options
from benchmark.workers.worker import together as in_groups
from datasets import BiasedDataset
from methods.vanilla import Vanilla


@pytest.fixture
def worker(tmp_path: Path, tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(Worker, "dataset", lambda self, run: (tiny, tiny.fingerprint()))
    return Worker(Store(tmp_path), Path("unused"), torch.device("cpu"), tell=Log(1, Console(soft_wrap=True)).tell)


@pytest.fixture
def run() -> Run:
    return Run(tiny_settings("vanilla"), 0)


def leased_elsewhere(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of another machine, which gives no more sign of life."""
    with monkeypatch.context() as patch:
        patch.setattr(leases, "BEAT", 1e6)
        assert acquire(worker.store.record_path(run))
    rewrite(worker.store.record_path(run), machine="another")


def test_a_silent_owner_is_succeeded_after_a_while(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STALE", 1.5)
    leased_elsewhere(worker, run, monkeypatch)
    other = Run(run.settings, 1)
    started = time.monotonic()
    assert worker.work([run, other]) == ["done", "done"]
    assert time.monotonic() - started >= 1.5
    left = sorted(path.suffix for path in worker.store.record_path(run).parent.iterdir())
    assert left == [".json"] * 2 + [".npz"] * 2


def test_a_living_owner_is_left_alone(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    leased_elsewhere(worker, run, monkeypatch)
    over = threading.Event()

    def live() -> None:
        beat = 1
        while not over.wait(0.1):
            beat += 1
            rewrite(worker.store.record_path(run), beat=beat)

    owner = threading.Thread(target=live)
    owner.start()
    try:
        assert worker.work([run]) == ["elsewhere"]
    finally:
        over.set()
        owner.join()
    assert not worker.store.has(run)


def test_a_run_finished_elsewhere_meanwhile_is_not_trained(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.work([run]) == ["done"]
    monkeypatch.setattr("benchmark.workers.worker.train", lambda trainings: pytest.fail("it trained"))
    assert worker.work([run]) == ["done"]


def test_a_finished_run_leaves_nothing_in_memory(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the next run would not find its place."""
    alive: list[weakref.ref[Training]] = []
    original = Training.start

    def start(self: Training) -> None:
        alive.append(weakref.ref(self))
        original(self)

    monkeypatch.setattr(Training, "start", start)
    assert worker.work([run]) == ["done"]
    assert [each() for each in alive] == [None]


def test_whoever_lost_the_run_stops_and_stores_nothing(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Training._measure

    def overslept(self: Training, *more: object) -> object:
        if self.progress.epoch == 2:
            path = worker.store.record_path(run)
            assert acquire(path, abandoned=newest(path))
        return original(self, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "_measure", overslept)
    assert worker.execute([run]) == {run.id: "elsewhere"}
    assert not worker.store.has(run)
    assert not worker.store.failure(run)


def test_a_folder_that_cannot_be_written_for_a_while_costs_nothing(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the second epoch on nothing can be written, until somebody has waited twice."""
    worker.checkpoint_seconds = 0
    refused: list[object] = []
    slept: list[float] = []
    original = os.replace

    def replace(source: Path, target: Path) -> None:
        if len(slept) < 2 and worker._trainings and len(worker._trainings[0].progress.history) >= 2:
            refused.append(target)
            raise OSError(30, "Read-only file system")
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr("benchmark.store.atomic.time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    assert worker.execute([run]) == {run.id: "done"}
    assert len(refused) >= 3
    printed = capsys.readouterr().out
    assert "No checkpoint was written" in printed
    assert "Read-only file system" in printed


@pytest.fixture
def runs() -> list[Run]:
    return [make_run("colored_digits", "vanilla", "epochs=2", seed=seed) for seed in range(5)]


def new_worker(folder: Path, seeds_at_once: int) -> Worker:
    return Worker(Store(folder), Path("unused"), torch.device("cpu"), seeds_at_once=seeds_at_once)


def test_a_worker_computes_with_no_number_that_slows_a_cpu_down(tmp_path: Path) -> None:
    new_worker(tmp_path, 1)
    assert torch.tensor(1e-39).mul(0.5).item() == 0


def test_a_worker_trains_seeds_together_and_records_each(runs: list[Run], tmp_path: Path) -> None:
    alone, together = new_worker(tmp_path / "alone", 1), new_worker(tmp_path / "together", 3)
    told: list[Event] = []
    together.tell = told.append
    other = make_run("colored_digits", "gce", "epochs=2")
    mixed = [runs[0], other, *runs[1:]]
    assert [[run.seed for run in each] for each in in_groups(mixed, 3)] == [[0, 1, 2], [3, 4], [0]]
    assert in_groups(mixed, 1) == [[run] for run in mixed], "seed by seed, so that a table fills evenly"
    assert alone.work(runs) == together.work(runs) == ["done"] * 5
    assert "vanilla seeds 0, 1, 2" in {event.title.split("/")[1] for event in told if event.kind == "epoch"}
    for run in runs:
        one, several = alone.store.load(run), together.store.load(run)
        assert one
        assert several
        assert one.answers.test.tolist() == several.answers.test.tolist()
        assert one.provenance.seeds_at_once == 1
        assert "seeds_at_once" not in alone.store.record_path(run).read_text()
        assert several.provenance.seeds_at_once == (3 if run.seed < 3 else 2)
    assert not list(tmp_path.glob("**/*.lease"))


def test_one_seed_that_fails_does_not_take_the_others_with_it(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Updates.epoch

    def diverges(self: Updates) -> list[float]:
        if any(training.generator.initial_seed() == 1 for training in self.trainings):
            raise TrainingError("The loss became nan.")
        return original(self)

    monkeypatch.setattr(Updates, "epoch", diverges)
    several = new_worker(tmp_path, 5)
    assert several.work(runs) == ["done", "failed", "done", "done", "done"]
    assert [several.store.has(run) for run in runs] == [True, False, True, True, True]


@pytest.mark.parametrize("seeds_at_once", [1, 2])
def test_a_failure_says_where_in_the_methods_file_it_arose(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds_at_once: int
) -> None:
    """The last line of somebody's own file, whatever of PyTorch or of what all methods share that line called."""
    own: dict[str, Any] = {}
    text = "\n\ndef sample_loss(self, logits, targets):\n    return self.target(targets)\n"
    exec(compile(text, str(ROOT / "methods" / "own.py"), "exec"), own)
    monkeypatch.setattr(Vanilla, "sample_loss", own["sample_loss"])
    told: list[Event] = []
    worker = new_worker(tmp_path, seeds_at_once)
    worker.tell = told.append
    assert worker.work(runs[:2]) == ["failed", "failed"]
    for run in runs[:2]:
        note = worker.store.failure(run)
        assert note["reason"].endswith(" (methods/own.py, line 4)")
        assert "base.py" in note["trace"]
        assert note["reason"] in {event.text for event in told if event.outcome == "failed"}
    together = [event.text for event in told if "one by one" in event.text]
    assert [text.endswith(" (methods/own.py, line 4)") for text in together] == [True] * (seeds_at_once - 1)


def test_a_seed_that_another_worker_has_is_left_to_it(runs: list[Run], tmp_path: Path) -> None:
    several = new_worker(tmp_path, 5)
    held = acquire(several.store.record_path(runs[2]))
    assert held
    assert list(several.execute(runs).values()).count("done") == 4
    held.release()
    assert not several.store.has(runs[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("jtt.identification_epochs=0", "jtt.identification_epochs is 0: it must be at least 1"),
        ("poisoner.strata=labels", "poisoner.strata is labels: it must be one of clean, poisoned"),
        ("gce.q=2", r"gce.q is 2.0: it must be at least .* and at most 1"),
    ],
)
def test_options_beyond_their_limits_are_refused_before_any_data_is_loaded(
    tmp_path: Path, change: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a run comes from: --set is looked at earlier, recipes.toml and a pickled job are not."""
    monkeypatch.setattr(Worker, "dataset", lambda self, run: pytest.fail("it loaded the data"))
    run = make_run("colored_digits", change.partition(".")[0], change)
    with pytest.raises(UserError, match=message):
        check_options(run)
    with pytest.raises(UserError, match=message):
        new_worker(tmp_path, 1).prepare([run])


# Late, and on a disk that fails


def test_the_store_is_asked_right_before_a_record_is_saved(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another took the run over, finished it and deleted all leases while this one was stopped after its last epoch."""
    other = Worker(Store(worker.store.folder), Path("unused"), torch.device("cpu"))
    original = Training.predictions
    stored: dict[str, bytes] = {}

    def overslept(self: Training) -> object:
        if not stored:
            stored["under way"] = b""
            path = worker.store.record_path(run)
            assert other.execute([run], abandoned=newest(path)) == {run.id: "done"}
            stored.clear()
            stored.update((each.name, each.read_bytes()) for each in path.parent.iterdir())
        return original(self)

    monkeypatch.setattr(Training, "predictions", overslept)
    assert worker.execute([run]) == {run.id: "elsewhere"}
    path = worker.store.record_path(run)
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == stored
    assert len(stored) == 2
    assert f"{run} stopped: {path.stem} was taken over or finished by another worker" in capsys.readouterr().out


def test_a_late_failure_of_a_finished_run_is_not_noted(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Worker(Store(worker.store.folder), Path("unused"), torch.device("cpu"))

    def fail(trainings: object) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(Worker, "dataset", lambda self, run: (digits.tiny(), digits.tiny().fingerprint()))
        assert other.execute([run], abandoned=newest(worker.store.record_path(run))) == {run.id: "done"}
        raise TrainingError("The loss became nan.")

    monkeypatch.setattr("benchmark.workers.worker.train", fail)
    assert worker.execute([run]) == {run.id: "elsewhere"}
    assert not worker.store.failure_path(run).exists()


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @staticmethod
    def time() -> float:
        return time.time()


@pytest.mark.parametrize("failing", ["replace and link", "open"])
def test_a_run_that_cannot_be_stored_fails_after_ten_minutes_in_all_and_others_go_on(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    other, clock = Run(run.settings, 1), Clock()
    monkeypatch.setattr("benchmark.store.atomic.time", clock)
    of_the_run = f"{run.digest}-s0"

    def refusing(original: Callable[..., object]) -> Callable[..., object]:
        def refuse(*more: object, **keys: object) -> object:
            if any(of_the_run in str(each) for each in more):
                raise OSError(28, "No space left on device")
            return original(*more, **keys)

        return refuse

    for name in ("replace", "link") if failing == "replace and link" else ("open",):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    assert worker.work([run, other]) == ["failed", "done"]
    assert clock.now == 600
    printed = capsys.readouterr().out
    folder = worker.store.record_path(run).parent
    assert f"{of_the_run}.json cannot be written to {folder} (No space left on device); trying again" in printed
    assert f"Why {run} failed could not be stored" in printed or worker.store.failure(run)
    assert not worker.store.has(run)
    assert not [each for each in folder.iterdir() if each.suffix == ".tmp"]
