"""Submission of runs as jobs: checks, arrays, and waiting for them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import submitit

from benchmark.arguments import has_controls, is_text
from benchmark.cores import cores, threads_each
from benchmark.errors import UserError, deferring, handling
from benchmark.options import Execution, Jobs
from benchmark.plan.run import Run
from benchmark.quoting import counted
from benchmark.store import status
from benchmark.store.provenance import REPOSITORY, commit
from benchmark.store.store import Store
from slurm import jobs, profiles
from slurm.job import TrainRuns
from slurm.profiles import KEYS, Request

# Runs of these networks take a minute, less than a scheduler's overhead.
PACKED = {"mlp": 10}
# How often a job may be started again, after time-outs or after its process was killed.
RESTARTS = 20
POLL_SECONDS = 5.0


def launch(
    runs: Sequence[Run], store: Store, execution: Execution, asked: Jobs, renew: Collection[str] = ()
) -> int | None:
    """Submit what is missing, and what of the ids ``renew`` has a record; with --wait return the number of failed runs,
    else None at once.

    Raises UserError when a check fails, before anything is queued, or when SLURM refuses.
    """
    if asked.launcher == "slurm" and shutil.which("sbatch") is None:
        raise UserError("--launcher slurm needs sbatch, which is not on this machine: run it on a login node.")
    profile = profiles.load(asked.profile, asked.slurm)
    found = status.survey(runs, store, jobs.last_jobs(store.folder))
    print(f"{counted(len(runs), 'run')}: {status.counts(found)}.")
    wanted = ("missing", "failed") if asked.retry_failed else ("missing",)
    missing = [each.run for each in found if each.condition in wanted or each.run.id in renew]
    if not asked.retry_failed and any(each.condition == "failed" for each in found):
        print("Failed runs are left out; --status says why they failed, --retry-failed submits them again.")
    submitted: list[str] = []
    try:
        if missing:
            submit = _submit_slurm if asked.launcher == "slurm" else _submit_local
            for ids in submit(missing, store, execution, asked, profile, renew):
                submitted += ids
        said = f"Submitted {counted(len(submitted), 'job')} for {counted(len(missing), 'run')}."
        print(said if missing else "Nothing to submit.")
        if asked.wait:
            return _wait(runs, store)
    except KeyboardInterrupt:
        print("\nInterrupted. Jobs that were submitted go on.")
        _say_how_to_go_on(runs, store, asked.launcher)
        sys.exit(130)
    _say_how_to_go_on(runs, store, asked.launcher)
    return None


def _task(runs: Sequence[Run], store: Store, execution: Execution) -> TrainRuns:
    return TrainRuns(
        runs=tuple(runs),
        results=store.folder.resolve(),
        execution=replace(execution, data_root=execution.data_root.resolve()),
        submitted=commit(),
    )


def _submit_slurm(
    missing: Sequence[Run],
    store: Store,
    execution: Execution,
    asked: Jobs,
    profile: profiles.Profile,
    renew: Collection[str],
) -> Iterator[list[str]]:
    """Submit arrays, one per distinct request and no larger than the cluster allows; yields each one's job ids."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in missing:
        groups[json.dumps(profile.request(run.settings["network"]))].append(run)
    requests = [(json.loads(request), runs) for request, runs in groups.items()]
    _check_paths(store)
    _check_data(missing, store, execution)
    for request, _ in requests:
        _check_request(request)
    limit = _array_limit()
    for request, runs in requests:
        device = "cuda" if request.get("gpus") and execution.device == "auto" else execution.device
        previous = None
        packs = list(_packs(runs, asked.runs_per_job))
        for start in range(0, len(packs), limit):
            executor = _slurm_executor(store, request, asked.max_parallel, previous)
            part, how = packs[start : start + limit], replace(execution, device=device)
            ids = _submit(executor, part, store, how, asked.launcher, renew)
            previous = ids[0].split("_")[0] if asked.max_parallel else None
            print(f"Job array {ids[0].split('_')[0]}: {counted(len(ids), 'job')}, {_described(request)}", flush=True)
            yield ids


def _packs(runs: Sequence[Run], size: int | None) -> Iterator[Sequence[Run]]:
    """The runs of each job; where a job has several, seeds of one run come together, as they train as one."""
    by_size: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_size[size or PACKED.get(run.settings["network"], 1)].append(run)
    for each, members in by_size.items():
        if each > 1:
            first = {run.digest: place for place, run in reversed(list(enumerate(members)))}
            members.sort(key=lambda run: first[run.digest])
        for start in range(0, len(members), each):
            yield members[start : start + each]


def _slurm_executor(
    store: Store, request: Request, max_parallel: int | None, previous: str | None
) -> submitit.SlurmExecutor:
    executor = submitit.SlurmExecutor(jobs.folder(store.folder).resolve(), max_num_timeout=RESTARTS)
    parameters: dict[str, Any] = {KEYS[key].submitit: value for key, value in request.items()}
    if "mem" in parameters:
        parameters["mem"] = f"{parameters['mem']}GB"
    if max_parallel:
        parameters["array_parallelism"] = max_parallel
    if previous:  # --max-parallel holds for all arrays of a request together
        parameters["dependency"] = f"afterany:{previous}"
    parameters["setup"] = [*request.get("setup", ()), *_environment()]
    # A killed process (137) is started again like a preempted one, but never one whose job was cancelled.
    # (SLURM_JOB_ID alone will not do: the last task of an array has that of the whole array.)
    parameters["teardown"] = [
        "code=$?",
        'job="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"',
        f'if [ $code = 137 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {RESTARTS} ] &&',
        '  [ "$(squeue --noheader --jobs="$job" --format=%T)" = RUNNING ]; then',
        '  scontrol requeue "$job"',
        "fi",
        "exit $code",
    ]
    executor.update_parameters(job_name="debiasing", stderr_to_stdout=True, **parameters)
    return executor


def _environment() -> list[str]:
    """Shell lines that let the node import this checkout, and give each process the threads of its CPUs."""
    return [
        f'export PYTHONPATH={shlex.quote(str(REPOSITORY))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"',
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"',
    ]


def _submit(
    executor: submitit.Executor,
    packs: Sequence[Sequence[Run]],
    store: Store,
    execution: Execution,
    launcher: str,
    renew: Collection[str],
) -> list[str]:
    """Submit one job for each pack, as an array where the launcher has them; returns the job ids."""
    renewed = [run for pack in packs for run in pack if run.id in renew]
    # Ctrl-C falls between two submissions, and never reaches processes started in here.
    with deferring(signal.SIGTERM), handling(signal.SIGINT, signal.SIG_IGN):
        for run in renewed:  # before a job looks what it has to do
            store.renew(run)
        try:
            with executor.batch():
                pending = [executor.submit(_task(pack, store, execution)) for pack in packs]
        except submitit.core.utils.FailedJobError as error:
            for run in renewed:
                store.keep_record(run)
            raise UserError(f"SLURM refused the jobs ({_refusal(str(error))}): see --profile and --slurm.") from error
        ids = [job.job_id for job in pending]
        log = jobs.folder(store.folder).resolve() / "%j_0_log.out"
        runs = {each: [run.id for run in pack] for each, pack in zip(ids, packs, strict=True)}
        jobs.register(store.folder, launcher, runs, log)
    return ids


def _refusal(text: str) -> str:
    return jobs.sentence("\n".join(line for line in text.splitlines() if "error: " in line) or text)


def _described(request: Request) -> str:
    return ", ".join(f"{key}={value}" for key, value in request.items())


def _submit_local(
    missing: Sequence[Run],
    store: Store,
    execution: Execution,
    asked: Jobs,
    profile: profiles.Profile,
    renew: Collection[str],
) -> Iterator[list[str]]:
    """Start as many processes as there are GPUs or CPUs, or --max-parallel, and deal the runs out to them."""
    import torch

    from benchmark.workers.worker import pick_device

    device = pick_device(execution.device)  # before a process is started that would only find it absent
    _check_data(missing, store, execution)
    gpus: list[int] = []
    if device.type == "cuda":
        named = execution.device not in ("auto", "cuda")
        gpus = [device.index] if named else list(range(torch.cuda.device_count()))
        execution = replace(execution, device="cuda")  # the only one that a process sees
    count = min(len(missing), asked.max_parallel or len(gpus) or cores())
    # Each process gets its share of the CPUs; how sums are split over threads shows in the last digits.
    os.environ["OMP_NUM_THREADS"] = str(threads_each(count))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    for number in range(count):
        executor = submitit.LocalExecutor(jobs.folder(store.folder).resolve())
        visible = {"gpus_per_node": 1, "visible_gpus": [gpus[number % len(gpus)]]} if gpus else {}
        executor.update_parameters(timeout_min=365 * 24 * 60, stderr_to_stdout=True, **visible)
        ids = _submit(executor, [missing[number::count]], store, execution, asked.launcher, renew)
        print(f"Process {ids[0]}: {counted(len(missing[number::count]), 'run')}", flush=True)
        yield ids


def _check_data(missing: Sequence[Run], store: Store, execution: Execution) -> None:
    """Prepare and load all data here, once, before the jobs want it. Raises UserError where that fails."""
    import torch

    from benchmark.workers.worker import Worker

    Worker(store, execution.data_root, torch.device("cpu")).prepare(missing)


def _check_paths(store: Store) -> None:
    """Raises UserError for folders whose names SLURM would not take as they are, however they are quoted."""
    logs = str(jobs.folder(store.folder).resolve())
    if has_controls(logs) or not is_text(logs) or "%" in logs:
        raise UserError(f"SLURM cannot write logs into '{logs}', for a character in that name: choose other --results.")
    if ":" in str(REPOSITORY) or not is_text(str(REPOSITORY)):
        raise UserError(f"A job cannot import from '{REPOSITORY}', for a character in that name: move the checkout.")


def _check_request(request: Request) -> None:
    """Raises UserError when SLURM would refuse such a job, or a node that is free cannot import the code."""
    flags = profiles.flags(request)
    refused = subprocess.run(["sbatch", "--test-only", *flags, "--wrap=true"], capture_output=True, text=True)
    if refused.returncode:
        raise UserError(f"SLURM refuses such jobs ({_refusal(refused.stderr)}): see --profile and --slurm.")
    test = "import slurm.job; from importlib.util import find_spec; assert find_spec('torch'), 'no PyTorch'"
    script = "\n".join([*request.get("setup", ()), *_environment(), shlex.join([sys.executable, "-c", test])])
    command = ["srun", "--immediate=5", "--quiet", *flags, "--time=5", "bash", "-c", script]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode and re.search(r"Error|Exception|not found|No such file", tried.stderr):
        reason = [line for line in tried.stderr.splitlines() if not line.startswith("srun:")]
        raise UserError(f"A node cannot run this checkout ({reason[-1]}): share {REPOSITORY} and {sys.prefix} with it.")
    if tried.returncode:
        print("No node was free to try the code on; jobs that cannot import it will fail.", flush=True)


def _array_limit() -> int:
    """The largest number of jobs in an array."""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    return int(found[1]) if found else 1000


def _wait(runs: Sequence[Run], store: Store) -> int:
    """Wait until no run is waiting or running; returns how many have no record. One of older code is a record."""
    shown = ""
    open_runs = list(runs)
    while True:
        found = status.survey(open_runs, store, jobs.last_jobs(store.folder, accounting=False))
        open_runs = [each.run for each in found if each.condition not in ("done", "stale")]
        line = f"{len(runs) - len(open_runs)} of {len(runs)} done; others: {status.counts(found)}"
        if line != shown:
            print(line, flush=True)
            shown = line
        if not any(each.condition in ("running", "waiting") for each in found):
            return len(open_runs)
        time.sleep(POLL_SECONDS)


def _say_how_to_go_on(runs: Sequence[Run], store: Store, launcher: str) -> None:
    last = jobs.last_jobs(store.folder, accounting=False)
    alive = (last[run.id] for run in runs if run.id in last and last[run.id].alive)
    if ids := sorted({job.id.split("_")[0] for job in alive}, key=int):
        print("The same command with --status instead of --launcher shows how they stand, with --wait waits for them,")
        print(
            f"with --collect writes the tables; cancel them with: {'kill' if launcher == 'local' else 'scancel'} ",
            end="",
        )
        print(*ids, flush=True)
