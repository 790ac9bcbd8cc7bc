from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from factories.records import make_results

from benchmark.plan.ours import ABLATIONS, QUICK
from benchmark.plan.paper import COMPARED, FIGURES, TABLES
from benchmark.plan.recipes import load
from benchmark.plan.table import Override, Table, with_methods


def test_a_new_method_gets_a_row_beside_the_papers() -> None:
    extended = with_methods(TABLES["2"], ("vanilla", "gce"))
    assert [row.key for row in extended.rows] == [*(row.key for row in COMPARED), "gce"]


def test_a_modified_table_has_a_name_of_its_own() -> None:
    assert replace(TABLES["2"], overrides=(Override("", "epochs", 5),)).stem == "table2-epochs=5"


LONGER = {"50 epochs": 50, "50 epochs, γ = 0": 50, "100 epochs": 100, "100 epochs, γ = 0": 100}
GAMMAS = {"γ = 0": 0.0, "γ = 0.5": 0.5, "50 epochs, γ = 0": 0.0, "100 epochs, γ = 0": 0.0}


@pytest.mark.parametrize(
    ("table", "change", "kept"),
    [
        (TABLES["4"], "poisoner.gamma=0.25", {"without GIFL": 0.0}),
        (ABLATIONS, "poisoner.gamma=0.25", GAMMAS),
        (ABLATIONS, "epochs=5", LONGER),
        (ABLATIONS, "poisoner.epochs=5", LONGER),
    ],
)
def test_a_row_keeps_the_setting_that_names_it(
    table: Table, change: str, kept: dict[str, float], tmp_path: Path
) -> None:
    """Under a --set of the same setting, which all other rows take over; tables look for the runs that are trained."""
    override, results = load().parse_override(change), make_results(tmp_path)
    table = replace(table, overrides=(override,))
    for row in table.rows:
        run = load().run(table, row, "cmnist_99", 0)
        settings = run.settings | run.settings["options"]
        assert settings[override.key] == kept.get(row.title, override.value), row.title
        assert results.cell(table, row, "cmnist_99").id == run.series
    assert set(kept) < {row.title for row in table.rows}


def test_a_table_with_many_changes_has_a_name_that_file_systems_take() -> None:
    def named(last: float) -> str:
        values = [*(0.001 + 1e-9 * each for each in range(30)), last]
        return replace(QUICK, overrides=tuple(Override("", "learning_rate", each) for each in values)).stem

    assert len(named(0.5)) <= 150
    assert named(0.5) != named(0.25)
    assert named(0.5).startswith("quick-learning_rate=0.001")


def test_a_stand_in_never_takes_the_place_of_the_papers_figure() -> None:
    figure = FIGURES["4"]
    assert (figure.stem, figure.on("cmnist_99").stem) == ("figure4", "figure4-cmnist_99")
    assert replace(FIGURES["6"].on("waterbirds"), preset="reduced").stem == "figure6-reduced"
