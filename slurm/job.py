"""What a job does: train its runs, and on the signal before a time-out or preemption save a checkpoint."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from benchmark.options import Execution
from benchmark.plan.run import Run
from benchmark.store.provenance import commit
from benchmark.store.record import Commit
from benchmark.store.store import Store
from benchmark.terminal.display import display

if TYPE_CHECKING:
    from benchmark.workers.worker import Worker


@dataclass
class TrainRuns:
    """The function that submitit pickles and calls on the node.

    It holds nothing but what to train and where: all progress lies beside the records. ``submitted`` is the
    commit at submission.
    """

    runs: tuple[Run, ...]
    results: Path
    execution: Execution
    submitted: Commit
    worker: Worker | None = field(default=None, init=False)

    def __call__(self) -> None:
        """Train what has no record yet. Raises RuntimeError when a run fails, so that SLURM lists the job as failed."""
        from benchmark.workers.worker import worker_for  # PyTorch is loaded on the node only

        if commit() != self.submitted:
            print(f"Submitted at {self.submitted}, running at {commit()}: the records will say so.", flush=True)
        environment = submitit.JobEnvironment()
        if environment.cluster == "local":
            # submitit ignores SIGTERM, which precedes a preemption; nobody preempts a local process.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = environment.paths.stdout
        store = Store(self.results)
        self.worker = worker_for(store, self.execution, log=log, submitted=self.submitted)
        missing = [run for run in self.runs if not store.has(run)]
        with display(len(missing)) as shown:
            self.worker.tell = shown.tell
            outcomes = self.worker.work(missing)
        if failed := outcomes.count("failed"):
            raise RuntimeError(f"{failed} of {len(self.runs)} runs failed; the lines above say why.")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit in the signal's handler; SLURM then starts the job again with what this returns."""
        # The requeueing kills this step, and the scontrol that asks for it runs in it: let it finish.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.worker:
            self.worker.suspend()
        return submitit.helpers.DelayedSubmission(replace(self))
