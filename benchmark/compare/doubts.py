"""What makes numbers doubtful wherever they stand: records of older code, and of different data where one is meant."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator

from benchmark.store.record import Record
from benchmark.store.results import Results


def doubts(records: Iterable[Record], results: Results) -> list[str]:
    """A sentence for each doubt about numbers that come from these records; none where all is well."""
    found = {record.run.id: record for record in records}.values()
    return [*_of_age(found), *_of_data(found, results)]


def _of_age(records: Iterable[Record]) -> Iterator[str]:
    """How many were measured by code that has changed since."""
    reasons = [record.stale for record in records if record.stale]
    if reasons:
        why = "; ".join(sorted(set(reasons)))
        yield f"STALE: {len(reasons)} of these runs were measured by older code ({why}); --again trains them anew."


def _of_data(records: Iterable[Record], results: Results) -> Iterator[str]:
    """Which tasks have records of the same data settings and of other images."""
    fingerprints = defaultdict[tuple[str, str], set[str]](set)
    for record in records:
        asked = [record.settings[each] for each in ("dataset", "balance", "data")]
        fingerprints[record.task, json.dumps(asked, sort_keys=True)].add(record.provenance.data)
    for task in dict.fromkeys(task for (task, _), found in fingerprints.items() if len(found) > 1):
        yield (
            f"{results.task_title(task)}: THESE RECORDS ARE OF DIFFERENT DATA. Its images were changed between the "
            f"runs, or read by other versions; remove the older records from runs/{task} and train them anew."
        )
