"""Trains runs in several processes of this machine at once, one a core or one a GPU, under one display.

Every process is a ``Worker`` that takes the next runs from one queue and tells what happens through another. What it
computes does not depend on how many there are, but for the threads that a network other than the MLP may use.
"""

from __future__ import annotations

import io
import multiprocessing as mp
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from benchmark.cores import cores, threads_each
from benchmark.options import Execution
from benchmark.plan.run import Run
from benchmark.quoting import counted
from benchmark.store.store import Store
from benchmark.terminal.display import Event, Tell, display

if TYPE_CHECKING:
    from benchmark.workers.worker import Worker

GRACE = 20.0  # seconds that processes have to end by themselves after an interruption


class Place(NamedTuple):
    """Where a process trains: a device, and how many threads networks that gain from several may use."""

    device: str
    threads: int


def places(groups: Sequence[Sequence[Run]], worker: Worker, execution: Execution) -> list[Place]:
    """Where processes train these groups of runs: on every GPU, or on as many of this machine's cores as pay.

    A device that names one GPU, such as "cuda:1", is that one only.
    """
    workers = execution.workers
    if worker.device.type == "cuda":
        import torch

        names = [execution.device]
        if execution.device in ("auto", "cuda"):
            names = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        return [Place(name, worker.threads) for name in names[: min(workers or len(names), len(groups))]]
    most = min(workers or cores(), len(groups))
    large = [group[0] for group in groups if group[0].settings["network"] != "mlp"]
    if most > 1 and large and workers is None:
        from benchmark.training.trial import best_number

        dataset, _ = worker.dataset(large[0])
        most = best_number(large[0].settings, dataset.image_shape, len(dataset.class_names), most)
    return [Place("cpu", threads_each(most))] * most


def train(runs: Sequence[Run], store: Store, execution: Execution, renew: Collection[str] = ()) -> int:
    """Train the runs that have no record, and anew those of the ids ``renew``; returns how many have none in the end.

    Raises UserError, before any is trained, for what would make one fail and can be known.
    """
    missing = [run for run in runs if run.id in renew or store.lacks(run)]
    if not missing:
        return 0
    from benchmark.workers.worker import together, worker_for  # PyTorch is loaded only where something is trained

    worker = worker_for(store, execution)
    worker.prepare(missing)
    for run in missing:
        if run.id in renew:
            store.renew(run)
    groups = together(missing, worker.seeds_at_once)
    where = places(groups, worker, execution)
    outcomes: dict[str, str] = {}
    with display(len(missing)) as shown:

        def tell(event: Event) -> None:
            if event.kind == "ended" and event.outcome != "elsewhere":
                outcomes.update(dict.fromkeys(event.runs, event.outcome))
            shown.tell(event)

        worker.tell, worker.threads = tell, where[0].threads
        if len(where) > 1:
            worker.forget_data()
            Crew(where, store.folder, execution, tell).train(groups)
        # Where several processes trained, these are the runs that others have: to be watched until they are done.
        worker.work([run for run in missing if run.id not in outcomes])
    lacking = [run for run in missing if not store.has(run)]
    if elsewhere := [run for run in lacking if outcomes.get(run.id) != "failed"]:
        are = "is" if len(elsewhere) == 1 else "are"
        print(f"{counted(len(elsewhere), 'run')} {are} still being trained elsewhere: the same command waits for more.")
    return len(lacking)


class Crew:
    """Processes that train what is next in line; ``tell`` is called with what they tell."""

    def __init__(self, where: Sequence[Place], results: Path, execution: Execution, tell: Tell) -> None:
        context = mp.get_context("spawn")  # a forked copy of PyTorch's threads would hang
        self.tell = tell
        self.members: dict[Connection, BaseProcess] = {}
        self.groups: dict[Connection, list[Run]] = {}  # what each is training
        for place in where:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, place, results, execution), daemon=True)
            self.members[ours] = process
            process.start()
            theirs.close()  # so that its end is seen here
        self.results = results

    def train(self, groups: Sequence[list[Run]]) -> None:
        """Have all groups of runs trained, each by the next process that is free."""
        line, deaths = deque(groups), Counter[str]()
        try:
            while self.members:
                for connection in wait(list(self.members)):
                    assert isinstance(connection, Connection)
                    try:
                        event = connection.recv()
                    except (EOFError, ConnectionResetError):
                        self._bury(connection, line, deaths)
                        continue
                    if event is None:  # it asks for more
                        self._send(connection, line)
                    elif event.kind != "ended" or event.outcome != "elsewhere":
                        self.tell(event)
        finally:
            self._dismiss()

    def _send(self, connection: Connection, line: deque[list[Run]]) -> None:
        self.groups[connection] = line.popleft() if line else []
        try:
            connection.send(self.groups[connection])
        except OSError:  # it has died meanwhile, which the next wait sees
            pass

    def _bury(self, connection: Connection, line: deque[list[Run]], deaths: Counter[str]) -> None:
        """Give the runs of a process that ended to another; those at whose training a second one ends have failed."""
        process, group = self.members.pop(connection), self.groups.pop(connection, [])
        process.join()
        if not group:
            return
        reason = f"the process that trained it was killed (exit code {process.exitcode}), as for lack of memory"
        store = Store(self.results)
        for run in group:
            if store.has(run):
                continue
            deaths[run.id] += 1
            if deaths[run.id] == 1 and self.members:
                self.tell(Event("note", (run.id,), str(run), f"{run} is trained anew from its checkpoint: {reason}."))
                line.append([run])
            else:
                store.save_failure(run, reason, "")
                self.tell(Event("ended", (run.id,), str(run), reason, outcome="failed"))

    def _dismiss(self) -> None:
        """End the processes that are left, as after Ctrl-C: they put their leases down."""
        for process in self.members.values():
            process.terminate()
        for process in self.members.values():
            process.join(GRACE)
            process.kill()


def _serve(connection: Connection, place: Place, results: Path, execution: Execution) -> None:
    """The life of a process: train what comes until nothing does.

    Ctrl-C reaches it through its parent alone, and should the parent be gone, it goes too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    from benchmark.workers.worker import worker_for

    lock = threading.Lock()  # the thread that keeps leases alive may have something to say, too

    def tell(event: Event | None) -> None:
        with lock:
            connection.send(event)

    sys.stdout = _Printed(tell)
    here = replace(execution, device=place.device)
    worker = worker_for(Store(results), here, threads=place.threads, tell=tell)

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        worker.suspend()
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    tell(None)
    while group := connection.recv():
        worker.execute(group)
        tell(None)


def _follow() -> None:
    """Wait for the parent's end, then end this process as it would have."""
    parent = mp.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Printed(io.StringIO):
    """Takes what is printed, and tells it line by line: a display elsewhere has the terminal."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell, self._begun = tell, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._tell(Event("note", (), "", line))
        return len(text)
