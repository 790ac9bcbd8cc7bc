"""Which table set a value last, and the source that stands there."""

from __future__ import annotations

import pytest
from factories.records import make_run

from benchmark.plan import sources
from benchmark.plan.recipes import load
from benchmark.plan.sources import Setting


def shown(task: str, method: str, *changes: str, preset: str = "paper") -> dict[str, Setting]:
    recipes = load()
    overrides = [recipes.parse_override(each) for each in changes]
    return {each.name: each for each in sources.settings(recipes, task, method, overrides, preset)}


def test_values_of_a_task_that_is_like_another_in_a_preset() -> None:
    found = shown("celeba_blond", "be", "epochs=7", "be.votes=4", preset="reduced")
    assert {name: each.where for name, each in found.items() if name in (
        "epochs", "learning_rate_decay", "balance", "batch_size", "learning_rate",
        "data.target", "data.subset", "data.size", "be.q", "be.auxiliary_updates", "be.votes",
    )} == {
        "balance": "[every_task]",
        "learning_rate": "[task.celeba_bignose]",
        "data.target": "[task.celeba_blond]",
        "batch_size": "[task.celeba_bignose.preset.reduced]",
        "data.subset": "[task.celeba_bignose.preset.reduced]",
        "data.size": "[task.celeba_bignose.preset.reduced]",
        "learning_rate_decay": "[task.celeba_bignose]",
        "epochs": "--set",
        "be.q": "[method.be]",
        "be.auxiliary_updates": "[task.celeba_bignose.preset.reduced.method.be]",
        "be.votes": "--set",
    }  # fmt: skip
    assert (found["epochs"].value, found["epochs"].source) == (7, "")


def test_a_methods_exceptions_stand_in_a_tasks_table() -> None:
    found = shown("celeba_attractive", "poisoner")
    assert found["poisoner.percentile"] == Setting(
        "poisoner.percentile", 10.0, "[task.celeba_bignose.method.poisoner]", "[paper]"
    )
    assert found["poisoner.gamma"].where == "[method.poisoner]"
    assert shown("waterbirds", "groupdro")["weight_decay"].where == "[task.waterbirds.method.groupdro]"
    assert shown("waterbirds", "vanilla")["weight_decay"].where == "[task.waterbirds]"


def test_another_dataset_has_none_of_the_others_keys() -> None:
    found = shown("colored_digits", "vanilla")
    assert {name: each.where for name, each in found.items() if name.startswith("data.")} == {
        "data.ratio": "[task.colored_digits]",
        "data.validation_ratio": "[task.colored_digits]",
        "data.severity": "[task.colored_digits]",
    }
    assert found["network"].where == "[task.cmnist_99]"


@pytest.mark.parametrize(
    ("task", "name", "source"),
    [
        ("cmnist_98", "data.ratio", "[paper]"),
        ("cmnist_98", "data.severity", "[code: LfF] standard colour noise"),
        ("cmnist_98", "std", "[choice]"),
        ("dogs_cats", "data.size", "[paper] correlation 0.95"),  # all of a table on one line
        ("dogs_cats", "pretrained", "[code: BE] ImageNet's weights know cats from dogs"),
        ("imagenet_b", "data.classes", "[choice] Imagenette's"),
    ],
)
def test_the_source_is_what_stands_behind_the_value(task: str, name: str, source: str) -> None:
    assert shown(task, "vanilla")[name].source == source


@pytest.mark.parametrize("task", load().tasks)
@pytest.mark.parametrize("method", load().methods)
def test_every_run_can_be_shown_whole(task: str, method: str) -> None:
    for preset in load().presets(task):
        found = shown(task, method, preset=preset)
        bare = [f"{name} in {each.where}" for name, each in found.items() if not each.source]
        assert not bare, f"{', '.join(bare)} of recipes.toml: add the source behind the value, such as # [choice]"
        settings = make_run(task, method, preset=preset).settings
        loop = {
            name: value
            for name, value in settings.items()
            if name not in ("task", "method", "preset", "data", "options")
        }
        assert {name: each.value for name, each in found.items()} == {
            **loop,
            **{f"data.{name}": value for name, value in settings["data"].items()},
            **{f"{method}.{name}": value for name, value in settings["options"].items()},
        }
