"""Presets: other settings of a task, named in whatever they lead to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from factories.records import make_results

from benchmark import run
from benchmark.compare import cells
from benchmark.errors import UserError
from benchmark.plan import catalogue
from benchmark.plan.paper import TABLES
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.report import notes, tables


def test_the_paper_preset_is_the_plain_table_and_others_are_named() -> None:
    paper = load().resolve("celeba_blond", "poisoner")
    assert paper["preset"] == "paper"
    assert paper["data"] == {"target": "Blond_Hair", "size": 224, "subset": False}
    assert paper["options"]["percentile"] == 10.0
    assert paper["options"]["target_sampler"] == "class_balanced"
    reduced = load().resolve("celeba_blond", "poisoner", (), "reduced")
    assert reduced["preset"] == "reduced"
    assert reduced["data"] == {"target": "Blond_Hair", "size": 64, "subset": True}
    assert Run(paper, 0).preset == "paper"
    assert Run(paper, 0).digest != Run(reduced, 0).digest
    assert Run(reduced, 0).digest != Run(reduced | {"preset": "paper"}, 0).digest, "the name alone tells them apart"
    with pytest.raises(UserError, match="Task 'cmnist_99' has no preset 'reduced'"):
        load().resolve("cmnist_99", "vanilla", (), "reduced")


def test_only_waterbirds_starts_from_imagenet_by_default() -> None:
    pretrained = {
        task for task in load().tasks if load().task_settings(task).get("pretrained") and "layout" not in task
    }
    assert pretrained == {"waterbirds"}


def test_settings_of_images_leave_the_digits_alone() -> None:
    override = load().parse_override("pretrained=false")
    digits = load().resolve("cmnist_99", "vanilla")
    assert load().resolve("cmnist_99", "vanilla", (override,)) == digits
    assert load().resolve("waterbirds", "vanilla", (override,))["pretrained"] is False
    assert not {"flip", "crop_padding", "stem"} & set(digits)


def test_a_reduced_table_says_so_and_has_no_columns_without_the_preset(tmp_path: Path) -> None:
    table = replace(TABLES["2"], preset="reduced")
    assert load().available(table) == ("waterbirds", "dogs_cats", "imagenet_b")
    assert table.stem == "table2-reduced"
    runs = catalogue.runs(load(), [table], [0], methods=["vanilla"])
    assert [(each.task, each.preset) for each in runs] == [(task, "reduced") for task in load().available(table)]
    results = make_results(tmp_path)
    assert set(cells.tidy(table, results).preset) == {"reduced"}
    markdown = tables.write(table, results)
    assert markdown.startswith("# Table 2: Debiasing on further tasks (reduced preset)")
    assert "reduced preset" in (tmp_path / "tables" / "table2-reduced.tex").read_text(encoding="utf-8")
    assert any("reduced preset" in note for note in notes.footer(table, results))


def test_unknown_presets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(tmp_path), "--status"]
    assert run.main(["--table", "1", "--preset", "reducd", *where]) == 2
    assert "did you mean 'reduced'" in capsys.readouterr().err
    assert run.main(["--tasks", "cmnist_99", "--preset", "reduced", *where]) == 2
    assert "No preset 'reduced' exists for cmnist_99" in capsys.readouterr().err
    assert run.main(["--table", "1", "--preset", "reduced", "--methods", "jtt", *where]) == 0
    printed = capsys.readouterr().out
    assert ", 4 missing" in printed
    assert printed.count("0/1") == 4
