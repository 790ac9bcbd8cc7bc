"""Which jobs were submitted for which runs, and how the scheduler says they stand."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from benchmark.errors import UserError, say
from benchmark.store.atomic import write_atomically
from benchmark.store.processes import LARGEST, machine, started
from benchmark.store.status import Job

# States of squeue in which a job does not run but will.
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")


def folder(results: Path) -> Path:
    """Where jobs keep their logs, submitit its files, and submissions their notes."""
    return results / "jobs"


JobId = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}(_[0-9]{1,18})?$")]


class Submission(msgspec.Struct, frozen=True, omit_defaults=True):
    """The note of a submission: the run ids of each job, by job id; ``log`` is a job's log file, %j its id.

    Of local processes, whose ids are used again by other machines and other processes, also where and when they began.
    """

    launcher: Annotated[str, msgspec.Meta(pattern="^(slurm|local)$")]
    submitted: float
    runs: dict[JobId, list[str]]
    log: str
    machine: str = ""
    started: dict[JobId, str | None] = {}

    def state(self, job: str) -> str:
        """How a local job stands."""
        if self.machine != machine() or not job.isdecimal() or not 0 < int(job) <= LARGEST:
            return ""
        return "running" if job in self.started and started(int(job)) == self.started[job] else ""


def submission(launcher: str, runs: Mapping[str, Sequence[str]], log: Path) -> str:
    """The text of the note of a submission."""
    note = Submission(launcher, time.time(), {job: list(each) for job, each in runs.items()}, str(log))
    if launcher == "local":
        began = {job: started(int(job)) for job in runs}
        note = msgspec.structs.replace(note, machine=machine(), started=began)
    return msgspec.json.encode(note).decode() + "\n"


def register(results: Path, launcher: str, runs: Mapping[str, Sequence[str]], log: Path) -> None:
    """Store the note of a submission in the results folder."""
    name = f"{launcher}-{next(iter(runs)).split('_')[0]}.json"
    write_atomically(folder(results) / name, submission(launcher, runs, log))


def read(path: Path) -> Submission:
    """The note of a submission. Raises ValueError for what is none, and OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Submission)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _submissions(results: Path) -> Iterator[Submission]:
    """The notes of all submissions, the oldest first; a damaged one is named and left out."""
    found = []
    for path in sorted(folder(results).glob("*.json")):
        try:
            found.append(read(path))
        except (ValueError, OSError) as error:
            say(f"Note {path} of a submission is damaged ({error}) and left out: its jobs are not known.")
    yield from sorted(found, key=lambda each: each.submitted)


def last_jobs(results: Path, accounting: bool = True) -> dict[str, Job]:
    """The last job of each run that was ever submitted, by run id; ``accounting`` asks how jobs have ended, too.

    Raises UserError when SLURM does not answer.
    """
    submissions = list(_submissions(results))
    arrays = {job.split("_")[0] for each in submissions if each.launcher == "slurm" for job in each.runs}
    states = slurm_states(arrays, accounting) if arrays else {}
    last: dict[str, Job] = {}
    for each in submissions:
        for job, runs in each.runs.items():
            state = each.state(job) if each.launcher == "local" else states.get(job, "")
            last |= dict.fromkeys(runs, Job(job, each.log.replace("%j", job), state))
    return last


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
