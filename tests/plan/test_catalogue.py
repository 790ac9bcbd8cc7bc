from __future__ import annotations

from benchmark.plan import catalogue
from benchmark.plan.ours import selection
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.recipes import load
from benchmark.plan.table import Table


def ids(table: Table) -> set[str]:
    return {run.id for run in catalogue.runs(load(), [table], [0], ["cmnist_99"])}


def test_runs_shared_between_tables_are_trained_once() -> None:
    tables = [TABLES[number] for number in "234"]
    runs = catalogue.runs(load(), tables, [0], ["cmnist_99"])
    # Nine methods; GCE for Table 3; Poisoner without GIFL for Table 4.
    assert len(runs) == len({run.id for run in runs}) == 11
    assert sum(len(ids(table)) for table in tables) == 9 + 3 + 2


def test_a_table_fills_seed_by_seed() -> None:
    runs = catalogue.runs(load(), [TABLES["2"]], [0, 1], ["cmnist_99", "cmnist_98"], ["vanilla", "be"])
    assert [(run.seed, run.task, run.method) for run in runs] == [
        (seed, task, method) for seed in (0, 1) for task in ("cmnist_99", "cmnist_98") for method in ("vanilla", "be")
    ]


def test_figures_and_tables_share_runs() -> None:
    shown = {number: ids(figure.on("cmnist_99")) for number, figure in FIGURES.items()}
    (poisoner,) = ids(selection(["cmnist_99"], ["poisoner"]))
    assert all(poisoner in shown[number] for number in "4567")
    assert ids(TABLES["4"]) <= shown["6"]
    assert len(ids(TABLES["3"]) & shown["2"]) == 2
