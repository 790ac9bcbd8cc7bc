"""The command line ``benchmark.merge``: what archives of ``benchmark.pack`` hold comes into a results folder."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import networks
from benchmark.arguments import Parser, folder
from benchmark.errors import UserError, exit_code, say
from benchmark.plan.recipes import Recipes, load
from benchmark.store import status
from benchmark.store.archive import Archive
from benchmark.store.atomic import write_atomically
from benchmark.store.encoding import differences
from benchmark.store.record import Provenance, Record
from benchmark.store.status import Job
from benchmark.store.store import Store
from slurm import jobs

Outcome = Literal["new", "identical", "refused", "running", "damaged"]
OUTCOMES: tuple[Outcome, ...] = ("new", "identical", "refused", "running", "damaged")
# What may explain that the same run has other numbers elsewhere.
ORIGINS = ("data", "validation_data", "loop_version", "method_version", "network_version", "weights", "torch", "device")


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.merge",
        description="Take the runs of archives into a results folder. No record that is there is ever changed.",
        epilog="docs/sharing.md says what becomes of runs that are there already, are running, or are damaged.",
    )
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="a file that benchmark.pack wrote")
    parser.add_argument("--results", type=folder, default="results", metavar="FOLDER", help="folder of records")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0; 1 when a run did not come in; 2 for bad input."""
    return exit_code(lambda: _main(parser().parse_args(arguments)), "Interrupted; the same command goes on.")


def _main(options: argparse.Namespace) -> int:
    store = Store(options.results)
    archives = [Archive(path) for path in options.archives]  # all are looked at before the first comes in
    store.check_writable()
    last_jobs = jobs.last_jobs(store.folder)
    total: Counter[Outcome] = Counter()
    for archive in archives:
        count: Counter[Outcome] = Counter()
        for run, outcome, note in merge(archive, store, last_jobs):
            count[outcome] += 1
            if outcome != "identical" or note:
                say(f"  {outcome:9} {run}  {note}".rstrip())
        others = f"; {len(archive.unread)} files that belong to none of them stay in it" if archive.unread else ""
        say(f"{archive.path}: {', '.join(f'{count[each]} {each}' for each in OUTCOMES)}{others}")
        total += count
    if total["refused"]:
        print(
            "What is refused has other numbers here, which stand. To have an archive's in their place, move the record "
            "away and merge again."
        )
    if total["running"]:
        print("Running ones are being trained here: merge again when they are done.")
    if total["new"]:
        where = "" if options.results == Path("results") else f" --results {shlex.quote(str(options.results))}"
        say(f"python -m benchmark.run --all --render-only{where} writes the tables anew.")
    return 1 if total["refused"] or total["running"] or total["damaged"] else 0


def merge(archive: Archive, store: Store, last_jobs: Mapping[str, Job]) -> Iterator[tuple[str, Outcome, str]]:
    """Take in what can be; yields every run of the archive, or file of one, what became of it, and what else to say."""

    @cache
    def fingerprints(task: str) -> dict[str, str]:
        """Those of the data that the records here were trained on, by the settings of these data."""
        return {_data_settings(record): record.provenance.data for record in store.everything(task)}

    recipes = load()
    for run in archive.ids:
        try:
            record = archive.record(run)
        except (ValueError, RecursionError) as error:
            yield run, "damaged", f"left out: {str(error)[:200]}"
            continue
        known = fingerprints(record.task).get(_data_settings(record), record.provenance.data)
        files: dict[Path, bytes] = {}
        for path, digest in store.belonging(record).items():
            name = path.relative_to(store.folder).as_posix()
            if name in archive:
                try:
                    files[path] = archive.checked(name, digest)
                except ValueError as error:
                    yield name, "damaged", f"left out: {error}"
        # Models name the record that they belong to, and hold themselves against it when they are loaded.
        for name in archive.beginning(store.models_beginning(record)):
            try:
                files[store.folder / name] = archive.read(name)
            except ValueError as error:
                yield name, "damaged", f"left out: {error}"
        try:
            outcome, notes = _take_in(record, files, store, last_jobs)
        except UserError as error:  # something that is no record has its name here
            outcome, notes = "refused", [str(error)]
        if outcome == "new" and record.stale:
            notes.append(f"stale ({record.stale}): --again would train it anew")
        if outcome == "new" and record.provenance.data != known:
            notes.append(f"of other data than the records here: fingerprint {record.provenance.data}, here {known}")
        if outcome == "new":
            notes += _lacking(record, recipes)
        yield run, outcome, "; ".join(notes)


def _lacking(record: Record, recipes: Recipes) -> Iterator[str]:
    """What this checkout lacks of a record's own code, without which no table shows it."""
    if record.method not in recipes.methods:
        yield (
            f"no table shows it, since the method {record.method} is not here: put its file into methods/ and "
            "its table into benchmark/recipes.toml"
        )
    network = record.settings["network"]
    try:
        networks.needs(network)
    except UserError:
        yield (
            f"no table shows it, since the network {network} is not here: put its file into networks/, or install its "
            "package"
        )


def _take_in(
    record: Record, files: dict[Path, bytes], store: Store, last_jobs: Mapping[str, Job]
) -> tuple[Outcome, list[str]]:
    """Store a record with its files, unless the run has one here or is being trained here.

    A record that is here stays as it is; of its own files, those that it lacks here come in.
    """
    here = store.load(record.run)
    if here is None:
        [found] = status.survey([record.run], store, last_jobs)
        if found.condition == "running":
            return "running", [found.note]
        if store.add(record, files):
            return "new", []
        return _take_in(record, files, store, last_jobs)  # it was finished here this moment
    if differs := differences(here, record):
        stale = [f"the one here is stale ({here.stale})"] if here.stale else []
        return "refused", [*differs, *_origins(here.provenance, record.provenance), *stale]
    own = {*store.belonging(here)}
    beginning = store.models_beginning(here)
    own |= {path for path in files if path.relative_to(store.folder).as_posix().startswith(beginning)}
    lacking = [path for path in files if path in own and not path.exists()]
    for path in lacking:
        write_atomically(path, files[path])
    return "identical", [f"{path.name} came in, which it lacked here" for path in lacking]


def _origins(here: Provenance, there: Provenance) -> Iterator[str]:
    """What may explain that numbers differ."""
    for name in ORIGINS:
        one, other = getattr(here, name), getattr(there, name)
        if one != other:
            yield f"{name.replace('_', ' ')} {one or 'unknown'} here, {other or 'unknown'} there"


def _data_settings(record: Record) -> str:
    settings = record.settings
    return json.dumps([settings.get(each) for each in ("dataset", "data", "balance")], sort_keys=True)


if __name__ == "__main__":
    sys.exit(main())
