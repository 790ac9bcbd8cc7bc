"""Runs whose data lack the validation images that their method, or the rule of a search, uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories.digits import tiny
from factories.records import make_run

import datasets
from benchmark import run
from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.rules import RULES
from benchmark.workers.rehearsal import able, check_rule
from datasets import BiasedDataset

DFR, VANILLA = (
    [make_run(task, method) for task in ("colored_digits", "dogs_cats", "waterbirds")] for method in ("dfr", "vanilla")
)


@pytest.fixture(autouse=True)
def outlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dogs & Cats without validation images, Waterbirds not at hand."""

    def outline(builder: str, data_root: Path, balance: float, **data: object) -> BiasedDataset:
        if builder == "waterbirds":
            raise UserError("not at hand")
        dataset = tiny()
        none = dataset.validation.take(np.arange(0))
        return replace(dataset, name=builder, validation=none) if builder == "dogs_cats" else dataset

    monkeypatch.setattr(datasets, "outline", outline)


def kept(runs: list[Run], *named: str) -> tuple[list[Run], tuple[str, ...]]:
    return able(runs, load(), Path("unused"), named)


@pytest.mark.parametrize("named", [(), ("vanilla", "dfr")])
def test_they_stop_no_others(named: tuple[str, ...]) -> None:
    runs, notes = kept(DFR + VANILLA, *named)
    assert runs == [DFR[0], DFR[2], *VANILLA], "what is not at hand is found missing where it is trained"
    assert notes == ("Left out, since dogs_cats has no validation images of which it could get half: DFR.",)


def test_a_method_that_was_asked_for_and_has_no_run_left_is_refused() -> None:
    runs = [DFR[1], VANILLA[1]]
    assert kept(runs)[0] == [VANILLA[1]]
    with pytest.raises(UserError, match="The method dfr cannot be trained, since dogs_cats has no validation images"):
        kept(runs, "vanilla", "dfr")
    with pytest.raises(UserError, match="dfr cannot be trained"):
        kept([DFR[1]])


def test_the_command_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["--tasks", "colored_digits", "dogs_cats", "--dry-run", "--results", str(tmp_path), "--methods"]
    assert run.main([*command, "vanilla", "dfr"]) == 0
    note, *planned = capsys.readouterr().out.splitlines()
    assert note.startswith("Left out, since dogs_cats has no validation images")
    assert [each.split("/")[:2] for each in planned] == [
        ["colored_digits", "vanilla"], ["colored_digits", "dfr"], ["dogs_cats", "vanilla"],
    ]  # fmt: skip
    assert run.main([*command[:1], *command[2:], "dfr"]) == 2
    assert "dfr cannot be trained" in capsys.readouterr().err


def test_a_search_needs_validation_images_of_each_class_though_not_their_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tiny()
    unlabelled = replace(dataset.validation, bias=np.full(len(dataset.validation), -1))
    rest = unlabelled.take(np.flatnonzero(unlabelled.targets != 0))
    search = [VANILLA[0]], load(), Path("unused")
    monkeypatch.setattr(datasets, "outline", lambda *_, **__: replace(dataset, validation=unlabelled))
    check_rule(*search, RULES["validation"])
    with pytest.raises(UserError, match="some validation images have no bias label"):
        check_rule(*search, RULES["validation_worst"])
    monkeypatch.setattr(datasets, "outline", lambda *_, **__: replace(dataset, validation=rest))
    with pytest.raises(UserError, match="1 of the tested classes has no validation image"):
        check_rule(*search, RULES["validation"])


def test_a_rule_must_find_its_images_in_the_half_that_a_method_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a class with one validation image DFR trains on that one."""
    dataset = tiny()
    rest = np.flatnonzero(dataset.validation.targets != 0)
    few = dataset.validation.take(np.append(rest, np.flatnonzero(dataset.validation.targets == 0)[:1]))
    monkeypatch.setattr(datasets, "outline", lambda *_, **__: replace(dataset, validation=few))
    check_rule([VANILLA[0]], load(), Path("unused"), RULES["validation"])
    with pytest.raises(UserError, match="no validation image in the half of them that dfr does not train on: choose"):
        check_rule([DFR[0]], load(), Path("unused"), RULES["validation"])
