"""What the launcher itself costs: planning, looking at and submitting many runs, with a fake scheduler.

``python tests/launcher_speed.py`` prints the seconds for 10,000 runs, half of them done.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from fake_slurm import FakeSlurm

from benchmark import plan, status
from benchmark.store.store import Store
from benchmark.run import parser
from slurm import jobs, launch


def measure(folder: Path, runs: int) -> dict[str, float]:
    """Seconds of each step for about so many runs: nine methods, many seeds."""
    fake = FakeSlurm(folder / "slurm-commands")
    store = Store(folder / "results")
    options = parser().parse_args(["--launcher", "slurm", "--tasks", "colored_digits", "--results", str(store.folder)])
    methods = [row.method for row in plan.COMPARED]
    seconds = {}
    started = time.perf_counter()
    planned = plan.QUICK.runs(range(round(runs / len(methods))), ["colored_digits"], methods)
    seconds["planning"] = time.perf_counter() - started
    # As large as a record of a hundred epochs; only its end is looked at.
    content = "{" + " " * 50_000 + "}\n"
    for run in planned[::2]:
        store.record_path(run).parent.mkdir(parents=True, exist_ok=True)
        store.record_path(run).write_text(content)
    environment = {"PATH": f"{fake.folder}:{os.environ['PATH']}"}
    with mock.patch.dict(os.environ, environment), mock.patch.object(launch, "_check_data"):
        started = time.perf_counter()
        launch.launch(planned, store, options)
        seconds["submission"] = time.perf_counter() - started
        started = time.perf_counter()
        found = status.survey(planned, store, jobs.last_jobs(store.folder))
        status.report([(plan.QUICK, planned)], found)
        seconds["status"] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for step, taken in measure(Path(name), runs=int(sys.argv[1]) if len(sys.argv) > 1 else 10_000).items():
            print(f"{step:12}{taken:6.2f} s")
