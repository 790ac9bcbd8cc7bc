"""What the integration tests and the fault table need of a running SLURM cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Sums depend on the number of threads: jobs and the runs they are compared with use one.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SLURM = ("--launcher", "slurm", "--slurm", "memory_gb=1")


def command(results: Path, *arguments: str) -> list[str]:
    fixed = ("--tasks", "colored_digits", "--device", "cpu", "--results", str(results))
    return [sys.executable, "-m", "benchmark.run", *fixed, *arguments]


def start(results: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(results, *arguments), cwd=ROOT, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(results: Path, *arguments: str, code: int = 0) -> str:
    """Run the command to its end; returns what it printed. Raises AssertionError for another exit code."""
    process = start(results, *arguments)
    printed = process.communicate()[0]
    assert process.returncode == code, printed
    return printed


def shell(*arguments: str) -> str:
    return subprocess.run(arguments, cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True, check=True).stdout


def queued(state: str = "") -> list[str]:
    """Ids of the jobs in the queue, those of one state only if it is given."""
    return shell("squeue", "--noheader", "--array", "--format=%i", *([f"--states={state}"] if state else [])).split()


def restarts(job: str) -> int:
    found = re.search(r"Restarts=(\d+)", shell("scontrol", "show", "job", job))
    assert found
    return int(found[1])


def wait_until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    """What the condition returns once it is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not become true within {seconds} s")
        time.sleep(0.3)
    return found


def wait_until_idle() -> None:
    """Jobs take as long as the machine lets them: the limit is for those that never end."""
    wait_until(lambda: not queued(), 1200)


def numbers(results: Path) -> dict[str, Any]:
    """Every record without its provenance, by its path; all else has to be the same however it was trained."""
    found = {}
    for path in results.glob("runs/**/*-s*.json"):
        if not path.name.endswith(".failed.json"):
            found[str(path.relative_to(results))] = json.loads(path.read_text())
            del found[str(path.relative_to(results))]["provenance"]
    return found


def leases(results: Path) -> list[dict[str, Any]]:
    """The leases whose owners say that they train."""
    texts = (path.read_text() for path in results.glob("runs/**/*.lease"))
    return [content for text in texts if text and not (content := json.loads(text))["released"]]


def training(results: Path, job: str | None = None) -> list[dict[str, Any]]:
    """The leases, of one job only if it is given, on runs that have a checkpoint to go on from."""
    return [
        lease
        for path in results.glob("runs/**/*.lease")
        if path.with_name(f"{path.name.split('.')[0]}.ckpt").exists()
        for lease in [json.loads(path.read_text() or "{}")]
        if lease and not lease["released"] and job in (None, lease["job"])
    ]


def times_trained(results: Path) -> dict[str, int]:
    """How often each run came to its end, by all logs: 1 unless it was trained twice."""
    found: dict[str, int] = {}
    for log in (*results.glob("jobs/*.out"), *results.glob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if match := re.match(r"done: (\S+ seed \d+) ", line):
                found[match[1]] = found.get(match[1], 0) + 1
    return found
