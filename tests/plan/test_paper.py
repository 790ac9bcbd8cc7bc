from __future__ import annotations

from benchmark.compare import published
from benchmark.plan.paper import TABLES


def test_tables_name_every_published_cell() -> None:
    cells = {
        (table.name, row.key, task, metric)
        for table in TABLES.values()
        for row in table.rows
        for task in table.columns
        for metric in table.metrics
    }
    assert set(published.numbers()) <= cells
