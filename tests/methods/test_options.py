"""What the options of methods may be, as their annotations state it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmark.errors import UserError
from benchmark.plan.recipes import load
from methods import METHODS, options
from methods.vanilla import Vanilla


def accepts(annotation: Any, value: Any) -> bool:
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_option_is_annotated_and_accepts_its_values_in_all_recipes(name: str) -> None:
    annotations = options(name)
    assert set(annotations) == set(load().options(name))
    assert Any not in annotations.values()
    values = [load().options(name)]
    values += [
        load().resolve(task, name, preset=preset)["options"] for task in load().tasks for preset in load().presets(task)
    ]
    for each in values:
        assert [key for key, value in each.items() if not accepts(annotations[key], value)] == []


@pytest.mark.parametrize(
    ("name", "option", "allowed", "refused"),
    [
        ("focal", "gamma", [0.0, 5.0], [-0.1, float("nan")]),
        ("gce", "q", [1e-6, 1.0], [0.0, 1.01]),
        ("lff", "q", [1e-6, 1.0], [0.0, 1.01]),
        ("lff", "alpha", [0.0, 1.0], [-0.1, 1.1]),
        ("be", "q", [1e-6, 1.0], [0.0, 1.01]),
        ("be", "alpha", [0.0, 1.0], [-0.1, 1.1]),
        ("be", "models", [1, 9], [0, 2.5]),
        ("be", "auxiliary_updates", [1, 1000], [0, 2.5]),
        ("be", "confidence", [0.0, 1.0], [-0.1, 1.1]),
        ("be", "votes", [1, 9], [0, 2.5]),
        ("jtt", "identification_epochs", [1, 50], [0, 1.5]),
        ("jtt", "upsampling", [0.0, 1e4], [-1.0]),
        ("debian", "balance", [0.0, 10.0], [-0.1]),
        ("echoes", "decay", [0.0, 1.0], [-0.1, 1.1]),
        ("echoes", "error_threshold", [0.0, 1.0], [-0.1, 1.1]),
        ("echoes", "target_factor", [0.0, 1e4], [-1.0]),
        ("groupdro", "step_size", [0.0, 10.0], [-0.01]),
        ("groupdro", "adjustment", [0.0, 10.0], [-0.01]),
        ("dpr", "q", [0.7, 1.0], [0.0, 1.1]),
        ("dpr", "temperature", [0.1, 10.0], [0.0, -1.0]),
        ("xrm", "step_size", [0.0, 10.0], [-0.01]),
        ("lisa", "alpha", [1, 10], [0, 11, 2.5]),
        ("lisa", "intra_label", [0.0, 1.0], [-0.1, 1.1]),
        ("poisoner", "percentile", [0.0, 100.0], [-0.1, 100.1]),
        ("poisoner", "conflict_factor", [0.0, 10.0], [-0.1]),
        ("poisoner", "gamma", [0.0, 10.0], [-0.1]),
        ("poisoner", "fit_momentum", [0.0, 1.0], [-0.1, 1.1]),
        ("poisoner", "multiplier_cap", [0.0, 1e9], [-0.1]),
        ("poisoner", "target_sampler", ["shuffled", "class_balanced"], ["group_balanced", "weighted"]),
        ("poisoner", "warmup_epochs", [0, 30], [-1, 0.5]),
        ("poisoner", "strata", ["clean", "poisoned"], ["dirty"]),
    ],
)
def test_limits_of_an_option(name: str, option: str, allowed: list[Any], refused: list[Any]) -> None:
    annotation = options(name)[option]
    assert [value for value in allowed if not accepts(annotation, value)] == []
    assert [value for value in refused if accepts(annotation, value)] == []


def test_a_method_of_ones_own_need_not_state_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Vanilla):
        def __init__(self, data, new_network, epochs, *, strength: float, anything) -> None:  # type: ignore[no-untyped-def]
            super().__init__(data, new_network, epochs)

    monkeypatch.setitem(METHODS, "own", Own)
    assert options("own") == {"strength": float, "anything": Any}


def test_an_annotation_that_means_nothing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Vanilla):
        def __init__(self, data, new_network, epochs, *, strength: NonNegativ) -> None:  # type: ignore[no-untyped-def,name-defined]  # noqa: F821
            super().__init__(data, new_network, epochs)

    Own.__init__.__module__ = "methods.own"
    monkeypatch.setitem(METHODS, "own", Own)
    with pytest.raises(UserError, match=r"^methods/own.py annotates .*'NonNegativ' is not defined\): correct it\.$"):
        options("own")
