"""Faults on a real SLURM, and what became of the records: ``python -m tests.tools.slurm_faults`` prints the table.

Needs the cluster of ``tests/integration/slurm_cluster.sh up`` (SLURM_CONF says where) and root. Every fault is done to
an array of the same six runs; afterwards the command is given again until nothing is left to submit. Lost are runs
without a record at the end, duplicated those that came to their last epoch more than once, wrong those whose record
differs from that of an undisturbed run in anything but its provenance and the warning of a damaged checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration import cluster
from tests.integration.cluster import SLURM, numbers, run, shell, times_trained, training, wait_until, wait_until_idle

EPOCHS = 150
WHAT = (
    "--methods", "vanilla", "lff", "gce", "--seeds", "2", "--set", f"epochs={EPOCHS}", "--checkpoint-seconds", "1",
)  # fmt: skip
ARRAY = (*WHAT, *SLURM, "--runs-per-job", "1", "--retry-failed")


def finish(results: Path) -> int:
    """Submit what is missing until there is nothing left; returns how often that was needed."""
    for attempt in range(5):
        wait_until_idle()
        if "Nothing to submit" in run(results, *ARRAY):
            return attempt
    raise AssertionError(run(results, *WHAT, "--status"))


def kill_processes(results: Path) -> str:
    killed: list[int] = []
    while len(killed) < 10:
        lease = wait_until(lambda: next((each for each in training(results) if each["pid"] not in killed), None))
        try:
            os.kill(lease["pid"], signal.SIGKILL)
        except ProcessLookupError:  # it has just finished
            continue
        killed.append(lease["pid"])
        time.sleep(2)
    return f"{len(killed)} processes killed"


def cancel_half(results: Path) -> str:
    wait_until(lambda: training(results))
    jobs = sorted(cluster.queued())[::2]
    shell("scancel", *jobs)
    return f"{len(jobs)} jobs cancelled"


def read_only(results: Path) -> str:
    """The folder of records, mounted on itself, becomes read-only under the writers' feet."""
    wait_until(lambda: training(results))
    wait_until(lambda: remount(results, "ro"))  # refused while a file in it is being written
    time.sleep(60)
    wait_until(lambda: remount(results, "rw"))
    return "60 s"


def remount(results: Path, option: str) -> bool:
    command = ["mount", "--options", f"remount,{option},bind", str(results / "runs")]
    return subprocess.run(command, capture_output=True).returncode == 0


def cut_in_half(path: Path) -> str:
    os.truncate(path, path.stat().st_size // 2)
    return path.name


def truncate_record(results: Path) -> str:
    return cut_in_half(wait_until(lambda: next(results.glob("runs/**/*-s?.json"), None)))


def truncate_checkpoint(results: Path) -> str:
    """Its owner, who would replace it within a second, is killed first."""
    path = wait_until(lambda: next(results.glob("runs/**/*-s?.ckpt"), None))
    (lease,) = (json.loads(each.read_text()) for each in path.parent.glob(f"{path.stem}.*.lease"))
    os.kill(lease["pid"], signal.SIGKILL)
    return cut_in_half(path)


def two_launchers(results: Path) -> str:
    """Two launchers submit the same runs at the same moment, and a laptop begins to train them inline."""
    with (results / "laptop.log").open("w") as log:
        laptop = subprocess.Popen(
            cluster.command(results, *WHAT), cwd=cluster.ROOT, env=cluster.ENVIRONMENT, stdout=log
        )
        launchers = [cluster.start(results, *ARRAY) for _ in range(2)]
        jobs = sum(process.communicate()[0].count("Job array") for process in launchers)
        laptop.wait()
    return f"{jobs} arrays and 1 laptop"


def clock_in_the_past(results: Path) -> str:
    """All leases say, over and over, that they were written in 1970, while a laptop wants the same runs."""
    stop = threading.Event()

    def set_back() -> None:
        while not stop.is_set():
            for path in results.glob("runs/**/*.lease"):
                try:
                    content = json.loads(path.read_text())
                    if not content["released"] and content["written"]:
                        draft = path.with_suffix(".draft")
                        draft.write_text(json.dumps(content | {"written": 0, "since": 0}))
                        os.replace(draft, path)
                    os.utime(path, (0, 0))
                except (OSError, ValueError):
                    pass
            stop.wait(0.5)

    wait_until(lambda: training(results))
    thread = threading.Thread(target=set_back)
    thread.start()
    with (results / "laptop.log").open("w") as log:
        subprocess.run(
            cluster.command(results, *WHAT), cwd=cluster.ROOT, env=cluster.ENVIRONMENT, stdout=log, check=True
        )
    wait_until_idle()
    stop.set()
    thread.join()
    return "all leases, twice a second"


FAULTS: dict[str, tuple[int, Callable[[Path], str]]] = {
    "process killed in mid-epoch": (1, kill_processes),
    "half an array cancelled": (1, cancel_half),
    "results folder read-only": (1, read_only),
    "checkpoint truncated": (1, truncate_checkpoint),
    "record truncated": (1, truncate_record),
    "two launchers at once": (5, two_launchers),
    "leases' clock in the past": (1, clock_in_the_past),
}


def disturb(fault: Callable[[Path], str], expected: dict[str, Any], results: Path) -> list[object]:
    """One row: what was done, resubmissions, lost, duplicated and wrong."""
    bound = fault is read_only
    (results / "runs").mkdir(parents=True)
    if bound:
        shell("mount", "--bind", str(results / "runs"), str(results / "runs"))
    try:
        if fault is not two_launchers:
            run(results, *ARRAY)
        done = fault(results)
        attempts = finish(results)
        found = numbers(results)
        # A record that was destroyed has to be made again; that is the repair, not a duplicate.
        repairs = fault is truncate_record
        again = sum(times - 1 for times in times_trained(results).values()) - repairs
        wrong = [
            name for name, record in found.items() if {**record, "warnings": []} != {**expected[name], "warnings": []}
        ]
        return [done, attempts, len(expected.keys() - found.keys()), again, len(wrong)]
    finally:
        if bound:
            shell("umount", "--lazy", str(results / "runs"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="slurm-faults-"))
    run(folder / "undisturbed", *WHAT)
    expected = numbers(folder / "undisturbed")
    print(
        "| fault | tries | done | resubmissions | lost | duplicated | wrong |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    bad = 0
    for name in options.faults:
        tries, fault = FAULTS[name]
        rows = [disturb(fault, expected, folder / f"{name.replace(' ', '-')}-{number}") for number in range(tries)]
        totals = [sum(values) for values in list(zip(*rows, strict=True))[1:]]
        bad += sum(totals[1:])
        print(f"| {name} | {tries} | {rows[-1][0]} | {' | '.join(map(str, totals))} |", flush=True)
    if not bad:
        shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
