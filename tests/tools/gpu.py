"""All that only a GPU can show, in order of worth and in limited time: ``make gpu``, or ``python tests/tools/gpu.py``.

Stages run one after the other in processes of their own: the tests, the speed of every method, the C-MNIST grid, and
the reduced image tables. At the limit the one that runs is stopped; the same command goes on where it stood, for
finished stages are not repeated and runs continue from their checkpoints. Whatever there is in the end, records, speed
files, logs and a summary, is packed into one archive beside the folder, whose runs ``benchmark.merge`` takes in.
``--rehearse`` does it all in small on the CPU.

Needs PyTorch, what pyproject.toml names but for submitit, pytest, and the package's metadata: where PyTorch is
installed already, ``pip install --no-deps --editable .`` and the few others.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from benchmark.store import archive as archives

ROOT = Path(__file__).resolve().parents[2]
GRACE = 30  # seconds that a stage has to stop in, and that packing may take
UNFINISHED = (".ckpt", ".lease", ".tmp")


@dataclass(frozen=True)
class Stage:
    """A module with its arguments, and the share of the whole time that it may take at most."""

    name: str
    arguments: tuple[str, ...]
    share: float = 1.0


def stages(folder: Path, seeds: int) -> list[Stage]:
    """What is run on a GPU, the most valuable first. A data set that is missing costs its own stage only."""
    results = ("--results", str(folder), "--checkpoint-seconds", "15")
    grid = ("benchmark.run", *results, "--table", "2", "--tasks", "cmnist_99", "cmnist_98", "--seeds", str(seeds))
    reduced = ("benchmark.run", *results, "--preset", "reduced", "--table")
    return [
        Stage("tests", ("pytest", "tests/training/test_gpu.py", "-rs"), 0.25),
        *speed(folder, {"mlp 28": (), "resnet18 64": (), "resnet18 224": ()}),
        Stage("C-MNIST", grid),
        Stage("Dogs & Cats, reduced", (*reduced, "2", "--tasks", "dogs_cats")),
        Stage("CelebA, reduced", (*reduced, "1")),
        Stage("ImageNet-B, reduced", (*reduced, "2", "--tasks", "imagenet_b")),
    ]


def rehearsal(folder: Path) -> list[Stage]:
    """The same stages in small, on the CPU; the embedded digits stand in for all data sets."""
    small = ("--device", "cpu", "--repetitions", "1", "--workers", "0", "--methods", "vanilla")
    digits = ("benchmark.run", "--quick", "--device", "cpu", "--results", str(folder), "--set", "epochs=2")
    images = {"mlp 28": "300", "resnet18 64": "4", "resnet18 224": "2"}
    return [
        Stage("tests", ("pytest", "tests/training/test_gpu.py", "-rs"), 0.25),
        *speed(folder, {name: (*small, "--images", number) for name, number in images.items()}),
        Stage("C-MNIST", (*digits, "--seeds-at-once", "2", "--seeds", "2", "--methods", "vanilla", "lff", "poisoner")),
        Stage("reduced image tables", (*digits, "--methods", "jtt")),
    ]


def speed(folder: Path, more: dict[str, tuple[str, ...]]) -> list[Stage]:
    """A measurement for each network and size."""
    measured = []
    for name, arguments in more.items():
        network, size = name.split()
        of_one = ("benchmark.speed", "--network", network, "--size", size, "--results", str(folder), *arguments)
        measured.append(Stage(f"speed of {name}", of_one, 0.15))
    return measured


def run(stage: Stage, folder: Path, seconds: float) -> str:
    """Run a stage for at most so many seconds; returns "done", "stopped" or the exit code that it failed with."""
    log = folder / "logs" / f"{stage.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *stage.arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=heed_interrupts,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            stop(process)
            return "stopped"
        except KeyboardInterrupt:
            stop(process)
            raise
    return "done" if code == 0 else f"exit code {code}, see {log}"


def heed_interrupts() -> None:
    """What was started in a shell's background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it as Ctrl-C would, and kill it where that does not help."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_all(planned: Sequence[Stage], folder: Path, seconds: float) -> list[str]:
    """Run the stages while there is time; returns a line for each."""
    started, lines, interrupted = time.monotonic(), [], False
    for stage in planned:
        finished, begun = folder / "logs" / f"{stage.name}.done", time.monotonic()
        left = started + seconds - begun
        outcome = "not begun"
        if finished.exists():
            outcome = "done before"
        elif left > 0 and not interrupted:
            print(f"{stage.name} ...", flush=True)
            try:
                outcome = run(stage, folder, min(left, stage.share * seconds))
            except KeyboardInterrupt:
                interrupted, outcome = True, "stopped"
            if outcome == "done":
                finished.touch()
        lines.append(f"{stage.name}: {outcome}, {time.monotonic() - begun:.0f} s")
        print(lines[-1], flush=True)
    return lines


def pack(folder: Path, lines: Sequence[str], archive: Path) -> None:
    """Write the summary, and everything but checkpoints and leases into the archive."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    summary = [f"{device}, PyTorch {torch.__version__}, Python {sys.version.split()[0]}", *lines]
    (folder / "summary.txt").write_text("\n".join(summary) + "\n", encoding="utf-8")
    kept = [each for each in sorted(folder.rglob("*")) if each.is_file() and each.suffix not in UNFINISHED]
    archives.write(archive, ((each.relative_to(folder).as_posix(), each.read_bytes()) for each in kept))
    print(f"wrote {archive}, {archive.stat().st_size / 1e6:.1f} MB", flush=True)


def interrupt(signum: int, frame: object) -> NoReturn:
    """What a batch system sends before it ends a job is Ctrl-C to us."""
    raise KeyboardInterrupt


def main() -> int:
    """Returns 0, 1 where a stage failed, or 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25, help="stop after so many minutes (default 25)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the C-MNIST grid (default 5)")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "gpu", help="where everything is kept")
    parser.add_argument("--rehearse", action="store_true", help="in small, on the CPU, in a folder that is removed")
    options = parser.parse_args()
    if not (options.rehearse or torch.cuda.is_available()):
        print("There is no GPU that PyTorch can use; --rehearse does without.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupt)
    seconds = max(0.0, 60 * options.minutes - 2 * GRACE)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "gpu" if options.rehearse else options.folder.resolve()
        planned = rehearsal(folder) if options.rehearse else stages(folder, options.seeds)
        lines = run_all(planned, folder, seconds)
        archive = folder.with_name(f"{folder.name}.zip")
        pack(folder, lines, archive)
        if options.rehearse:
            with zipfile.ZipFile(archive) as packed:
                print("\n".join(packed.namelist()))
    return 1 if any("exit code" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
