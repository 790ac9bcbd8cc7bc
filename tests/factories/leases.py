"""Leases that say something else than their owners wrote."""

from __future__ import annotations

import json
from pathlib import Path

from benchmark.store.leases import newest


def rewrite(record: Path, **changes: object) -> None:
    """Make the newest lease say something else, such as that its owner lives on another machine."""
    holder = newest(record)
    assert holder
    path = record.with_name(f"{record.stem}.{holder.number}.lease")
    whole = path.with_suffix(".new")  # another worker may read it meanwhile
    whole.write_text(json.dumps(json.loads(holder.content) | changes))
    whole.replace(path)
