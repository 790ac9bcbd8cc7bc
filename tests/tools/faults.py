"""Do to a results folder what happens to one in years, and count what is lost.

``python -m tests.tools.faults`` takes some minutes on two cores; with ``--write`` its table goes into
docs/reliability.md. Launchers are forked processes that train colored digits for three epochs. Each fault is followed
by a launcher that nothing disturbs; then every record must be there, once, whole, and hold the numbers of an
undisturbed run, bit for bit.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmark import run as command
from benchmark.cores import cores
from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.plan.table import Override
from benchmark.report import figures, tables  # noqa: F401 (loaded once, not in every forked launcher)
from benchmark.speed import report as speed
from benchmark.store import atomic, leases
from benchmark.store.provenance import REPOSITORY
from benchmark.store.store import Store
from benchmark.workers.worker import Worker
from slurm import jobs

PAGE = REPOSITORY / "docs" / "reliability.md"
MARKS = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
EPOCHS = 3
OPTIONS = ("--tasks", "colored_digits", "--methods", "lff", "jtt", "--set", f"epochs={EPOCHS}", "--seeds", "1")
HARMS = ("lost", "duplicated", "overwritten", "wrong", "traceback")
FORK = get_context("fork")


def new_run(method: str, seed: int = 0) -> Run:
    return Run(load().resolve("colored_digits", method, [Override("", "epochs", EPOCHS)]), seed)


# Launchers


@dataclass(frozen=True)
class Fault:
    """Something that happens at the launcher's n-th call that may change the folder, before or after it.

    ``harm`` is called there and, where ``lasting``, at all later calls.
    """

    at: int
    harm: Callable[[], object]
    after: bool = False
    lasting: bool = False


CALLS = ((os, "open"), (os, "pwrite"), (os, "fsync"), (os, "replace"), (os, "link"), (os, "unlink"), (io, "open"))


def inject(fault: Fault | None, folder: Path) -> list[int]:
    """Let the fault happen in this process; returns a list whose one number counts the calls."""
    count = [0]

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keys: Any) -> Any:
            named = not isinstance(arguments[0], int)
            reads = original is io.open and (arguments[1:] or ("r",))[0] in ("r", "rb")
            if (named and str(folder) not in str(arguments[0])) or reads:
                return original(*arguments, **keys)
            beats = threading.current_thread() is not threading.main_thread()  # a lease's, as many as time allows
            count[0] += not beats
            due = fault is not None and (
                (count[0] == fault.at and not beats) or (fault.lasting and count[0] >= fault.at)
            )
            if fault and due and not fault.after:
                fault.harm()
            result = original(*arguments, **keys)
            if fault and due and fault.after:
                fault.harm()
            return result

        return call

    for module, name in CALLS:
        setattr(module, name, wrapped(getattr(module, name)))
    return count


def speak_into(log: Path) -> None:
    """Let this process say everything in a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)


def work(folder: Path, runs: Sequence[Run], log: Path, fault: Fault | None, calls: Any) -> None:
    """What a launcher does, all that it says in a log; ``calls`` gets the number of calls that change the folder."""
    speak_into(log)
    leases.BEAT, leases.STALE = 0.1, 0.6
    atomic.Patience.__init__.__defaults__ = (0.5,)
    pause = time.sleep
    atomic.time.sleep = lambda seconds: pause(min(seconds, 0.1))
    count = inject(fault, folder)
    try:
        store = Store(folder)
        store.check_writable()
        store.clean()
        Worker(store, Path("unused"), torch.device("cpu"), checkpoint_seconds=0).work(
            [run for run in runs if store.load(run) is None]
        )
    except (UserError, OSError) as error:  # of which a command makes a sentence
        print(f"error: {error}")
    except BaseException:
        traceback.print_exc()
    if calls is not None:
        calls.value = count[0]


def launch(folder: Path, runs: Sequence[Run], log: Path, fault: Fault | None = None, calls: Any = None) -> Any:
    process = FORK.Process(target=work, args=(folder, runs, log, fault, calls))
    process.start()
    return process


def end(process: Any, seconds: float = 60) -> None:
    """Wait for a launcher; one that hangs is a failure of the whole measurement."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError("a launcher has not come to its end")


def run_main(arguments: Sequence[str], log: Path) -> None:
    """A command line in a process of its own."""

    def main() -> None:
        speak_into(log)
        try:
            command.main(arguments)
        except BaseException:
            traceback.print_exc()

    process = FORK.Process(target=main)
    process.start()
    end(process)


# What must be true afterwards


class Numbers(NamedTuple):
    record: str
    predictions: bytes


def numbers(folder: Path, run: Run) -> Numbers | None:
    """The record but for where it comes from and whether it started over, and its predictions; None without either."""
    store = Store(folder)
    record = store.load(run)
    predictions = store.predictions(record) if record else None
    if record is None or predictions is None:
        return None
    content = json.loads(store.record_path(run).read_bytes())
    del content["provenance"]
    content["warnings"] = [each for each in content["warnings"] if not each.startswith("Checkpoint ")]
    return Numbers(json.dumps(content), b"".join(each.tobytes() for each in predictions))


@cache
def undisturbed(method: str) -> Numbers:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        end(launch(folder / "results", [new_run(method)], folder / "log"))
        found = numbers(folder / "results", new_run(method))
    assert found
    return found


def whole(folder: Path) -> dict[Path, bytes]:
    """The records and predictions that are there, by their paths."""
    files = [*folder.rglob("*-s*.json"), *folder.rglob("*.npz")]
    return {path: path.read_bytes() for path in files if path.is_file() and ".failed." not in path.name}


def finish(
    folder: Path, runs: Sequence[Run], log: Path, before: Mapping[Path, bytes], predicts: bool = True
) -> Counter[str]:
    """Let an undisturbed launcher finish; what harm there is then. ``before`` are records that may not change."""
    end(launch(folder, runs, log))
    harm: Counter[str] = Counter()
    after = whole(folder)
    harm["overwritten"] += sum(after.get(path) != content for path, content in before.items())
    for run in runs:
        found = numbers(folder, run)
        record = Store(folder).load(run)
        if record is None or (predicts and found is None):
            harm["lost"] += 1
        elif found and found != undisturbed(run.method):
            harm["wrong"] += 1
        beside = [path for path in Store(folder).record_path(run).parent.iterdir() if run.digest in path.name]
        spare = [
            path for path in beside if not re.fullmatch(r".*-s\d+\.(json|[0-9a-f]{12}\.npz)(\.corrupt-.*)?", path.name)
        ]
        twice = sum(path.suffix == ".npz" for path in beside) > 1
        harm["duplicated"] += bool(spare) or twice
    harm["traceback"] += "Traceback" in log.read_text(errors="replace")
    return harm


# Faults

Trial = Callable[[Path, random.Random], Counter[str]]
METHODS = ("lff", "jtt")


def killed_at_random(folder: Path, rng: random.Random) -> Counter[str]:
    """SIGKILL at a random moment of a run."""
    runs, log = [new_run(rng.choice(METHODS))], folder.with_suffix(".log")
    process = launch(folder, runs, log)
    time.sleep(rng.uniform(0, 0.7))
    process.kill()
    process.join()
    return finish(folder, runs, log, whole_records(folder, runs))


def whole_records(folder: Path, runs: Sequence[Run]) -> dict[Path, bytes]:
    """The finished runs' records with their predictions."""
    store = Store(folder)
    found = {}
    for run in runs:
        if record := store.load(run):
            for path in (store.record_path(run), store.predictions_path(record)):
                if path.exists():
                    found[path] = path.read_bytes()
    return found


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def killed_at(at: int, after: bool) -> Trial:
    """SIGKILL before or after one call that changes the folder."""

    def trial(folder: Path, rng: random.Random) -> Counter[str]:
        runs, log = [new_run("lff")], folder.with_suffix(".log")
        end(launch(folder, runs, log, Fault(at, kill, after)))
        return finish(folder, runs, log, whole_records(folder, runs))

    return trial


def failing(at: int, number: int, lasting: bool) -> Trial:
    """An error of the disk at one call, or at it and all that follow."""

    def harm() -> None:
        raise OSError(number, os.strerror(number))

    def trial(folder: Path, rng: random.Random) -> Counter[str]:
        runs, log = [new_run("lff"), new_run("jtt")], folder.with_suffix(".log")
        end(launch(folder, runs, log, Fault(at, harm, lasting=lasting)))
        return finish(folder, runs, log, whole_records(folder, runs))

    return trial


def stopped(at: int | None) -> Trial:
    """SIGSTOP for longer than STALE, at a random moment or a call; another finishes the run; then SIGCONT."""

    def trial(folder: Path, rng: random.Random) -> Counter[str]:
        runs, log = [new_run("lff")], folder.with_suffix(".log")
        moment = rng.uniform(0.02, 0.4)
        while not is_stopped(late := launch(folder, runs, log, Fault(at, stop) if at else None), moment, bool(at)):
            shutil.rmtree(folder)  # it had come to its end before
            moment /= 2
        end(launch(folder, runs, log))
        before = whole_records(folder, runs)
        harm = Counter({"lost": int(not before)})
        os.kill(late.pid, signal.SIGCONT)
        end(late)
        harm["overwritten"] += sum(whole(folder).get(path) != content for path, content in before.items())
        return harm + finish(folder, runs, log, before)

    return trial


def is_stopped(process: Any, moment: float, by_itself: bool) -> bool:
    """Stop a launcher at a moment, or wait until it has stopped itself; whether it is stopped and not at its end."""
    if not by_itself:
        time.sleep(moment)
        os.kill(process.pid, signal.SIGSTOP)
    while (state := Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]) not in "TZ":
        time.sleep(0.01)
    return state == "T"


def on_a_full_disk(room: int) -> Trial:
    """A small disk with so many bytes left beside the megabyte that a launcher asks for."""

    def trial(folder: Path, rng: random.Random) -> Counter[str]:
        runs, log = [new_run("lff")], folder.with_suffix(".log")
        folder.mkdir()
        with small_disk(folder, 4 << 20):
            ballast = folder / "ballast"
            free = shutil.disk_usage(folder).free
            ballast.write_bytes(bytes(max(0, free - (2 << 20))))
            process = launch(folder, runs, log)
            time.sleep(rng.uniform(0, 0.2))
            fill(folder / "more", room)
            end(process)
            full = [path for path in folder.rglob("*") if path.suffix in (".json", ".npz") and not path.stat().st_size]
            ballast.unlink()
            (folder / "more").unlink()
            return Counter({"lost": len(full)}) + finish(folder, runs, log, whole_records(folder, runs))

    return trial


def fill(path: Path, room: int) -> None:
    try:
        with path.open("wb", buffering=0) as file:
            while shutil.disk_usage(path.parent).free > room:
                file.write(bytes(4096))
    except OSError:
        pass


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def together(launchers: int, killing: bool) -> Trial:
    """Several launchers at once with the same runs; one of them perhaps killed."""

    def trial(folder: Path, rng: random.Random) -> Counter[str]:
        runs, log = [new_run("lff"), new_run("jtt")], folder.with_suffix(".log")
        processes = [launch(folder, runs, log) for _ in range(launchers)]
        if killing:
            time.sleep(rng.uniform(0.1, 0.8))
            processes[0].kill()
        for process in processes:
            end(process)
        return finish(folder, runs, log, whole_records(folder, runs))

    return trial


# Damaged files

CONTENTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda old, rng: b"",
    lambda old, rng: b"[]\n",
    lambda old, rng: b"null",
    lambda old, rng: b"{}\n",
    lambda old, rng: b"\xff" * 50,
    lambda old, rng: b'{"a":' + b"[" * 50_000 + b"}\n",
    lambda old, rng: old[: rng.randrange(len(old))],
    lambda old, rng: old[: (half := rng.randrange(len(old)))] + bytes(len(old) - half),  # half of zeros
    lambda old, rng: re.sub(rb"\b\d+\b", b"9" * 400, old),
    lambda old, rng: re.sub(rb"\b\d+\b", b"null", old),
    lambda old, rng: old.replace(b"[", b"{", 1) + b"}\n",
    lambda old, rng: old + old,
)
FLIPPED = 8  # bits, one a trial
PLACES = ("record", "predictions", "checkpoint", "lease", "failure", "submission", "measurement", "temporary")
TEXTS = ("record", "failure", "submission", "measurement")  # in which another digit is another truth


def flipped(old: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(old))
    return old[:place] + bytes([old[place] ^ (1 << rng.randrange(8))]) + old[place + 1 :]


def damaged(place: str, change: Callable[[bytes, random.Random], bytes]) -> Trial:
    """One file of a folder in use is damaged; then everything is asked for: status, training, tables."""

    def trial(folder: Path, rng: random.Random) -> Counter[str]:
        shutil.copytree(template(), folder)
        done, begun = new_run("lff"), new_run("jtt")
        log, store = folder.with_suffix(".log"), Store(folder)
        log.touch()
        record = store.load(done)
        assert record
        path = {
            "record": store.record_path(done),
            "predictions": store.predictions_path(record),
            "checkpoint": store.checkpoint_path(begun),
            "lease": store.record_path(begun).with_name(f"{begun.digest}-s0.1.lease"),
            "failure": store.failure_path(begun),
            "submission": next(jobs.folder(folder).glob("*.json")),
            "measurement": folder / "speed" / "cpu.json",
            "temporary": max(store.record_path(begun).parent.glob(".*.tmp"), key=lambda each: each.stat().st_size),
        }[place]
        path.write_bytes(change(path.read_bytes(), rng))
        content = path.read_bytes()
        untouched = {each: old for each, old in whole_records(folder, [done, begun]).items() if each != path}
        run_main([*OPTIONS, "--results", str(folder), "--status"], log)
        run_main([*OPTIONS, "--results", str(folder), "--render-only"], log)
        if place == "measurement":
            speed.write(folder)
        if place == "record":
            untouched = {}
        harm = finish(folder, [done, begun], log, untouched, predicts=place != "predictions")
        if place == "record":  # nothing that was stored is ever lost
            harm["lost"] += content not in [each.read_bytes() for each in path.parent.glob("*.json*")]
        if place == "predictions" and content != old_predictions():
            record = store.load(done)
            harm["wrong"] += record is not None and store.predictions(record) is not None
        return harm

    return trial


def old_predictions() -> bytes:
    # The other run may have been killed between its predictions and its record.
    (path,) = template().rglob(f"{new_run('lff').digest}*.npz")
    return path.read_bytes()


@cache
def template() -> Path:
    """A folder with one run done, one killed in its second epoch, failed before, and files of every kind."""
    folder = Path(tempfile.mkdtemp()) / "results"
    done, begun = new_run("lff"), new_run("jtt")
    log = folder.with_suffix(".log")
    end(launch(folder, [done], log))
    store = Store(folder)
    for at in range(1, 100):
        end(launch(folder, [begun], log, Fault(at, kill)))
        left = store.record_path(begun).parent
        if store.checkpoint_path(begun).exists() and any(path.stat().st_size for path in left.glob(".*.tmp")):
            break
    else:
        raise AssertionError("no launcher was killed while it wrote")
    *others, lease = sorted(left.glob(f"{begun.digest}*.lease"), key=lambda path: path.stat().st_size)
    for path in others:
        path.unlink()
    lease.rename(lease.with_name(f"{begun.digest}-s0.1.lease"))
    store.save_failure(begun, "out of memory", "trace")
    jobs.register(folder, "local", {"1": [begun.id]}, folder / "%j.out")
    (folder / "speed").mkdir()
    shutil.copy(REPOSITORY / "results" / "speed" / "cpu-mlp-28.json", folder / "speed" / "cpu.json")
    return folder


# All of them


def calls_of(run: Run) -> int:
    """How many calls of a launcher with this run may change the folder."""
    with tempfile.TemporaryDirectory() as name:
        calls = FORK.Value("i", 0)
        end(launch(Path(name) / "results", [run], Path(name) / "log", calls=calls))
        return int(calls.value)


def trials(rng: random.Random, calls: int) -> list[tuple[str, Trial]]:
    """Every trial with the kind of fault it belongs to; a launcher makes so many calls that change the folder."""
    found: list[tuple[str, Trial]] = []
    found += [("killed at a random moment", killed_at_random)] * 40
    found += [("killed before or after each call that changes the folder", killed_at(at, after))
              for at in range(1, calls + 1) for after in (False, True)]  # fmt: skip
    errors = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.ESTALE)
    found += [
        ("an error of the disk at each such call", failing(at, errors[at % 4], False)) for at in range(1, calls + 1)
    ]
    found += [("a disk that stays full, or read-only, from a call on", failing(at, rng.choice(errors), True))
              for at in range(1, calls + 1, 3)]  # fmt: skip
    found += [("stopped for longer than a lease lasts, at a random moment", stopped(None))] * 20
    found += [("stopped for longer than a lease lasts, at a call", stopped(at)) for at in range(4, calls + 1, 2)]
    found += [("a small disk that fills up", on_a_full_disk(rng.choice((0, 4096, 20_000)))) for _ in range(16)]
    for place in PLACES:
        flips = [] if place in TEXTS else [flipped] * FLIPPED
        found += [("a damaged file", damaged(place, change)) for change in (*CONTENTS, *flips)]
    found += [("two to four launchers at once", together(2 + number % 3, False)) for number in range(9)]
    found += [("two to four launchers at once, one killed", together(2 + number % 3, True)) for number in range(9)]
    return found


def measure(share: int, of: int, seed: int, calls: int, results: Any) -> None:
    """Do every ``of``-th trial, each with a random generator of its own."""
    for number, (kind, trial) in enumerate(trials(random.Random(seed), calls)):
        if number % of != share:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "results"
            try:
                harm = trial(folder, random.Random(f"{seed} {number}"))
            except BaseException:
                traceback.print_exc()
                harm = Counter({"traceback": 1})
            if any(harm.values()):
                said = (Path(name) / "results.log").read_text(errors="replace")[-3000:]
                print(f"{number} {kind}: {dict(+harm)}\n{said}", flush=True)
        results.put((kind, {name: harm[name] for name in HARMS}))
    results.put(None)


def table(found: Sequence[tuple[str, Mapping[str, int]]]) -> str:
    """A line for each kind of fault: how often it was done, and what harm it did."""
    kinds = dict.fromkeys(kind for kind, _ in found)
    lines = [f"| Fault | n | {' | '.join(HARMS)} |", "|---|--:|" + "--:|" * len(HARMS)]
    for kind in [*kinds, "all"]:
        own = [harm for each, harm in found if kind in (each, "all")]
        lines.append(f"| {kind} | {len(own)} | {' | '.join(str(sum(harm[name] for harm in own)) for name in HARMS)} |")
    return "\n".join(lines) + "\n"


def described(n: int, seconds: float, seed: int) -> str:
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "log", "-1", "--format=%h of %cs"], capture_output=True, text=True, check=True
    ).stdout.strip()
    processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return (
        f"`python -m tests.tools.faults --seed {seed}`: n = {n} faults in {seconds / 60:.1f} minutes on "
        f"{cores()} cores ({processor[1] if processor else platform.machine()}), Linux, "
        f"PyTorch {torch.__version__}, commit {commit}.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    if Path(__file__).resolve().parents[2] != REPOSITORY:
        parser.error(f"benchmark is that of {REPOSITORY}: run python -m tests.tools.faults from the top of a checkout")
    torch.set_num_threads(1)
    started = time.monotonic()
    dataset = Worker(Store(Path("unused")), Path("unused"), torch.device("cpu")).dataset(new_run("lff"))
    Worker.dataset = lambda self, run: dataset  # type: ignore[method-assign] # loaded once, not in every launcher
    with tempfile.TemporaryDirectory() as name:
        # Once in this process: the first optimiser imports half of PyTorch, which no launcher should have to.
        leases.BEAT = 0.1
        Worker(Store(Path(name)), Path("unused"), torch.device("cpu")).work([new_run(method) for method in METHODS])
        time.sleep(2 * leases.BEAT)
    for method in METHODS:
        undisturbed(method)
    template()
    calls = calls_of(new_run("lff"))
    planned = trials(random.Random(options.seed), calls)
    results: Any = FORK.Queue()
    shares = [
        FORK.Process(target=measure, args=(share, options.processes, options.seed, calls, results))
        for share in range(options.processes)
    ]
    for process in shares:
        process.start()
    found: list[tuple[str, Mapping[str, int]]] = []
    open_shares = len(shares)
    while open_shares:
        result = results.get()
        if result is None:
            open_shares -= 1
        else:
            found.append(result)
    order = {kind: place for place, kind in enumerate(dict.fromkeys(kind for kind, _ in planned))}
    found.sort(key=lambda each: order[each[0]])
    assert Counter(kind for kind, _ in found) == Counter(kind for kind, _ in planned), "some trials were not done"
    shutil.rmtree(template().parent)
    text = f"{table(found)}\n{described(len(found), time.monotonic() - started, options.seed)}"
    print(text)
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        PAGE.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")
    return int(any(sum(harm.values()) for _, harm in found))


if __name__ == "__main__":
    sys.exit(main())
