"""One task of an array submitted by hand: ``sbatch --array=0-35 slurm/array.sbatch --table 1``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmark.errors import UserError, exit_code
from benchmark.options import execution, parser
from benchmark.plan.run import Run
from benchmark.selection import select
from benchmark.store import leases
from benchmark.store.atomic import create_atomically
from benchmark.store.store import Store
from benchmark.terminal.display import display
from slurm import jobs

AGAIN = 75
"""The exit code that asks slurm/array.sbatch to requeue the task; EX_TEMPFAIL of sysexits.h."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the i-th run that was missing when the array began. Exit codes are those of benchmark.run, and AGAIN."""
    return exit_code(lambda: _train(parser().parse_args(arguments)))


def _train(options: argparse.Namespace) -> int:
    if options.again:
        raise UserError("--again is for all tasks at once: give it to benchmark.run --launcher slurm.")
    for name in ("search", "status", "dry_run", "render_only", "list", "show"):
        if getattr(options, name) not in (None, False):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"A task of an array only trains: give {flag} to benchmark.run instead.")
    job = leases.slurm_job()
    if job is None or "_" not in job:
        raise UserError("This is a task of a SLURM array: submit it with sbatch --array=0-35 slurm/array.sbatch.")
    store = Store(options.results)
    run = _share(select(options).runs(), store, job)
    if run is None or store.has(run):
        print("Nothing to train.")
        return 0
    from benchmark.workers.worker import worker_for

    worker = worker_for(store, execution(options), log=_log(job))

    def suspend(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # it may come twice: from SLURM, and passed on by a container
        worker.suspend()
        sys.exit(AGAIN)

    signal.signal(signal.SIGUSR2, suspend)
    with display(1) as shown:
        worker.tell = shown.tell
        return 1 if "failed" in worker.work([run]) else 0


def _share(runs: Sequence[Run], store: Store, job: str) -> Run | None:
    """The run of this task; None when the array has more tasks than there were runs.

    What is missing changes while the array's tasks come and go, so the first of them notes it for all.
    """
    array = job.split("_")[0]
    note = jobs.folder(store.folder) / f"slurm-{array}.json"
    if not note.exists():
        missing = [run.id for run in runs if not store.has(run)][: int(os.environ["SLURM_ARRAY_TASK_MAX"]) + 1]
        content = jobs.submission("slurm", {f"{array}_{i}": [run] for i, run in enumerate(missing)}, _log("%j"))
        try:
            create_atomically(note, content)
        except FileExistsError:
            pass  # another task was faster
    try:
        mine = jobs.read(note).runs.get(job, ())
    except (ValueError, OSError) as error:
        raise UserError(f"{note} is damaged ({error}): submit the array again.") from error
    return next((run for run in runs if run.id in mine), None)


def _log(job: str) -> Path:
    """Where sbatch puts the output, as slurm/array.sbatch does not say otherwise."""
    return Path(os.environ.get("SLURM_SUBMIT_DIR", "."), f"slurm-{job}.out")


if __name__ == "__main__":
    sys.exit(main())
