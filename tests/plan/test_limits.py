from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from factories.records import make_run
from msgspec import Meta

import datasets
from benchmark.errors import UserError
from benchmark.plan.limits import LOOP, WIDTHS, UnitInterval, check
from benchmark.plan.recipes import load
from datasets import colored_mnist


def test_the_width_of_every_tasks_images_is_known() -> None:
    """Of the digits' own by name; that of image sets is a setting."""
    digits = datasets.load("colored_digits", Path("unused"), ratio=0.9, severity=4, validation_ratio=0.1)
    widths = {shape[-1] for shape in colored_mnist.FILES.values() if len(shape) == 3}
    assert {"colored_digits": digits.image_shape[-1], "colored_mnist": widths.pop()} == WIDTHS
    assert not widths
    for task in load().tasks:
        settings = load().task_settings(task)
        assert settings["dataset"] in WIDTHS or "size" in settings["data"]


@pytest.mark.parametrize("text", ["epochs=0", "batch_size=0", "epochs=-3"])
def test_lengths_below_one_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="at least 1"):
        make_run("cmnist_99", "vanilla", text)


@pytest.mark.parametrize(
    ("name", "allowed", "refused", "message"),
    [
        ("learning_rate", [0.0, 1e3], [-1e-9, float("nan"), float("inf")], "be at least 0.0"),
        ("crop_padding", [0, 4], [-1], "be at least 0"),
        ("mean", [[-1.0, 0.0, 1.0]], [[0.5, 0.5, float("nan")]], "be a finite number"),
        ("std", [[1e-6, 1.0, 1.0]], [[0.5, 0.0, 0.5]], "be at least 1e-06"),
    ],
)
def test_limits_hold_for_every_number_of_a_setting(
    name: str, allowed: list[Any], refused: list[Any], message: str
) -> None:
    for value in allowed:
        check(name, value, LOOP[name])
    for value in refused:
        with pytest.raises(UserError, match=f"{name} is .*: it must {message}"):
            check(name, value, LOOP[name])


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        ("0.1", UnitInterval, "a number"),
        (True, UnitInterval, "a number"),
        (0.5, Annotated[int, Meta(ge=0)], "a whole number"),
        (True, int, "a whole number"),
        (1, bool, "true or false"),
        (1, str, "a text"),
        ([0.1, "0.2"], float, "a number"),
    ],
)
def test_a_value_of_another_kind_than_annotated_is_refused(value: object, kind: object, wanted: str) -> None:
    with pytest.raises(UserError, match=f"it must be {wanted}"):
        check("mine.strength", value, kind)


def test_a_whole_number_is_a_number() -> None:
    check("mine.strength", 1, UnitInterval)
