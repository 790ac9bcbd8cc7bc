from __future__ import annotations

import pytest

from benchmark import plan, recipes
from benchmark.errors import UserError
from benchmark.plan import Run
from methods import METHODS


def test_every_method_has_a_recipe_and_every_recipe_a_method() -> None:
    assert set(recipes.tables()[1]) == set(METHODS)


@pytest.mark.parametrize("task", sorted(recipes.tables()[0]))
@pytest.mark.parametrize("method", sorted(METHODS))
def test_settings_are_complete_and_whole_copies(task: str, method: str) -> None:
    settings = recipes.resolve(task, method)
    assert {"network", "batch_size", "epochs", "learning_rate", "weight_decay", "mean", "std"} <= set(settings)
    settings["data"].clear()
    settings["mean"].clear()
    again = recipes.resolve(task, method)
    assert again["data"]
    assert len(again["mean"]) == 3


def test_settings_take_over_in_order_of_precedence() -> None:
    def weight_decay(task: str, method: str, *overrides: str) -> float:
        return recipes.resolve(task, method, [recipes.parse_override(each) for each in overrides])["weight_decay"]

    assert weight_decay("cmnist_99", "vanilla") == 0
    assert weight_decay("cmnist_99", "groupdro") == 1e-4
    assert weight_decay("cmnist_98", "groupdro") == 1e-4, "'like' takes over the methods' rows too"
    assert weight_decay("colored_digits", "groupdro") == 1e-4
    assert weight_decay("cmnist_99", "groupdro", "weight_decay=0.5") == 0.5
    assert weight_decay("cmnist_99", "vanilla", "groupdro.weight_decay=0.5") == 0
    assert recipes.resolve("cmnist_98", "vanilla")["data"] == {"ratio": 0.98, "severity": 4, "validation": 5000}
    assert "validation" not in recipes.resolve("colored_digits", "vanilla")["data"], "another dataset, other keys"


def test_settings_that_came_later_are_named_only_where_they_change_something() -> None:
    def digest(*overrides: str) -> str:
        settings = recipes.resolve("cmnist_99", "poisoner", [recipes.parse_override(each) for each in overrides])
        return Run(settings, 0).digest

    same = digest()
    for neutral in ("balance=0", "poisoner.warmup_epochs=0", "poisoner.strata=clean"):
        assert digest(neutral) == same
    changed = [digest("balance=0.2"), digest("poisoner.warmup_epochs=1"), digest("poisoner.strata=poisoned")]
    assert len({same, *changed}) == 4
    changed = [
        recipes.parse_override(each) for each in ("balance=0.2", "poisoner.gamma=0.5", "poisoner.strata=poisoned")
    ]
    settings = recipes.resolve("cmnist_99", "poisoner", changed)
    assert settings["balance"] == 0.2
    assert set(recipes.changes(settings)) == set(changed)


def test_a_preset_that_is_like_another_takes_over_what_it_does_not_change() -> None:
    smallest = recipes.resolve("celeba_blond", "be", preset="cpu")
    assert smallest["data"] == {"target": "Blond_Hair", "size": 32, "subset": True}
    assert (smallest["batch_size"], smallest["epochs"], smallest["options"]["auxiliary_updates"]) == (128, 3, 200)
    assert "like" not in smallest


def test_an_alias_may_be_set_like_the_method() -> None:
    assert recipes.parse_override("erm.weight_decay=0.5") == recipes.parse_override("vanilla.weight_decay=0.5")


def test_a_method_that_is_like_another_takes_over_what_tasks_set_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for task in ("cmnist_99", "celeba_blond"):
        own, ours = (recipes.resolve(task, method)["options"] for method in ("poisoner", "poisoner_plus"))
        assert ours == own | {"multiplier_cap": 1.0}
    assert own["percentile"] == 10.0, "which is set for poisoner on CelebA alone"
    changed = [recipes.parse_override("poisoner.gamma=0.5")]
    assert recipes.resolve("cmnist_99", "poisoner_plus", changed) == recipes.resolve("cmnist_99", "poisoner_plus")
    warm = recipes.resolve("cmnist_99", "poisoner_plus", [recipes.parse_override("poisoner_plus.warmup_epochs=1")])
    assert warm["options"]["warmup_epochs"] == 1
    assert "like" not in warm["options"]
    monkeypatch.setitem(recipes.tables()[0]["cmnist_99"]["method"], "poisoner", {"gamma": 0.5, "multiplier_cap": 5.0})
    ours = recipes.resolve("cmnist_99", "poisoner_plus")["options"]
    assert (ours["gamma"], ours["multiplier_cap"]) == (0.5, 1.0), "what makes it another method stays"


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("epochs=5", ("epochs",), 5),
        ("learning_rate=1", ("learning_rate",), 1.0),
        ("data.ratio=0.5", ("data", "ratio"), 0.5),
        ("poisoner.gamma=0", ("options", "gamma"), 0.0),
        ("poisoner.epochs=7", ("epochs",), 7),
        ("poisoner.target_sampler=class_balanced", ("options", "target_sampler"), "class_balanced"),
        ("mean=[0.1, 0.2, 0.3]", ("mean",), [0.1, 0.2, 0.3]),
    ],
)
def test_overrides_land_where_they_belong(text: str, place: tuple[str, ...], value: object) -> None:
    settings = recipes.resolve("cmnist_99", "poisoner", [recipes.parse_override(text)])
    for key in place:
        settings = settings[key]
    assert settings == value
    assert type(settings) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch=5", "did you mean 'epochs'"),
        ("poisoner.gama=1", "did you mean 'poisoner.gamma'"),
        ("gamma=1", "poisoner.gamma"),
        ("data.ration=1", "did you mean 'data.ratio'"),
        ("poisner.gamma=1", "did you mean 'poisoner'"),
        ("epochs", "key=value"),
        ("epochs=", "key=value"),
        ("epochs=many", "a value such as"),
        ("epochs=2.5", "a value such as"),
        ("poisoner.gamma=true", "a value such as"),
        ("network=3", "a value such as"),
    ],
)
def test_overrides_that_mean_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipes.parse_override(text)


@pytest.mark.parametrize("text", ["epochs=0", "batch_size=0", "epochs=-3"])
def test_lengths_below_one_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="at least 1"):
        recipes.resolve("cmnist_99", "vanilla", [recipes.parse_override(text)])


def test_the_digest_covers_exactly_what_changes_the_numbers() -> None:
    def digest(method: str, *overrides: str) -> str:
        parsed = [recipes.parse_override(each) for each in overrides]
        return Run(recipes.resolve("cmnist_99", method, parsed), 0).digest

    assert digest("vanilla") == digest("erm"), "Table 3's ERM is Table 2's Vanilla"
    assert digest("vanilla") == digest("vanilla", "poisoner.gamma=0.5"), "another method's option changes nothing"
    assert digest("vanilla") == digest("vanilla", "epochs=30"), "stating the default changes nothing"
    different = {digest("poisoner"), digest("poisoner", "poisoner.gamma=0.5"), digest("poisoner", "epochs=31")}
    different |= {digest("poisoner", "data.ratio=0.97"), digest("poisoner", "mean=[0.0, 0.0, 0.0]")}
    assert len(different) == 5


def test_runs_shared_between_tables_are_trained_once() -> None:
    tables = [plan.TABLES[number] for number in "234"]
    runs = [run for table in tables for run in table.runs([0], ["cmnist_99"], [row.method for row in table.rows])]
    # Nine methods; GCE for Table 3; Poisoner without GIFL for Table 4.
    assert len({run.id for run in runs}) == 11
    assert len(runs) == 9 + 3 + 2


def test_tables_name_every_published_cell() -> None:
    from benchmark.tables import published

    cells = {
        (table.name, row.key, task, metric)
        for table in plan.TABLES.values()
        for row in table.rows
        for task in table.tasks
        for metric in table.metrics
    }
    # Not planned: Table 1's printed mean of the four targets, which is derived.
    missing = {key for key in published().index if key not in cells and key[2] != "celeba_avg"}
    assert missing == set()


def test_a_new_method_gets_a_row_beside_the_papers() -> None:
    extended = plan.with_methods(plan.TABLES["2"], ["vanilla", "gce"])
    assert [row.key for row in extended.rows] == [*(row.key for row in plan.COMPARED), "gce"]


def test_a_modified_table_has_a_name_of_its_own() -> None:
    from dataclasses import replace

    modified = replace(plan.TABLES["2"], overrides=(recipes.parse_override("epochs=5"),))
    assert modified.stem == "table2-epochs=5"


def test_changes_lead_from_the_recipes_to_the_settings() -> None:
    given = [recipes.parse_override(text) for text in ("epochs=3", "data.size=32", "poisoner.gamma=0.5", "flip=false")]
    settings = recipes.resolve("dogs_cats", "poisoner", given, "reduced")
    changes = recipes.changes(settings)
    assert {str(each) for each in changes} == {str(each) for each in given}
    assert recipes.resolve("dogs_cats", "poisoner", changes, "reduced") == settings
    assert recipes.changes(recipes.resolve("cmnist_99", "groupdro")) == [], "a task's own exception is no change"


def test_ablations_change_one_reading_at_a_time_and_share_runs_with_tables_and_figures() -> None:
    shared = {run.id for each in (plan.TABLES["4"], plan.FIGURES["7"].on("cmnist_99")) for run in runs_of(each)}
    table = plan.ABLATIONS
    own = table.run(table.rows[0], "cmnist_99", 0)
    for row in table.rows[1:]:
        run = table.run(row, "cmnist_99", 0)
        changed = {override.name for override in recipes.changes(run.settings)}
        assert changed <= {override.name for override in row.overrides}
        # What changes nothing says what the recipe has already, or is a method of its own.
        assert changed or run.id == own.id or run.method != own.method
    ids = {row.title: table.run(row, "cmnist_99", 0).id for row in table.rows}
    assert {ids["as in the recipe"], ids["γ = 0"], ids["λ = 1.5"], ids["p = 10"]} <= shared
    celeba = {row.title: table.run(row, "celeba_bignose", 0).id for row in table.rows}
    assert ids["second stage: plain batches"] == own.id
    assert celeba["second stage: class-balanced batches"] == celeba["as in the recipe"]


def runs_of(table: plan.Table) -> list[plan.Run]:
    return table.runs([0], table.tasks, ["poisoner"])
