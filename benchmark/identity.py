"""Whether stored records are what new runs would measure: of the same settings, the same code and the same data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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


def refuse_or_renew(runs: Sequence[Run], store: Store, data_root: Path, again: bool, keep: Sequence[Rule] = ()) -> None:
    """Look at the records of the runs before others are trained to stand beside them.

    With ``again`` those of older code or of other data are set aside, so that their runs are trained anew, and those
    that lack a model that is to be kept of the epochs that the rules ``keep`` choose. Without, those of older code and
    without a model are said, and those of other data than lie under ``data_root`` now raise UserError.
    """
    stored = [record for run in runs if (record := store.load(run))]
    by_code = {record.run.id: record.stale for record in stored if record.stale}
    by_data = dict(_of_other_data(stored, data_root))
    unkept = {record.run.id for record in stored if store.lacks_models(record, keep)}
    if again:
        for record in stored:
            if record.run.id in by_code or record.run.id in by_data:
                store.set_aside(record.run, "stale")
            elif record.run.id in unkept:
                store.set_aside(record.run, "unkept")
        return
    for reason in sorted(set(by_code.values())):
        count = list(by_code.values()).count(reason)
        print(f"{count} of these runs are stale ({reason}): --again trains them anew.", flush=True)
    if unkept:
        print(
            f"{len(unkept)} of these runs, such as {min(unkept)}, have records but no kept model, which takes another "
            "training: --again trains them anew.",
            flush=True,
        )
    for run, now in by_data.items():
        raise UserError(
            f"{len(by_data)} of these runs, such as {run}, were trained on other data than lie under {data_root} now "
            f"(fingerprint {now}): restore the data, or train the runs anew with --again."
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

        try:
            return datasets.load(builder, data_root, balance, **json.loads(data)).fingerprint()
        except UserError:  # absent, say: records can be looked at without them
            return None

    for record in stored:
        settings = record.settings
        now = fingerprint(settings["dataset"], settings["balance"], json.dumps(settings["data"]))
        if now and not same_data(record, now):
            yield record.run.id, " and ".join(now)
