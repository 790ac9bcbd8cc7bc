"""What has become of each run: done, stale (by older code), running, waiting, failed or missing."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from benchmark.plan.run import Run
from benchmark.store import leases
from benchmark.store.store import Store

Condition = Literal["done", "stale", "running", "waiting", "failed", "missing"]
CONDITIONS: tuple[Condition, ...] = ("done", "stale", "running", "waiting", "failed", "missing")


@dataclass(frozen=True)
class Job:
    """The last job that a run was part of: its id, its log, and how it stands with the scheduler.

    ``state`` is "waiting" or "running", or what the scheduler called its end, "" where it does not know.
    """

    id: str
    log: str
    state: str

    @property
    def alive(self) -> bool:
        return self.state in ("waiting", "running")


@dataclass(frozen=True)
class Status:
    """A run, its condition, and what else there is to say about it."""

    run: Run
    condition: Condition
    note: str = ""


def survey(runs: Iterable[Run], store: Store, jobs: Mapping[str, Job]) -> list[Status]:
    """The status of each run; ``jobs`` are the last jobs by run id."""
    look = looking(store, jobs)
    return [Status(run, *look(run.id)) for run in runs]


def looking(store: Store, jobs: Mapping[str, Job]) -> Callable[[str], tuple[Condition, str]]:
    """A look at the run of an id: its condition, and a note. It lists every folder once."""

    @cache
    def files(folder: Path) -> frozenset[str]:
        return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()

    @cache
    def leased(folder: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in files(folder):
            if name.endswith(".lease"):
                found[name.split(".", 1)[0]].append(name)
        return found

    def look(run: str) -> tuple[Condition, str]:
        record = store.record_path(run)
        names = files(record.parent)
        renewed = record.with_suffix(".again").name in names and store.is_renewed(run)
        if record.name in names and not renewed and (stored := store.read(run)):
            return ("stale", f"{stored.stale}; --again trains it anew") if stored.stale else ("done", "")
        job = jobs.get(run)
        holder = leases.newest(record, leased(record.parent).get(record.stem, ()))
        if holder and not holder.gone and (running := _owner(holder, job)):
            return "running", running
        note = store.failure(run) if store.failure_path(run).name in names else {}
        if job and job.alive and note.get("job") != job.id:
            return "waiting", f"job {job.id}"
        if note:
            log = f"; log: {note['log']}" if note.get("log") else ""
            return "failed", f"{note.get('reason', 'unknown reason')}{log}"
        if job and job.state and not job.state.startswith(("CANCELLED", "COMPLETED")):
            return "failed", f"job {job.id} ended as {job.state}; log: {job.log}"
        notes = ["to be trained anew; its old record stands until then"] if renewed else []
        notes += [f"job {job.id} ended without a record; log: {job.log}"] if job else []
        notes += ["continues from its checkpoint"] if store.checkpoint_path(run).name in names else []
        return "missing", "; ".join(notes)

    return look


def _owner(holder: leases.Holder, job: Job | None) -> str:
    """Where the owner of a lease is and how far; "" when he seems to have died.

    A look cannot watch a lease for a minute, so clocks are compared here; nothing but this page depends on it.
    """
    owner = holder.owner
    if owner is None:
        return "just begun"
    if job and job.id == owner.job and job.state:
        if job.state != "running":  # requeued, or at its end, and did not live to release the lease
            return ""
    elif time.time() - owner.written > 2 * leases.STALE:
        return ""
    place = f"job {owner.job} on {owner.host}" if owner.job else f"{owner.host}, {owner.pid}"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.since))
    return f"{place}, epoch {owner.done} of {owner.total or '?'}, since {since}"


def counts(statuses: Iterable[Status]) -> str:
    """Such as "3 done, 0 running, 1 waiting, 0 failed, 5 missing"; stale ones are named where there are any."""
    number = Counter(each.condition for each in statuses)
    shown = (condition for condition in CONDITIONS if condition != "stale" or number["stale"])
    return ", ".join(f"{number[condition]} {condition}" for condition in shown)
