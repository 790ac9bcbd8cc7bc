"""Which jobs were submitted for which runs, and how the scheduler says they stand."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.store.atomic import write_atomically
from benchmark.store.processes import machine, started
from benchmark.store.status import Job

# States of squeue in which a job does not run but will.
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")


def folder(results: Path) -> Path:
    """Where jobs keep their logs, submitit its files, and submissions their notes."""
    return results / "jobs"


def submission(launcher: str, runs: Mapping[str, Sequence[str]], log: Path) -> str:
    """The note of a submission: the run ids of each job, by job id; ``log`` is a job's log file, %j its id."""
    content: dict[str, Any] = {"launcher": launcher, "submitted": time.time(), "runs": dict(runs), "log": str(log)}
    if launcher == "local":  # process ids are used again by other machines and other processes
        content |= {"machine": machine(), "started": {job: started(int(job)) for job in runs}}
    return json.dumps(content) + "\n"


def register(results: Path, launcher: str, runs: Mapping[str, Sequence[str]], log: Path) -> None:
    """Store the note of a submission in the results folder."""
    name = f"{launcher}-{next(iter(runs)).split('_')[0]}.json"
    write_atomically(folder(results) / name, submission(launcher, runs, log))


def last_jobs(results: Path, accounting: bool = True) -> dict[str, Job]:
    """The last job of each run that was ever submitted, by run id; ``accounting`` asks how jobs have ended, too.

    Raises UserError when SLURM does not answer.
    """
    submissions = [json.loads(path.read_text(encoding="utf-8")) for path in folder(results).glob("*.json")]
    arrays = {job.split("_")[0] for each in submissions if each["launcher"] == "slurm" for job in each["runs"]}
    states = slurm_states(arrays, accounting) if arrays else {}
    last: dict[str, Job] = {}
    for each in sorted(submissions, key=lambda each: each["submitted"]):
        for job, runs in each["runs"].items():
            state = _local_state(each, job) if each["launcher"] == "local" else states.get(job, "")
            last |= dict.fromkeys(runs, Job(job, each["log"].replace("%j", job), state))
    return last


def _local_state(submission: dict[str, Any], job: str) -> str:
    if submission["machine"] != machine():
        return ""
    return "running" if started(int(job)) == submission["started"][job] else ""


def slurm_states(arrays: Collection[str], accounting: bool = True) -> dict[str, str]:
    """State of each job of the given arrays: "waiting", "running", or SLURM's word for its end where it has one.

    Raises UserError when squeue fails. A cluster without accounting knows nothing of jobs that have ended.
    """
    if shutil.which("squeue") is None:  # a laptop that shares the results folder
        return {}
    listed = ",".join(sorted(arrays))
    states = _ended(listed) if accounting else {}
    queue = _call("squeue", "--noheader", "--array", "--format=%i|%T", f"--jobs={listed}")
    # What squeue says of an array that ended too long ago for it to remember.
    if queue.returncode and "Invalid job id" not in queue.stderr:
        raise UserError(f"SLURM does not say which jobs are queued ({sentence(queue.stderr)}): try again.")
    for line in queue.stdout.split():
        job, _, state = line.partition("|")
        states[job] = "waiting" if state in WAITING else "running"
    return states


def _ended(listed: str) -> dict[str, str]:
    """How jobs have ended, as far as the accounting, which lags behind and may be absent, knows."""
    found = _call("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State", f"--jobs={listed}")
    pairs = (line.split("|")[:2] for line in found.stdout.splitlines() if "|" in line)
    return {job: state for job, state in pairs if state not in ("PENDING", "RUNNING", "REQUEUED")}


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def sentence(text: str) -> str:
    """The messages of a SLURM command on one line, without their prefixes."""
    lines = (line.split("error: ", 1)[-1].strip() for line in text.splitlines())
    return "; ".join(line for line in lines if line) or "no reason given"
