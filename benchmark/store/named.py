"""The run that a person names on a command line."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.store.record import Record
from benchmark.store.store import Store

RUN = "task/method/hash-sSEED, a part of it that no other run has, or the path of a record"


def choose(name: str, results: Path) -> tuple[Store, Record]:
    """The results folder and the record of one run; a record's path names its folder, too.

    Raises UserError where ``name`` fits none, or several.
    """
    if name.endswith(".json"):
        path = Path(name).resolve()
        if not path.is_file() or path.parts[-4:-3] != ("runs",):
            raise UserError(f"{name} is no record: they are called <results>/runs/<task>/<method>/<hash>-s<seed>.json.")
        results, name = path.parents[3], path.relative_to(path.parents[2]).as_posix().removesuffix(".json")
    store = Store(results)
    found = [record for run in store.ids(name) if (record := store.read(run))]
    if len(found) != 1:
        listed = ", ".join(_described(record) for record in found)
        raise UserError(f"{len(found)} runs fit '{name}': {listed}: give more of the one you mean.")
    return store, found[0]


def _described(record: Record) -> str:
    """The run's id and, in brackets, what sets it apart from its recipe."""
    changes = load().with_folder_of(record.settings).changes(record.settings)
    return record.run.id + (f" ({', '.join(map(str, changes))})" if changes else "")
