"""Several processes: the same numbers as one, and what becomes of runs when one is killed, stopped or left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from factories.records import make_run

from benchmark.cores import cores
from benchmark.options import Execution
from benchmark.plan.run import Run
from benchmark.store import leases
from benchmark.store.store import Store
from benchmark.terminal.display import Event
from benchmark.training import trial
from benchmark.workers import crew
from benchmark.workers.crew import Crew, Place, places

EXECUTION = Execution(Path("unused"), "cpu", 0, None, workers=2)


def digits(method: str, seed: int, *sets: str) -> Run:
    return make_run("colored_digits", method, "epochs=3", *sets, seed=seed)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "cores", lambda: 2)


def test_numbers_do_not_depend_on_how_many_run_at_once(tmp_path: Path, two_cores: None) -> None:
    runs = [digits(method, seed) for method in ("vanilla", "poisoner") for seed in (0, 1)]
    stores = Store(tmp_path / "one"), Store(tmp_path / "two")
    assert crew.train(runs, stores[0], replace(EXECUTION, workers=1)) == 0
    assert crew.train(runs, stores[1], replace(EXECUTION, workers=None)) == 0
    for run in runs:
        one, two = (store.load(run) for store in stores)
        assert one
        assert two
        assert one.answers.test.tolist() == two.answers.test.tolist()
        assert [each.loss.tolist() for each in one.phases] == [each.loss.tolist() for each in two.phases]
        assert two.provenance.threads == 1


def test_a_run_whose_process_is_killed_goes_on_in_another(tmp_path: Path) -> None:
    runs = [digits("vanilla", seed, "batch_size=2") for seed in range(3)]
    told: list[Event] = []
    crew = Crew([Place("cpu", 1)] * 2, tmp_path, EXECUTION, told.append)
    processes = list(crew.members.values())

    def tell(event: Event) -> None:
        if not any(each.kind == "epoch" for each in told):
            victim = next(place for place, group in crew.groups.items() if group and group[0].id in event.runs)
            crew.members[victim].kill()
        told.append(event)

    crew.tell = tell
    crew.train([[run] for run in runs])
    assert all(Store(tmp_path).has(run) for run in runs)
    notes = [event.text for event in told if event.kind == "note"]
    assert [note for note in notes if "was killed (exit code -9)" in note] == notes
    assert len(notes) == 1
    ended = [(event.runs, event.outcome) for event in told if event.kind == "ended"]
    assert sorted(ended) == sorted(((run.id,), "done") for run in runs)
    assert sorted(process.exitcode for process in processes) == [-9, 0]


def test_a_run_that_kills_every_process_has_failed(tmp_path: Path) -> None:
    runs = [digits("vanilla", seed, "batch_size=2") for seed in range(2)]
    told: list[Event] = []
    crew = Crew([Place("cpu", 1)] * 2, tmp_path, EXECUTION, told.append)

    def tell(event: Event) -> None:
        told.append(event)
        if event.kind == "epoch" and event.runs == (runs[0].id,):
            next(crew.members[place] for place, group in crew.groups.items() if group == [runs[0]]).kill()

    crew.tell = tell
    crew.train([[runs[0]]])
    store = Store(tmp_path)
    assert "was killed (exit code -9)" in store.failure(runs[0])["reason"]
    assert [event.outcome for event in told if event.kind == "ended"] == ["failed"]


def test_a_command_whose_runs_others_are_training_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its table would lack them, and nothing else would say so."""
    store, runs = Store(tmp_path), [digits("vanilla", seed) for seed in (0, 1)]
    with monkeypatch.context() as patched:
        patched.setattr(leases, "BEAT", 0.1)
        lease = leases.acquire(store.record_path(runs[0]))
        assert lease
        assert crew.train(runs, store, EXECUTION) == 1
    assert "1 run is still being trained elsewhere" in capsys.readouterr().out
    lease.release()
    assert crew.train(runs, store, EXECUTION) == 0


def start(folder: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "benchmark.run",
        "--quick",
        "--methods",
        "vanilla",
        "--seeds",
        "2",
        "--workers",
        "2",
    ]
    settings = ["--set", "epochs=4000", "--results", str(folder), "--checkpoint-seconds", "0.1"]
    return subprocess.Popen(
        [*command, *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background jobs ignore
    )


def wait_for(what: Any, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
    return found


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_their_parent(tmp_path: Path, sent: signal.Signals) -> None:
    process = start(tmp_path)

    def leased() -> list[Path]:
        return list(tmp_path.rglob("*.lease"))

    try:
        wait_for(lambda: len(list(tmp_path.rglob("*.ckpt"))) == 2 or len(list(tmp_path.rglob("*.pt"))) == 2)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        os.kill(process.pid, sent)
        process.wait(60)
        wait_for(lambda: not alive(children), 30)
        if sent != signal.SIGKILL:
            assert process.returncode == 130
            assert "the same command continues from the last checkpoint" in process.communicate()[0]
            owners = [path.read_text() for path in leased()]
            assert all("released" in owner or '"pid"' not in owner for owner in owners) or not owners
    finally:
        process.kill()


def pretend_cores(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(number)), raising=False)
    monkeypatch.setattr(crew, "cores", cores)  # which every other test is told to be one
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


class TestPlaces:
    """Where runs are trained, of a pretended machine."""

    def worker(self, device: str) -> Any:
        dataset = SimpleNamespace(image_shape=(3, 64, 64), class_names=("a", "b"))
        return SimpleNamespace(device=torch.device(device), threads=4, dataset=lambda run: (dataset, None))

    def test_small_networks_take_a_core_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_cores(monkeypatch, 8)
        execution = replace(EXECUTION, workers=None)
        groups = [[digits("vanilla", seed)] for seed in range(20)]
        assert places(groups, self.worker("cpu"), execution) == [Place("cpu", 1)] * 8
        assert places(groups[:3], self.worker("cpu"), execution) == [Place("cpu", 2)] * 3
        assert places(groups, self.worker("cpu"), replace(EXECUTION, workers=4)) == [Place("cpu", 2)] * 4

    @pytest.mark.parametrize(
        ("said", "threads"), [("1", 1), ("3", 3), ("16", 8), ("2,1", 2), ("", 8), ("0", 8), ("many", 8)]
    )
    def test_no_more_threads_than_the_environment_says(
        self, monkeypatch: pytest.MonkeyPatch, said: str, threads: int
    ) -> None:
        pretend_cores(monkeypatch, 8)
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        execution, groups = replace(EXECUTION, workers=1), [[make_run("dogs_cats", "vanilla")]]
        assert places(groups, self.worker("cpu"), execution) == [Place("cpu", threads)]
        groups = [[digits("vanilla", seed)] for seed in range(4)]
        assert places(groups, self.worker("cpu"), replace(execution, workers=4)) == [Place("cpu", min(threads, 2))] * 4

    @pytest.mark.parametrize(("best", "expected"), [(1, [Place("cpu", 8)]), (8, [Place("cpu", 1)] * 8)])
    def test_large_ones_as_a_trial_says(
        self, monkeypatch: pytest.MonkeyPatch, best: int, expected: list[Place]
    ) -> None:
        pretend_cores(monkeypatch, 8)
        asked: list[tuple[Any, ...]] = []
        monkeypatch.setattr(trial, "best_number", lambda *of: asked.append(of) or best)
        groups = [[make_run("dogs_cats", "vanilla", seed=seed)] for seed in range(20)]
        assert places(groups, self.worker("cpu"), replace(EXECUTION, workers=None)) == expected
        assert [each[1:] for each in asked] == [((3, 64, 64), 2, 8)]

    def test_gpus_take_a_process_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
        groups = [[digits("vanilla", seed)] for seed in range(20)]
        worker, execution = self.worker("cuda"), replace(EXECUTION, device="auto", workers=None)
        assert [each.device for each in places(groups, worker, execution)] == ["cuda:0", "cuda:1", "cuda:2"]
        assert [each.device for each in places(groups[:2], worker, execution)] == ["cuda:0", "cuda:1"]
        assert [each.device for each in places(groups, worker, replace(execution, device="cuda:1"))] == ["cuda:1"]


def test_the_trial_prefers_what_is_faster_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {1: 100.0, 4: 150.0, 2: 90.0}
    tried: list[tuple[int, int]] = []

    def try_out(settings: Any, shape: Any, classes: int, number: int, threads: int) -> trial.Trial:
        tried.append((number, threads))
        return trial.Trial(rates[number], 10.0)

    pretend_cores(monkeypatch, 4)
    monkeypatch.setattr(trial, "try_out", try_out)
    monkeypatch.setattr(trial, "free_memory", lambda device: 1000.0)
    assert trial.best_number({}, (3, 64, 64), 2, 9) == 4
    assert tried == [(1, 4), (4, 1)]
    assert trial.best_number({}, (3, 64, 64), 2, 2) == 1, "two of two threads are slower here"
    monkeypatch.setattr(trial, "free_memory", lambda device: 12.0)
    assert trial.best_number({}, (3, 64, 64), 2, 9) == 1, "there is memory for one"


def test_the_trial_trains_the_network_itself() -> None:
    run = make_run("dogs_cats", "vanilla", "data.size=32", "batch_size=32")
    found = trial.try_out(run.settings, (3, 32, 32), 2, 2, 1)
    assert found.rate > 1
    assert found.memory > 40e6, "weights, gradients, Adam's means and activations of a ResNet-18"
