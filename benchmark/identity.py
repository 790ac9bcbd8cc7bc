"""Whether stored records are what new runs would measure: of the same settings, the same code and the same data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UserError
from benchmark.plan.run import Run
from benchmark.rules import Rule
from benchmark.store.record import Record
from benchmark.store.store import Store

if TYPE_CHECKING:
    from datasets.base import Fingerprint


@dataclass(frozen=True)
class Outdated:
    """Records that a new run would not repeat, by the ids of their runs: what is older of their code, and the
    fingerprint of the data as they are now; and ``unkept``, those that lack a model that is to be kept.
    """

    by_code: dict[str, str]
    by_data: dict[str, str]
    unkept: set[str]

    @classmethod
    def among(cls, runs: Sequence[Run], store: Store, data_root: Path, keep: Sequence[Rule] = ()) -> Outdated:
        """Those of the runs' records that are to stay. Models are kept of the epochs that the rules ``keep`` choose."""
        stored = [record for run in runs if (record := store.load(run)) and store.has(run)]
        return cls(
            {record.run.id: record.stale for record in stored if record.stale},
            dict(_of_other_data(stored, data_root)),
            {record.run.id for record in stored if store.lacks_models(record, keep)},
        )

    @property
    def ids(self) -> frozenset[str]:
        return frozenset((*self.by_code, *self.by_data, *self.unkept))

    def refuse(self, data_root: Path) -> None:
        """Say which are of older code or without a model. Raises UserError where one is of other data."""
        for reason in sorted(set(self.by_code.values())):
            count = list(self.by_code.values()).count(reason)
            are = "is" if count == 1 else "are"
            print(f"{count} of these runs {are} stale ({reason}): --again trains them anew.", flush=True)
        if self.unkept:
            have = "has a record" if len(self.unkept) == 1 else "have records"
            print(
                f"{len(self.unkept)} of these runs, such as {min(self.unkept)}, {have} but no kept model, which "
                "takes another training: --again trains them anew.",
                flush=True,
            )
        for run, now in self.by_data.items():
            were = "was" if len(self.by_data) == 1 else "were"
            raise UserError(
                f"{len(self.by_data)} of these runs, such as {run}, {were} trained on other data than lie under "
                f"{data_root} now (fingerprint {now}): restore the data, or train the runs anew with --again."
            )


def same_data(record: Record, now: Fingerprint) -> bool:
    """Whether the data are those of a record, as far as it used them: one without validation holds nothing of that."""
    then = record.provenance
    return then.data == now.data and then.validation_data in ("", now.validation)


def _of_other_data(stored: Iterable[Record], data_root: Path) -> Iterable[tuple[str, str]]:
    """(id, fingerprint of the data as they are) of each record that has another; nothing where there are no data."""

    @cache
    def fingerprint(builder: str, balance: float, data: str) -> Fingerprint | None:
        import datasets  # what is read from the disk should not keep anybody waiting who only looks

        asked = json.loads(data)
        try:
            found = datasets.outline(builder, data_root, balance, **asked)  # which downloads nothing
            if not found.train.images.size:
                found = datasets.load(builder, data_root, balance, **asked)
        except UserError:  # absent, say: records can be looked at without them
            return None
        return found.fingerprint()

    for record in stored:
        settings = record.settings
        now = fingerprint(settings["dataset"], settings["balance"], json.dumps(settings["data"]))
        if now and not same_data(record, now):
            yield record.run.id, " and ".join(now)
