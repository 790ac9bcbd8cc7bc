"""How long whole commands take: with one process and with one a core, measured less often, in bf16 where there is that.

    python tests/tools/whole_runs.py --repeat 3

The digits are Table 2 on Colored MNIST, all nine methods on both ratios, cut down to a few epochs. The variants take
turns. The digits' records are compared between them; docs/speed.md has what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.cores import cores
from benchmark.store.store import Store

CORES = cores()
SIZES = {"train": 512, "validation": 128, "test": 228}  # in the proportions of the development part of CelebA
COLUMNS = "file,target,bias,split\n"


def write_folder(folder: Path) -> Path:
    """Images of noise, 64 pixels wide, of two classes and two kinds of bias."""
    folder.mkdir()
    rng, lines = np.random.default_rng(0), [COLUMNS]
    for split, count in SIZES.items():
        for number in range(count):
            name = f"{split}_{number}.png"
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / name)
            lines.append(f"{name},{number % 2},{number // 2 % 2},{split}\n")
    (folder / "labels.csv").write_text("".join(lines))
    return folder


def timed(command: list[str], results: Path) -> float:
    """Seconds that benchmark.run takes, with the tables that it writes."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "benchmark.run", *command, "--results", str(results), "--device", "cpu"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def answers(results: Path) -> dict[str, object]:
    return {record.run.id: record.answers.test.tolist() for record in Store(results).everything()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--digits-epochs", type=int, default=5)
    parser.add_argument("--only", choices=("digits", "images"))
    repeat, digits_epochs, only = vars(parser.parse_args()).values()
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_folder(Path(temporary, "noise"))
        digits = ["--table", "2", "--tasks", "cmnist_99", "cmnist_98", "--set", f"epochs={digits_epochs}"]
        digits += ["be.auxiliary_updates=200"]
        images = ["--dataset", str(folder), "--preset", "reduced", "--methods", "vanilla", "lff", "--seeds", "2"]
        images += ["--set", "epochs=6"]
        one, all_cores = ["--workers", "1"], ["--workers", str(CORES)]
        variants = {
            "digits, one process": [*digits, *one],
            f"digits, {CORES} processes": [*digits, *all_cores],
            "images, one process, measured after every epoch": [*images, "measure_every=1", *one],
            f"images, {CORES} processes, measured after every epoch": [*images, "measure_every=1", *all_cores],
            f"images, {CORES} processes, measured as in the preset": [*images, *all_cores],
            f"images, {CORES} processes, the same in float32": [*images, "precision=float32", *all_cores],
        }
        variants = {name: command for name, command in variants.items() if name.startswith(only or "")}
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for turn in range(repeat):
            of_digits = []
            for number, (name, command) in enumerate(variants.items()):
                results = Path(temporary, f"results-{turn}-{number}")
                seconds[name].append(timed(command, results))
                if name.startswith("digits"):
                    of_digits.append(answers(results))
            assert all(each == of_digits[0] for each in of_digits), "numbers depend on how many run at once"
    print(f"{platform.processor() or platform.machine()}, {CORES} cores, torch {torch.__version__}, n = {repeat}")
    print(f"load average at the end {os.getloadavg()[0]:.2f}; images: {json.dumps(SIZES)}")
    for name, found in seconds.items():
        print(f"{statistics.median(found):8.1f} s  {name}  ({', '.join(f'{each:.1f}' for each in found)})")


if __name__ == "__main__":
    main()
