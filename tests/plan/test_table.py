from __future__ import annotations

from dataclasses import replace

from benchmark.plan.ours import QUICK
from benchmark.plan.paper import COMPARED, FIGURES, TABLES
from benchmark.plan.table import Override, with_methods


def test_a_new_method_gets_a_row_beside_the_papers() -> None:
    extended = with_methods(TABLES["2"], ("vanilla", "gce"))
    assert [row.key for row in extended.rows] == [*(row.key for row in COMPARED), "gce"]


def test_a_modified_table_has_a_name_of_its_own() -> None:
    assert replace(TABLES["2"], overrides=(Override("", "epochs", 5),)).stem == "table2-epochs=5"


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
