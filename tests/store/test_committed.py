"""The records of this repository are read, named and written as they lie there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories.records import make_record, make_run

from benchmark.plan.paper import TABLES
from benchmark.plan.recipes import load
from benchmark.store.encoding import decode, encode
from benchmark.store.record import NETWORKS
from benchmark.store.store import Store

STORE = Store(Path(__file__).parents[2] / "results")
PATHS = sorted(path for path in (STORE.folder / "runs").rglob("*.json") if not path.name.endswith(".failed.json"))


def test_every_committed_record_stands_under_the_hash_of_its_settings_and_is_written_to_the_same_bytes() -> None:
    """Or old records would be lost to a new version: a setting that is added must go into ``NEUTRAL``."""
    assert PATHS
    for path in PATHS:
        content = path.read_bytes()
        record = decode(content)
        assert path == STORE.record_path(record.run)
        assert encode(record).encode() == content, path
        assert STORE.has(record.run)


def test_the_recipes_of_today_name_the_records_of_table_2() -> None:
    """A record that no recipe leads to any more would be a number that no command can make again."""
    recipes, table = load(), TABLES["2"]
    assert all(STORE.has(recipes.run(table, row, "cmnist_99", 0)) for row in table.rows)


def test_a_record_in_another_runs_place_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, own, other = Store(tmp_path), make_run("cmnist_99", "lff"), make_run("cmnist_98", "lff")
    store.save(make_record(own))
    path = store.record_path(other)
    path.parent.mkdir(parents=True)
    path.write_bytes(store.record_path(own).read_bytes())
    assert [record.run for record in store.everything()] == [own]
    (aside,) = path.parent.iterdir()
    assert ".corrupt-" in aside.name
    assert f"{path} is damaged (it is of {own.id})" in capsys.readouterr().out
    assert not store.has(other)
    assert store.has(own)


def test_a_curve_and_a_row_of_counts_take_a_line_each() -> None:
    record = make_record(make_run("cmnist_99", "poisoner"))
    lines = [line.strip().rstrip(",") for line in encode(record).splitlines()]
    counts = [record.groups.train, record.groups.test, *record.train.values()]
    assert record.answers.validation is not None
    counts += [record.answers.test.tolist(), record.answers.validation.tolist()]
    for row in (record.groups.aligned_bias, *(row for each in counts for row in each)):
        assert any(line.endswith(json.dumps(row)) for line in lines)
    for phase in record.phases:
        assert f'"loss": {json.dumps(phase.loss.tolist())}' in lines
        for curves in filter(None, (getattr(phase, network) for network in NETWORKS)):
            for name, curve in curves.measured.items():
                assert f'"{name}": {json.dumps(curve.tolist())}' in lines
