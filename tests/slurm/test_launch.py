"""The launcher with a fake scheduler; tests/integration/slurm_integration.py does the same and more on a real one."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import submitit
import torch
from factories.records import make_run

from benchmark.errors import UserError
from benchmark.options import Execution, execution, parser
from benchmark.options import jobs as jobs_asked
from benchmark.plan import code
from benchmark.plan.run import Run
from benchmark.run import main
from benchmark.store import logs, status
from benchmark.store.provenance import commit
from benchmark.store.record import Commit
from benchmark.store.store import Store
from benchmark.training.training import Training
from benchmark.workers.worker import Worker
from slurm import jobs, launch, profiles
from slurm.job import TrainRuns
from tests.slurm.fake_slurm import FakeSlurm


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.setattr(Worker, "check", lambda self, run: None)
    return install(tmp_path, monkeypatch)


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **config: object) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm-commands", **config)
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    return fake


def command(results: Path, *more: str, epochs: int = 2) -> int:
    return main(["--quick", "--set", f"epochs={epochs}", "be.auxiliary_updates=9", "--results", str(results), *more])


def submit(results: Path, *more: str, epochs: int = 2) -> int:
    return command(results, "--launcher", "slurm", *more, epochs=epochs)


def submitted_runs(results: Path) -> list[list[str]]:
    """The run ids of each job, in order of submission."""
    notes = (json.loads(path.read_text()) for path in (results / "jobs").glob("*.json"))
    return [runs for note in sorted(notes, key=lambda note: note["submitted"]) for runs in note["runs"].values()]


def test_small_runs_are_packed_and_nothing_is_submitted_twice(
    tmp_path: Path, cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(tmp_path, "--seeds", "3", "--max-parallel", "2") == 0
    assert [len(runs) for runs in submitted_runs(tmp_path)] == [10, 10, 7]
    (script,) = cluster.scripts
    assert "#SBATCH --array=0-2%2" in script
    assert "#SBATCH --signal=USR2@90" in script
    assert f'export PYTHONPATH={launch.REPOSITORY}"$' in script
    assert "scancel 1" in capsys.readouterr().out
    assert submit(tmp_path, "--seeds", "3") == 0
    assert len(cluster.scripts) == 1
    assert "0 done, 0 running, 27 waiting, 0 failed, 0 missing" in capsys.readouterr().out
    assert submit(tmp_path, "--seeds", "4") == 0
    assert sum(map(len, submitted_runs(tmp_path))) == 36


def test_one_array_for_each_request_and_no_larger_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "check", lambda self, run: None)
    cluster = install(tmp_path, monkeypatch, max_array_size=4)
    small = [make_run("colored_digits", method, seed=seed) for seed in range(3) for method in ("vanilla", "lff")]
    large = [Run(run.settings | {"network": "resnet18"}, run.seed) for run in small]
    options = parser().parse_args(["--launcher", "slurm", "--max-parallel", "2", "--runs-per-job", "1"])
    assert launch.launch([*small, *large], Store(tmp_path), execution(options), jobs_asked(options)) is None
    arrays = [re.search(r"--array=\S+", script)[0] for script in cluster.scripts]  # type: ignore[index]
    assert arrays == ["--array=0-3%2", "--array=0-1%2"] * 2
    gpus = ["gpus-per-node=1" in script for script in cluster.scripts]
    assert gpus == [False, False, True, True]
    dependencies = [re.search(r"afterany:\d+", script) for script in cluster.scripts]
    assert [match and match[0] for match in dependencies] == [None, "afterany:1", None, "afterany:3"]
    assert {task.execution.device for task in pickled_tasks(tmp_path)} == {"auto", "cuda"}


def pickled_tasks(results: Path) -> list[TrainRuns]:
    paths = sorted((results / "jobs").glob("*_submitted.pkl"))
    return [submitit.core.utils.DelayedSubmission.load(path).function for path in paths]


def test_what_failed_is_left_out_until_asked_for(
    tmp_path: Path, cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("colored_digits")
    Store(tmp_path).save_failure(run, "OutOfMemory", "trace", job="9_9", log="some.out")
    arguments = ("--methods", "vanilla")
    assert main(["--quick", "--results", str(tmp_path), "--launcher", "slurm", *arguments]) == 0
    assert "--retry-failed" in capsys.readouterr().out
    assert not cluster.scripts
    assert main(["--quick", "--results", str(tmp_path), "--status", *arguments]) == 0
    assert "failed   colored_digits/vanilla seed 0  OutOfMemory; log: some.out" in capsys.readouterr().out
    assert main(["--quick", "--results", str(tmp_path), "--launcher", "slurm", "--retry-failed", *arguments]) == 0
    assert len(cluster.scripts) == 1


def test_status_of_jobs(tmp_path: Path, cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*more: str) -> list[str]:
        capsys.readouterr()
        assert command(tmp_path, "--status", "--methods", "vanilla", "gce", "focal", *more) == 0
        _, heading, *lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        return [heading, *lines[lines.index(next(line for line in lines if line.startswith("done/asked"))) + 1 :]]

    assert submit(tmp_path, "--methods", "vanilla", "gce", "focal", "--runs-per-job", "1") == 0
    store = Store(tmp_path)
    vanilla, *_ = pickled_tasks(tmp_path)[0].runs
    assert shown() == [
        "Quick (modified: paper, epochs=2): 0 done, 0 running, 3 waiting, 0 failed, 0 missing",
        "waiting  3 runs  job 1",
    ]
    cluster.set(job_1_0="RUNNING", job_1_1="OUT_OF_MEMORY", job_1_2="CANCELLED by 0")
    path = store.record_path(vanilla)
    path.parent.mkdir(parents=True)
    content = {"machine": "node", "host": "node1", "pid": 1, "job": "1_0", "restarts": 0, "since": 0, "written": 0}
    path.with_name(f"{path.stem}.1.lease").write_text(json.dumps(content | {"done": 3, "total": 9}))
    failed, running, missing = shown()[1:]
    assert "running  colored_digits/vanilla seed 0  job 1_0 on node1, epoch 3 of 9, since 19" in running
    assert re.fullmatch(r"failed .*job 1_1 ended as OUT_OF_MEMORY; log: .*/1_1_0_log.out", failed)
    assert re.fullmatch(r"missing .*job 1_2 ended without a record; log: .*/1_2_0_log.out", missing)
    cluster.set(job_1_0="PENDING")
    assert shown()[2] == "waiting  1 run  job 1", "requeued: the lease is of its first life"
    cluster.end("NODE_FAIL")
    assert "vanilla seed 0  job 1_0 ended as NODE_FAIL" in shown()[1]


def test_status_without_squeue_or_with_slurm_down(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(tmp_path, "--methods", "vanilla") == 0
    with monkeypatch.context() as laptop:
        laptop.setenv("PATH", "/nowhere")
        assert command(tmp_path, "--methods", "vanilla", "--status") == 0
    cluster.path.write_text(json.dumps(cluster.queue | {"down": True}))
    assert submit(tmp_path, "--methods", "vanilla") == 2, "what is queued is unknown, so nothing is submitted"
    assert "Unable to contact slurm controller" in capsys.readouterr().err
    assert len(cluster.scripts) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--slurm", "minutes=480"], "--launcher inline has no use for --slurm"),
        (["--profile", "example"], "--launcher inline has no use for --profile"),
        (["--runs-per-job", "3"], "--launcher inline has no use for --runs-per-job"),
        (["--launcher", "local", "--runs-per-job", "3"], "--launcher local has no use for --runs-per-job"),
        (["--launcher", "slurm", "--workers", "3"], "--launcher slurm has no use for --workers"),
    ],
)
def test_what_the_launcher_has_no_use_for_is_refused(
    tmp_path: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else who forgets --launcher slurm trains on the login node."""
    assert command(tmp_path, *arguments) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))
    assert command(tmp_path, *arguments, "--status") == 0, "the same command with --status shows how its jobs stand"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slurm", "partition=nowhere"], "SLURM refuses such jobs (invalid partition specified: nowhere; Batch job"),
        (["--slurm", "account=nobody"], "SLURM refuses such jobs (Batch job submission failed: Invalid account or"),
        (["--slurm", "partitoin=x"], "did you mean 'partition'? Known: account, constraint, cpus"),
        (["--slurm", "minutes=many"], "it takes a whole number"),
        (["--slurm", "minutes"], "--slurm takes key=value"),
        (["--profile", "defualt"], "did you mean 'default'? Known: default, example."),
        (["--max-parallel", "0"], "at least 1"),
        (["--runs-per-job", "-1"], "at least 1"),
    ],
)
def test_mistakes_are_found_before_anything_is_queued(
    tmp_path: Path, cluster: FakeSlurm, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(tmp_path, *arguments) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    assert not cluster.jobs


def test_code_that_a_node_cannot_import_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Worker, "check", lambda self, run: None)
    complaint = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'slurm'\nsrun: error: exit 1"
    cluster = install(tmp_path, monkeypatch, node_error=complaint)
    assert submit(tmp_path) == 2
    assert "A node cannot run this checkout (ModuleNotFoundError: No module" in capsys.readouterr().err
    assert not cluster.jobs
    busy = "srun: error: Unable to allocate resources: Requested nodes are busy"
    cluster.path.write_text(json.dumps(cluster.queue | {"node_error": busy}))
    assert submit(tmp_path) == 0
    assert "No node was free" in capsys.readouterr().out


def test_missing_data_is_found_before_anything_is_queued(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: Worker, run: Run) -> None:
        raise UserError("No data.")

    monkeypatch.setattr(Worker, "check", missing)
    assert submit(tmp_path) == 2
    assert not cluster.jobs


def test_without_slurm_the_launcher_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert submit(tmp_path) == 2
    assert "run it on a login node" in capsys.readouterr().err


def test_interrupting_the_wait_leaves_jobs_and_says_how_to_go_on(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slurm.launch.time", SimpleNamespace(sleep=interrupt))
    with pytest.raises(SystemExit) as caught:
        submit(tmp_path, "--wait")
    assert caught.value.code == 130
    printed = capsys.readouterr().out
    assert "--wait waits for them" in printed
    assert "scancel 1" in printed
    assert set(cluster.jobs.values()) == {"PENDING"}


def test_waiting_ends_with_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The jobs' work is done by this process while the launcher sleeps."""
    cluster = install(tmp_path, monkeypatch)

    def work(seconds: float) -> None:
        for task in pickled_tasks(tmp_path):
            run_task(task, monkeypatch, tmp_path)
        cluster.end()

    monkeypatch.setattr("slurm.launch.time", SimpleNamespace(sleep=work))
    assert submit(tmp_path, "--wait", "--methods", "vanilla", "gce") == 0
    printed = capsys.readouterr().out
    assert "| GCE " in printed
    found = list(Store(tmp_path).everything())
    assert [record.provenance.submitted for record in found] == [commit()] * 2


def run_task(task: TrainRuns, monkeypatch: pytest.MonkeyPatch, results: Path) -> None:
    """Call the task as submitit does on the node."""
    values = {"SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": str(results / "jobs"), "SLURM_JOB_ID": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    task()


def test_the_signal_saves_a_checkpoint_and_the_next_attempt_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """USR2 falls into the middle of an epoch; no checkpoint was due before."""
    arguments = ("--methods", "lff")
    assert command(tmp_path / "whole", *arguments, epochs=5) == 0
    install(tmp_path, monkeypatch)
    assert submit(tmp_path / "parts", *arguments, epochs=5) == 0
    (task,) = pickled_tasks(tmp_path / "parts")
    store = Store(tmp_path / "parts")
    kept: list[bytes] = []

    def handler(signum: int, frame: FrameType | None) -> None:
        kept.append(pickle.dumps(task.checkpoint()))
        sys.exit(-1)

    original = Training.warm_up  # is called before each update

    def signalled(self: Training, update: int) -> None:
        if len(self.progress.history) == 3 and update == 1:
            os.kill(os.getpid(), signal.SIGUSR2)
        original(self, update)

    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Training, "warm_up", signalled)
            with pytest.raises(SystemExit):
                run_task(task, patch, tmp_path / "parts")
    finally:
        for number, each in before.items():
            signal.signal(number, each)
    (run,) = task.runs
    assert store.checkpoint_path(run).exists()
    assert len(kept[0]) < 10_000, "progress lies beside the records, not in the pickle"
    again = pickle.loads(kept[0]).function
    assert again == replace(task)
    epochs: list[int] = []
    monkeypatch.setattr(Training, "begin_epoch", counted(Training.begin_epoch, epochs))
    run_task(again, monkeypatch, tmp_path / "parts")
    assert len(epochs) == 2
    whole, parts = (json.loads(Store(tmp_path / name).record_path(run).read_text()) for name in ("whole", "parts"))
    del whole["provenance"], parts["provenance"]
    assert whole == parts


def counted(function: Any, calls: list[int]) -> Any:
    def call(self: Training, *arguments: object) -> object:
        calls.append(1)
        return function(self, *arguments)

    return call


def test_a_job_with_a_failed_run_fails_and_the_note_names_its_log(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submit(tmp_path, "--methods", "vanilla") == 0
    (task,) = pickled_tasks(tmp_path)
    monkeypatch.setattr(Worker, "dataset", lambda self, run: 1 / 0)
    with pytest.raises(RuntimeError, match="1 of 1 runs failed"):
        run_task(task, monkeypatch, tmp_path)
    note = Store(tmp_path).failure(task.runs[0])
    assert note["reason"].startswith("ZeroDivisionError")
    assert note["log"].endswith("/jobs/1_0_log.out")
    (found,) = status.survey(task.runs, Store(tmp_path), jobs.last_jobs(tmp_path))
    assert found.condition == "failed", "although its job has not left the queue yet"


def test_a_job_keeps_the_models_and_writes_the_logs_that_were_asked_for(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submit(tmp_path, "--methods", "vanilla", "--keep", "--select", "validation", "--log", "jsonl") == 0
    (task,) = pickled_tasks(tmp_path)
    run_task(task, monkeypatch, tmp_path)
    assert logs.path_of(tmp_path, task.runs[0].id).is_file()
    assert set(Store(tmp_path).models_of(task.runs[0])) == {"last", "validation"}


def test_a_difference_of_commits_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("colored_digits", "vanilla", "epochs=1")
    old = Commit(commit="0" * 40, modified=False)
    run_task(TrainRuns((run,), tmp_path, Execution(tmp_path, "cpu", 30, None), old), monkeypatch, tmp_path)
    assert "the records will say so" in capsys.readouterr().out
    record = Store(tmp_path).load(run)
    assert record
    assert record.provenance.submitted == old
    assert record.provenance.commit == commit().commit


def test_processes_of_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--methods",
        "vanilla",
        "gce",
        "focal",
        "--launcher",
        "local",
        "--max-parallel",
        "2",
        "--device",
        "cpu",
    )
    assert command(tmp_path, *arguments, "--wait", "--keep") == 0
    printed = capsys.readouterr().out
    assert "Submitted 2 jobs for 3 runs" in printed
    assert len(list((tmp_path / "models").rglob("*.last.safetensors"))) == 3
    assert "| GCE " in printed
    assert command(tmp_path, *arguments) == 0
    assert "Nothing to submit" in capsys.readouterr().out


def test_records_of_older_code_are_no_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(tmp_path, "--methods", "vanilla", epochs=1) == 0
    monkeypatch.setattr(code, "of_method", lambda name: "2")
    install(tmp_path, monkeypatch)
    assert submit(tmp_path, "--wait", "--methods", "vanilla", epochs=1) == 0


def test_a_renewal_is_submitted_whatever_became_of_the_runs_last_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of a job's runs failed, and the job with it; the others have records, which a new version makes stale."""
    arguments = ("--methods", "vanilla")
    cluster = install(tmp_path, monkeypatch)
    assert submit(tmp_path, *arguments) == 0
    (task,) = pickled_tasks(tmp_path)
    run_task(task, monkeypatch, tmp_path)
    cluster.end("FAILED")
    (before,) = Store(tmp_path).everything()
    monkeypatch.setattr(code, "of_method", lambda name: "2")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert submit(tmp_path, *arguments, "--again") == 0
    assert "Submitted 1 job for 1 run." in capsys.readouterr().out
    assert len(cluster.scripts) == 2
    assert [each.provenance for each in Store(tmp_path).everything()] == [before.provenance]
    assert submit(tmp_path, *arguments, "--again") == 0
    assert "1 waiting" in capsys.readouterr().out, "nothing is submitted twice"
    run_task(pickled_tasks(tmp_path)[-1], monkeypatch, tmp_path)
    (after,) = Store(tmp_path).everything()
    assert after.provenance.method_version == "2"


def test_jobs_of_a_renewal_store_their_records_although_the_wait_is_interrupted(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    assert command(tmp_path, "--methods", "vanilla") == 0
    monkeypatch.setattr(code, "of_method", lambda name: "2")
    monkeypatch.setattr("slurm.launch.time", SimpleNamespace(sleep=interrupt))
    with pytest.raises(SystemExit):
        submit(tmp_path, "--methods", "vanilla", "--again", "--wait")
    assert command(tmp_path, "--methods", "vanilla", "--render-only") == 0
    (task,) = pickled_tasks(tmp_path)
    run_task(task, monkeypatch, tmp_path)
    (record,) = Store(tmp_path).everything()
    assert record.provenance.method_version == "2"


def test_where_slurm_refuses_nothing_is_renewed(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "--methods", "vanilla") == 0
    monkeypatch.setattr(code, "of_method", lambda name: "2")

    def refuse(self: object, *arguments: object) -> object:
        raise submitit.core.utils.FailedJobError("sbatch: error: no more today")

    monkeypatch.setattr(submitit.SlurmExecutor, "submit", refuse)
    assert submit(tmp_path, "--methods", "vanilla", "--again") == 2
    assert "no more today" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.again"))


def test_sigterm_in_the_midst_of_a_submission_waits_for_its_note(
    tmp_path: Path, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the jobs would be queued and nobody would know of them."""
    original = submitit.SlurmExecutor.submit

    def submit_terminated(self: Any, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(submitit.SlurmExecutor, "submit", submit_terminated)
    with pytest.raises(SystemExit) as caught:
        submit(tmp_path, "--methods", "vanilla")
    assert caught.value.code == 130
    assert len(cluster.jobs) == len(submitted_runs(tmp_path)) == 1


@pytest.mark.parametrize(("device", "seen"), [("cuda:1", [1]), ("auto", [0, 1, 2]), ("cuda", [0, 1, 2])])
def test_local_processes_take_the_gpus_that_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, seen: list[int]
) -> None:
    """Each process sees one GPU, which is its only one whatever number it has here."""
    started: list[tuple[list[int], str]] = []

    def submitted(
        executor: submitit.LocalExecutor, packs: object, store: object, execution: Execution, *_: object
    ) -> list[str]:
        started.append((executor.parameters["visible_gpus"], execution.device))
        return ["1"]

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(
        "benchmark.workers.worker.pick_device", lambda name: torch.device("cuda", 1 if name[-1] == "1" else 0)
    )
    monkeypatch.setattr(launch, "_check_data", lambda *_: None)
    monkeypatch.setattr(launch, "_submit", submitted)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", "")
    arguments = ["--quick", "--methods", "vanilla", "gce", "focal", "--results", str(tmp_path), "--device", device]
    assert main([*arguments, "--launcher", "local"]) == 0
    assert started == [([gpu], "cuda") for gpu in seen]


CLUSTER = launch.REPOSITORY / "docs" / "cluster.md"


def test_the_documented_commands_are_understood() -> None:
    commands = re.findall(r"^python -m benchmark\.run (.*?)(?: #.*)?$", CLUSTER.read_text("utf-8"), re.MULTILINE)
    assert len(commands) >= 3
    for line in commands:
        parser().parse_args(line.split())
    documented = set(re.findall(r"`(\w+)`", CLUSTER.read_text("utf-8").split("## Profiles")[1].split("##")[0]))
    assert set(profiles.KEYS) <= documented


def test_two_thousand_runs_are_planned_and_looked_at_quickly(tmp_path: Path) -> None:
    """tests/tools/launcher_speed.py measures 10,000; here a limit that a busy machine keeps."""
    from tests.tools import launcher_speed

    seconds = launcher_speed.measure(tmp_path, runs=2000)
    assert seconds["planning"] + seconds["status"] < 5
