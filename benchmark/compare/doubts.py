"""What makes numbers doubtful wherever they stand: records of older code, and of other data or networks than others."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from benchmark.store.record import Record
from benchmark.store.results import Results


def doubts(records: Iterable[Record], results: Results) -> list[str]:
    """A sentence for each doubt about numbers that come from these records; none where all is well."""
    found = {record.run.id: record for record in records}.values()
    return [*_of_age(found), *_of_data(found, results), *_of_networks(found, results)]


def data_notes(records: Iterable[Record], results: Results) -> list[str]:
    """What the records say of their data, such as that a part is missing: each sentence once, with its tasks."""
    tasks: dict[str, dict[str, None]] = {}
    for record in records:
        for note in record.provenance.data_notes:
            tasks.setdefault(note, {})[results.task_title(record.task)] = None
    return [f"{'; '.join(titles)}: {note}" for note, titles in tasks.items()]


def _of_age(records: Iterable[Record]) -> Iterator[str]:
    """How many were measured by code that has changed since."""
    reasons = [record.stale for record in records if record.stale]
    if reasons:
        why = "; ".join(sorted(set(reasons)))
        were = "was" if len(reasons) == 1 else "were"
        yield f"STALE: {len(reasons)} of these runs {were} measured by older code ({why}); --again trains them anew."


def _of_data(records: Iterable[Record], results: Results) -> Iterator[str]:
    """Which tasks have records of the same data settings and of other images, validation images among them."""
    settings = ("dataset", "balance", "data")
    trained = _differing(records, settings, lambda record: record.provenance.data)
    chosen_on = _differing(records, settings, lambda record: record.provenance.validation_data)
    for task in {**trained, **chosen_on}:
        yield (
            f"{results.task_title(task)}: THESE RECORDS ARE OF DIFFERENT DATA. Its images were changed between the "
            f"runs, or read by other versions; remove the older records from runs/{task} and train them anew."
        )


def _of_networks(records: Iterable[Record], results: Results) -> Iterator[str]:
    """Which tasks have records of one network that started from other weights, or is another version's."""
    for task in _differing(records, ("network", "pretrained"), lambda record: record.provenance.weights or ""):
        yield (
            f"{results.task_title(task)}: THESE NETWORKS STARTED FROM DIFFERENT WEIGHTS. The pretrained ones were "
            f"replaced between the runs; remove the older records from runs/{task} and train them anew."
        )
    for task, packages in _differing(records, ("network",), lambda record: record.provenance.network_package).items():
        yield f"{results.task_title(task)}: the network is that of {' in some runs, of '.join(packages)} in others."


def _differing(
    records: Iterable[Record], settings: tuple[str, ...], value: Callable[[Record], str]
) -> dict[str, list[str]]:
    """The values of each task that has several among records of equal ``settings``; older records have none, ""."""
    found = defaultdict[tuple[str, str], set[str]](set)
    for record in records:
        asked = [record.settings.get(each) for each in settings]
        found[record.task, json.dumps(asked, sort_keys=True)].add(value(record))
    return {task: sorted(values - {""}) for (task, _), values in found.items() if len(values - {""}) > 1}
