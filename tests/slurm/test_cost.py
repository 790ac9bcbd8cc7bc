from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from factories.records import make_record, make_results, make_run

from benchmark.store.provenance import REPOSITORY
from benchmark.store.record import Record
from slurm import cost

CLUSTER = REPOSITORY / "docs" / "cluster.md"


def test_the_documented_cost_follows_from_the_committed_records(request: pytest.FixtureRequest) -> None:
    text = CLUSTER.read_text("utf-8")
    report = cost.report(make_results(REPOSITORY / "results"))
    current = re.sub(r"(?s)(?<=<!-- cost -->\n).*(?=<!-- /cost -->)", lambda _: report + "\n", text)
    if request.config.getoption("--update-golden"):
        CLUSTER.write_text(current, "utf-8")
    else:
        assert current == text, "the table of costs is stale; run with --update-golden"


def test_the_cost_is_that_of_the_records(tmp_path: Path) -> None:
    """400 and 800 s of each run: of C-MNIST² on a CPU, of C-MNIST¹ on a GPU, and of all methods there but BE."""

    def records() -> Iterator[Record]:
        for task, device in (("cmnist_98", "CPU (x86_64)"), ("cmnist_99", "Some GPU")):
            for row in cost.grid()[task]:
                if (task, row.method) != ("cmnist_99", "be"):
                    for seed, taken in enumerate((400.0, 800.0)):
                        record = make_record(make_run(task, row.method, *row.overrides, seed=seed))
                        told = msgspec.structs.replace(record.provenance, device=device, seconds=taken)
                        yield msgspec.structs.replace(record, provenance=told)

    results = make_results(tmp_path, *records())
    lines = {
        line.split()[1]: [cell.strip() for cell in line.split("|")[2:5]]
        for line in cost.report(results).splitlines()
        if line.startswith("| c")
    }
    assert lines["cmnist_98"] == ["27", "not measured", f"{27 * 600 / 3600:.2f}"]
    assert lines["cmnist_99"] == ["33", "not measured (10 of 11 methods)", "not measured"]
    assert cost.hours([3600.0] * 9, 8) == 2
    assert cost.hours([3600.0, 7200.0], 64) == 2
