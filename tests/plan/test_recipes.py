from __future__ import annotations

from typing import Any

import pytest
from factories.records import make_run

from benchmark.errors import UserError
from benchmark.plan.limits import LOOP
from benchmark.plan.recipes import Recipes, load
from benchmark.plan.table import Override
from methods import METHODS


def test_every_method_has_a_recipe_and_every_recipe_a_method() -> None:
    assert set(load().methods) == set(METHODS)


@pytest.mark.parametrize("task", sorted(load().tasks))
@pytest.mark.parametrize("method", sorted(METHODS))
def test_settings_are_complete_and_whole_copies(task: str, method: str) -> None:
    settings = load().resolve(task, method)
    assert set(settings) >= {"task", "method", "preset", "dataset", "network", "data", "options", *LOOP} - {
        "crop_padding"
    }
    assert set(settings["options"]) == set(load().options(method))
    settings["data"].clear()
    settings["mean"].clear()
    again = load().resolve(task, method)
    assert again["data"]
    assert len(again["mean"]) == 3


def test_settings_take_over_in_order_of_precedence() -> None:
    def weight_decay(task: str, method: str, *changes: str) -> float:
        return make_run(task, method, *changes).settings["weight_decay"]

    assert weight_decay("cmnist_99", "vanilla") == 0
    assert weight_decay("cmnist_99", "groupdro") == 1e-4
    assert weight_decay("cmnist_98", "groupdro") == 1e-4, "'like' takes over the methods' rows too"
    assert weight_decay("colored_digits", "groupdro") == 1e-4
    assert weight_decay("cmnist_99", "groupdro", "weight_decay=0.5") == 0.5
    assert weight_decay("cmnist_99", "vanilla", "groupdro.weight_decay=0.5") == 0
    assert load().resolve("cmnist_98", "vanilla")["data"] == {
        "ratio": 0.98,
        "severity": 4,
        "validation": 5000,
        "validation_ratio": 0.1,
    }
    assert "validation" not in load().resolve("colored_digits", "vanilla")["data"], "another dataset, other keys"


def test_an_alias_may_be_set_like_the_method() -> None:
    assert load().parse_override("erm.weight_decay=0.5") == load().parse_override("vanilla.weight_decay=0.5")


def test_what_makes_a_method_another_than_the_one_it_is_like_stays_on_every_task() -> None:
    recipes = Recipes(
        {"task": {"title": "Task", "dataset": "any", "method": {"first": {"gamma": 0.5, "cap": 5.0}}}},
        {"first": {"gamma": 1.0, "cap": 10.0}, "second": {"like": "first", "cap": 1.0}},
        {},
        {},
        {},
    )
    assert recipes.resolve("task", "first")["options"] == {"gamma": 0.5, "cap": 5.0}
    assert recipes.resolve("task", "second")["options"] == {"gamma": 0.5, "cap": 1.0}


def test_layers_come_from_the_general_to_the_special_and_the_last_decides() -> None:
    """Every table that concerns the run sets ``epochs``, so that each one is seen to win over those before it."""
    small = {"small": {"epochs": 3, "method": {"first": {"epochs": 8}}}, "smaller": {"like": "small", "epochs": 4}}
    recipes = Recipes(
        {
            "base": {"dataset": "any", "epochs": 1, "preset": small, "method": {"first": {"epochs": 6}}},
            "heir": {"like": "base", "epochs": 2, "method": {"first": {"epochs": 7}, "other": {"epochs": 99}}},
        },
        {"first": {"q": 0.5}, "other": {}, "second": {"like": "first", "p": 0.5}},
        {"epochs": 50},
        {},
        {},
    )
    layers = recipes.layers("heir", "second", (Override("", "epochs", 10),), "smaller")
    assert [layer.where for layer in layers] == [
        "",
        "[every_task]",
        "[task.base]",
        "[task.heir]",
        "[task.base.preset.small]",
        "[task.base.preset.smaller]",
        "[method.first]",
        "[method.second]",
        "[task.base.method.first]",
        "[task.heir.method.first]",
        "[task.base.preset.small.method.first]",
        "--set",
    ]
    assert [layer.settings["epochs"] for layer in layers if "epochs" in layer.settings] == [
        50, 1, 2, 3, 4, 6, 7, 8, 10,
    ]  # fmt: skip
    assert recipes.resolve("heir", "second", (Override("", "epochs", 10),), "smaller")["epochs"] == 10
    assert recipes.resolve("heir", "second", preset="smaller")["epochs"] == 8
    assert recipes.resolve("heir", "other", preset="smaller")["epochs"] == 99
    assert recipes.resolve("base", "other")["epochs"] == 1


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
    found: Any = make_run("cmnist_99", "poisoner", text).settings
    for key in place:
        found = found[key]
    assert found == value
    assert type(found) is type(value)


def test_what_has_no_owner_is_the_loops_although_an_option_has_its_name() -> None:
    """DebiAN's λ_UA is called as the balance of the data is."""
    of_data, of_method = (make_run("cmnist_99", "debian", f"{owner}balance=0.2").settings for owner in ("", "debian."))
    assert (of_data["balance"], of_data["options"]["balance"]) == (0.2, 1.0)
    assert (of_method["balance"], of_method["options"]["balance"]) == (0.0, 0.2)


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
        ("epochs=2.5", "must be a whole number"),
        ("poisoner.gamma=true", "a value such as"),
        ("network=3", "a value such as"),
    ],
)
def test_overrides_that_mean_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load().parse_override(text)


def test_changes_lead_from_the_recipes_to_the_settings() -> None:
    given = [load().parse_override(text) for text in ("epochs=3", "data.size=32", "poisoner.gamma=0.5", "flip=false")]
    settings = load().resolve("dogs_cats", "poisoner", given, "reduced")
    changes = load().changes(settings)
    assert set(changes) == set(given)
    assert len(changes) == len(given)
    assert load().resolve("dogs_cats", "poisoner", changes, "reduced") == settings
    assert load().changes(make_run("cmnist_99", "groupdro").settings) == (), "a task's own exception is no change"
