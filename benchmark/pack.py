"""The command line ``benchmark.pack``: stored runs as one file, for another results folder to take in."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.arguments import Parser, folder
from benchmark.errors import UserError, exit_code, say
from benchmark.quoting import counted
from benchmark.store import archive
from benchmark.store.record import Record
from benchmark.store.store import Store

EPILOG = """examples:
  python -m benchmark.pack                                     every stored run
  python -m benchmark.pack --tasks cmnist_99 --methods poisoner be --output mine.zip
  python -m benchmark.merge mine.zip                           in another checkout: what is new there comes in

docs/sharing.md says what is carried and what is not.
"""


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.pack",
        description="Pack the records of stored runs, with the files that belong to them, into one archive.",
        epilog=EPILOG,
    )
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="only these tasks")
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="only these methods")
    parser.add_argument("--preset", metavar="PRESET", help="only runs of this preset (default: of all)")
    parser.add_argument("--results", type=folder, default="results", metavar="FOLDER", help="folder of records")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the archive to write (default: records-<date>-<time>.zip)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 for bad input."""
    return exit_code(lambda: _main(parser().parse_args(arguments)))


def _main(options: argparse.Namespace) -> int:
    store = Store(options.results)
    output = options.output or Path(time.strftime("records-%Y%m%d-%H%M%S.zip"))
    if output.exists():
        raise UserError(f"{output} is there already: name another --output.")
    told = Told()
    archive.write(output, contents(store, select(store, options.tasks, options.methods, options.preset), told))
    for reason, count in sorted(told.stale.items()):
        print(f"{count} of these runs {'is' if count == 1 else 'are'} stale ({reason}).")
    if told.absent:
        print(f"{told.absent} of these runs' files of predictions are not here: their records go without.")
    said = f"{counted(told.runs, 'run')}, {counted(told.files, 'file')}"
    print(f"wrote {output}: {said}, {output.stat().st_size / 1e6:.1f} MB")
    return 0


def select(store: Store, tasks: Sequence[str], methods: Sequence[str], preset: str | None) -> Iterator[Record]:
    """The stored records of these tasks and methods, of all where none is named, and of the preset if one is.

    Raises UserError for a name of which no run is stored, and where nothing is left.
    """
    ids = [each.split("/") for each in store.ids("")]
    for kind, asked, stored in (
        ("task", tasks, [each[0] for each in ids]),
        ("method", methods, [each[1] for each in ids]),
    ):
        for name in asked:
            if name not in stored:
                there = ", ".join(sorted({*stored}))
                raise UserError(f"No stored run is of the {kind} '{name}'; there are {there}.")
    presets = set[str | None]()
    for task, method, name in ids:
        if (not tasks or task in tasks) and (not methods or method in methods):
            record = store.read(f"{task}/{method}/{name}")
            presets.add(record.preset if record else None)
            if record and preset in (None, record.preset):
                yield record
    there = ", ".join(sorted(filter(None, presets)))
    if not there:
        raise UserError("No stored run is of these tasks and methods.")
    if preset not in (None, *presets):
        raise UserError(f"No stored run is of this choice in the preset '{preset}'; there are {there}.")


@dataclass
class Told:
    """What a person is told of an archive: its runs and files, those that are ``absent`` here, and what is stale."""

    runs: int = 0
    files: int = 0
    absent: int = 0
    stale: Counter[str] = field(default_factory=Counter)


def contents(store: Store, records: Iterable[Record], told: Told) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of some records, counted in ``told``; one that is damaged is named and left out."""
    for record in records:
        told.runs += 1
        told.stale += Counter(filter(None, [record.stale]))
        named = store.belonging(record)
        told.absent += sum(not path.exists() for path in named)
        for path in store.files(record):
            content = path.read_bytes()
            if named.get(path) not in (None, hashlib.sha256(content).hexdigest()):
                say(f"{path} is damaged and left out.")
                continue
            told.files += 1
            yield path.relative_to(store.folder).as_posix(), content


if __name__ == "__main__":
    sys.exit(main())
