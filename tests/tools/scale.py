"""What many records cost: ``python tests/tools/scale.py 20000``.

Copies of the committed records under further seeds are written to a temporary folder; then the time and the peak memory
of a whole process are told for --status, for rendering everything, and for the same again with nothing changed.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from benchmark.store.store import Store


def multiply(source: Store, folder: Store, count: int) -> None:
    """Write ``count`` records: those of ``source``, again and again under the next seeds."""
    originals = list(source.everything())
    seeds = Counter(record.run.series for record in originals)
    for number, record in zip(range(count), itertools.cycle(originals), strict=False):
        seed = record.seed + seeds[record.run.series] * (number // len(originals))
        folder.save(msgspec.structs.replace(record, seed=seed))


def measure(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and peak memory, in MB, of a process of benchmark.run."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "benchmark.run", "--results", str(folder), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=20_000, help="number of records (default 20,000)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="records to copy (default results/)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        multiply(Store(options.results), Store(Path(folder)), options.count)
        for arguments in (["--all", "--seeds", "200", "--status"], *[["--all", "--render-only"]] * 2):
            seconds, memory = measure(Path(folder), *arguments)
            print(f"{options.count} records, {' '.join(arguments)}: {seconds:.1f} s, {memory:.0f} MB at most")


if __name__ == "__main__":
    main()
