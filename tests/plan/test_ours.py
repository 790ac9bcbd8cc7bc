from __future__ import annotations

from benchmark.plan import catalogue
from benchmark.plan.ours import ABLATIONS, EMBEDDED, OURS, selection
from benchmark.plan.paper import COMPARED, FIGURES, TABLES
from benchmark.plan.recipes import load
from benchmark.plan.table import with_methods


def test_ablations_change_one_reading_at_a_time_and_share_runs_with_tables_and_figures() -> None:
    recipes = load()
    others = (TABLES["4"], FIGURES["7"].on("cmnist_99"))
    shared = {run.id for run in catalogue.runs(recipes, others, [0], methods=["poisoner"])}
    own = recipes.run(ABLATIONS, ABLATIONS.rows[0], "cmnist_99", 0)
    for row in ABLATIONS.rows[1:]:
        run = recipes.run(ABLATIONS, row, "cmnist_99", 0)
        changed = {override.name for override in recipes.changes(run.settings)}
        assert changed <= {override.name for override in row.overrides}
        # What changes nothing says what the recipe has already, or is a method of its own.
        assert changed or run.id == own.id or run.method != own.method
    digits, celeba = (
        {row.title: recipes.run(ABLATIONS, row, task, 0).id for row in ABLATIONS.rows}
        for task in ("cmnist_99", "celeba_bignose")
    )
    assert {digits["as in the recipe"], digits["γ = 0"], digits["λ = 1.5"], digits["p = 10"]} <= shared
    assert digits["second stage: plain batches"] == own.id
    assert celeba["second stage: class-balanced batches"] == celeba["as in the recipe"]


def test_selections_of_other_tasks_and_methods_have_other_files() -> None:
    one, both = (selection(tasks, ["vanilla"]) for tasks in (["cmnist_99"], ["cmnist_99", "cmnist_98"]))
    assert one.stem != both.stem
    assert one == selection(["cmnist_99", "cmnist_99"], ["vanilla", "vanilla"])
    assert one.stem != selection(["cmnist_99"], ["gce"]).stem
    assert with_methods(one, ("gce", "gce")).rows == selection(["cmnist_99"], ["vanilla", "gce"]).rows
    assert selection(["cmnist_99"], [row.method for row in COMPARED]).stem == "selection-cmnist_99"


def test_no_table_that_is_committed_shows_what_every_machine_measures_for_itself() -> None:
    """Runs on the embedded digits are not in the repository: after the quick tour such a table would be another."""
    assert not {task for table in (*TABLES.values(), *FIGURES.values(), *OURS.values()) for task in table.tasks} & {
        *EMBEDDED
    }
