"""What the launcher itself costs: planning, looking at and submitting many runs, with a fake scheduler.

``python -m tests.tools.launcher_speed`` prints the seconds for 10,000 runs, half of them done.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from benchmark.options import execution, parser
from benchmark.options import jobs as jobs_asked
from benchmark.plan.paper import COMPARED
from benchmark.selection import select
from benchmark.store import status
from benchmark.store.store import Store
from benchmark.terminal import overview
from slurm import jobs, launch
from tests.slurm.fake_slurm import FakeSlurm


def measure(folder: Path, runs: int) -> dict[str, float]:
    """Seconds of each step for about so many runs: nine methods, many seeds."""
    fake = FakeSlurm(folder / "slurm-commands")
    store = Store(folder / "results")
    seeds = str(round(runs / len(COMPARED)))
    options = parser().parse_args(["--launcher", "slurm", "--quick", "--seeds", seeds, "--results", str(store.folder)])
    seconds = {}
    started = time.perf_counter()
    selection = select(options)
    planned = selection.runs()
    seconds["planning"] = time.perf_counter() - started
    # As large as a record of a hundred epochs; only its end is looked at.
    content = "{" + " " * 50_000 + "}\n"
    for run in planned[::2]:
        store.record_path(run).parent.mkdir(parents=True, exist_ok=True)
        store.record_path(run).write_text(content)
    environment = {"PATH": f"{fake.folder}:{os.environ['PATH']}"}
    with mock.patch.dict(os.environ, environment), mock.patch.object(launch, "_check_data"):
        started = time.perf_counter()
        launch.launch(planned, store, execution(options), jobs_asked(options))
        seconds["submission"] = time.perf_counter() - started
        started = time.perf_counter()
        found = status.survey(planned, store, jobs.last_jobs(store.folder))
        overview.print_status([("Quick", found)])
        seconds["status"] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for step, taken in measure(Path(name), runs=int(sys.argv[1]) if len(sys.argv) > 1 else 10_000).items():
            print(f"{step:12}{taken:6.2f} s")
