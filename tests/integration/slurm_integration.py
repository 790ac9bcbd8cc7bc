"""The launcher on a real SLURM: ``make test-slurm`` starts one node and runs these tests."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration import cluster
from tests.integration.cluster import SLURM, numbers, queued, restarts, run, shell, wait_until, wait_until_idle

NINE = ("--set", "epochs=6", "be.auxiliary_updates=20", "--seeds", "3")


@pytest.fixture(autouse=True)
def _idle() -> None:
    wait_until_idle()


def vanilla(epochs: int, *more: str) -> tuple[str, ...]:
    return ("--methods", "vanilla", "--set", f"epochs={epochs}", *more)


@pytest.fixture(scope="module")
def epochs_per_second(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The best of three: whatever else computes on this machine meanwhile may end before the tests do."""
    seconds = []
    for _ in range(3):
        folder = tmp_path_factory.mktemp("speed")
        run(folder, *vanilla(100))
        (path,) = folder.glob("runs/**/*.json")
        seconds.append(json.loads(path.read_text())["provenance"]["seconds"])
    return 100 / min(seconds)


def test_a_time_limit_shorter_than_the_run(tmp_path: Path, epochs_per_second: float) -> None:
    """SLURM signals 45 s before the minute is over: a run of 30 s does not fit into two attempts, one of 60 less so."""
    arguments = vanilla(int(60 * epochs_per_second))
    run(tmp_path / "slurm", *arguments, *SLURM, "--slurm", "minutes=1", "grace_seconds=45")
    run(tmp_path / "inline", *arguments)  # beside the job, on the other CPU
    (job,) = {each.split("_")[0] for each in json.loads(next(tmp_path.glob("slurm/jobs/*.json")).read_text())["runs"]}
    wait_until_idle()
    assert restarts(job) >= 2
    assert numbers(tmp_path / "slurm") == numbers(tmp_path / "inline")


def test_arrays_give_the_numbers_of_inline_bit_for_bit(tmp_path: Path) -> None:
    parallel = ("--max-parallel", "2", "--runs-per-job", "7")
    assert "Submitted 4 jobs for 27 runs" in run(tmp_path / "slurm", *NINE, *SLURM, *parallel)
    # At once: on a fast machine only one is left when the next command has been given.
    wait_until(lambda: len(queued("RUNNING")) == 2)
    again = run(tmp_path / "slurm", *NINE, *SLURM, *parallel)
    assert "Nothing to submit" in again, "what is queued is not submitted again"
    while queued():
        assert len(queued("RUNNING,COMPLETING")) <= 2
        time.sleep(0.3)
    run(tmp_path / "inline", *NINE)
    assert len(numbers(tmp_path / "slurm")) == 27
    assert numbers(tmp_path / "slurm") == numbers(tmp_path / "inline")
    notes = len(list((tmp_path / "slurm" / "jobs").glob("*.json")))
    assert "Nothing to submit" in run(tmp_path / "slurm", *NINE, *SLURM)
    assert len(list((tmp_path / "slurm" / "jobs").glob("*.json"))) == notes
    assert "27 done, 0 running" in run(tmp_path / "slurm", *NINE, "--status")
    record = json.loads(next(tmp_path.glob("slurm/runs/**/*-s0.json")).read_text())
    assert record["provenance"]["submitted"]["commit"] == record["provenance"]["commit"]
    assert not list(tmp_path.rglob("*.lease"))


def test_a_search_through_arrays_chooses_as_inline(tmp_path: Path) -> None:
    search = ("--methods", "vanilla", "groupdro", "--set", "epochs=10", "--seeds", "2")
    search += ("--search", "4", "--select", "validation_average")
    run(tmp_path / "slurm", *search, *SLURM)
    wait_until_idle()
    assert len(numbers(tmp_path / "slurm")) == 8, "the points, of which nothing is chosen before all are there"
    assert "of 4 points a method" in run(tmp_path / "slurm", *search, *SLURM, "--wait")
    run(tmp_path / "inline", *search)
    assert numbers(tmp_path / "slurm") == numbers(tmp_path / "inline")
    (one,), (other,) = (tmp_path.glob(f"{each}/tables/*-points.csv") for each in ("slurm", "inline"))
    assert one.read_text() == other.read_text()


@pytest.fixture(scope="module")
def ten_seconds(epochs_per_second: float) -> tuple[str, ...]:
    """Arguments of a run that takes about so long."""
    return vanilla(int(10 * epochs_per_second))


@pytest.fixture(scope="module")
def inline(ten_seconds: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers of two such runs without SLURM."""
    folder = tmp_path_factory.mktemp("inline")
    run(folder, *ten_seconds, "--seeds", "2")
    return numbers(folder)


def test_requeue_and_kill(tmp_path: Path, ten_seconds: tuple[str, ...], inline: dict[str, Any]) -> None:
    """One job is requeued by hand, the process of another gets SIGKILL."""
    arguments = (*ten_seconds, "--seeds", "2", "--checkpoint-seconds", "1")
    run(tmp_path / "slurm", *arguments, *SLURM, "--runs-per-job", "1")
    (note,) = tmp_path.glob("slurm/jobs/*.json")
    first, second = json.loads(note.read_text())["runs"]
    wait_until(lambda: cluster.training(tmp_path / "slurm", first))
    shell("scontrol", "requeue", first)
    (lease,) = wait_until(lambda: cluster.training(tmp_path / "slurm", second))
    os.kill(lease["pid"], signal.SIGKILL)
    wait_until_idle()
    assert restarts(first) == restarts(second) == 1
    assert numbers(tmp_path / "slurm") == inline


def test_preemption(tmp_path: Path, ten_seconds: tuple[str, ...], inline: dict[str, Any]) -> None:
    """A job of a higher partition takes both CPUs; the preempted one continues from the epoch it had reached."""
    run(tmp_path / "slurm", *ten_seconds, *SLURM, "--slurm", "partition=low", "--checkpoint-seconds", "0.5")
    (job,) = queued()
    log = tmp_path / "slurm" / "jobs" / f"{job}_0_log.out"
    wait_until(lambda: cluster.training(tmp_path / "slurm"))
    shell("srun", "--partition=high", "--exclusive", "true")
    wait_until_idle()
    assert restarts(job) == 1
    assert "seed 0 goes on after epoch" in log.read_text().split("Calling checkpoint")[1]
    ((seed_0, result),) = numbers(tmp_path / "slurm").items()
    assert result == inline[seed_0]


def test_cancelled_jobs_stay_cancelled(tmp_path: Path) -> None:
    endless = vanilla(100_000)
    run(tmp_path, *endless, *SLURM)
    wait_until(lambda: cluster.leases(tmp_path))
    shell("scancel", *queued())
    wait_until_idle()
    time.sleep(2)
    assert not queued()
    assert "1 missing" in run(tmp_path, *endless, "--status")


def test_refusals_are_one_sentence(tmp_path: Path) -> None:
    printed = run(tmp_path, *vanilla(1), *SLURM, "--slurm", "partition=nowhere", code=2)
    assert "error: SLURM refuses such jobs (invalid partition specified: nowhere" in printed
    assert "error" not in printed.split("error: ", 1)[1]
    assert not queued()


def test_an_array_submitted_by_hand(tmp_path: Path) -> None:
    arguments = ("--tasks", "colored_digits", *vanilla(10, "--seeds", "3"), "--device", "cpu", "--results")
    run(tmp_path / "slurm", *vanilla(10))
    before = numbers(tmp_path / "slurm")
    python = f"--export=ALL,PYTHON={sys.executable}"
    output = f"--output={tmp_path}/%a.log"
    shell("sbatch", python, output, "--array=0-4%2", "slurm/array.sbatch", *arguments, str(tmp_path / "slurm"))
    wait_until_idle()
    after = numbers(tmp_path / "slurm")
    assert len(after) == 3
    assert before.items() <= after.items()
    run(tmp_path / "inline", *vanilla(10, "--seeds", "3"))
    assert after == numbers(tmp_path / "inline")
    assert sum("Nothing to train" in path.read_text() for path in tmp_path.glob("*.log")) == 3


def test_a_signalled_task_of_an_array_goes_on_without_scontrol_in_its_step(
    tmp_path: Path, ten_seconds: tuple[str, ...], inline: dict[str, Any]
) -> None:
    """As in a container: the interpreter is a command of several words, which finds nothing of SLURM."""
    python = f"--export=ALL,PYTHON=env PATH=/usr/sbin:/nowhere {sys.executable}"
    arguments = ("--tasks", "colored_digits", *ten_seconds, "--device", "cpu", "--results", str(tmp_path / "slurm"))
    arguments = (*arguments, "--checkpoint-seconds", "0.5")
    shell("sbatch", python, f"--output={tmp_path}/%a.log", "--array=0-0", "slurm/array.sbatch", *arguments)
    wait_until(lambda: cluster.training(tmp_path / "slurm"))
    (job,) = queued()
    shell("scancel", "--signal=USR2", job)
    wait_until(lambda: restarts(job) == 1)
    wait_until_idle()
    ((seed_0, result),) = numbers(tmp_path / "slurm").items()
    assert result == inline[seed_0]
