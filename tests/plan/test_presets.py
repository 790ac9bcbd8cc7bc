"""Presets: other settings of a task, named in whatever they lead to."""

from __future__ import annotations

from factories.noise import noise


def test_the_paper_preset_is_the_plain_table_and_others_are_named() -> None:
    paper = recipes.resolve("celeba_blond", "poisoner")
    assert "preset" not in paper
    assert paper["data"] == {"target": "Blond_Hair", "size": 224, "subset": False}
    assert paper["options"]["percentile"] == 10.0
    assert paper["options"]["target_sampler"] == "class_balanced"
    reduced = recipes.resolve("celeba_blond", "poisoner", (), "reduced")
    assert reduced["preset"] == "reduced"
    assert reduced["data"] == {"target": "Blond_Hair", "size": 64, "subset": True}
    assert plan.Run(paper, 0).preset == "paper"
    assert plan.Run(paper, 0).digest != plan.Run(reduced, 0).digest
    with pytest.raises(UserError, match="Task 'cmnist_99' has no preset 'reduced'"):
        recipes.resolve("cmnist_99", "vanilla", (), "reduced")


def test_only_waterbirds_starts_from_imagenet_by_default() -> None:
    pretrained = {
        task for task in recipes.tables()[0] if recipes.loop_settings(task).get("pretrained") and "layout" not in task
    }
    assert pretrained == {"waterbirds"}


def test_settings_of_images_leave_the_digits_alone() -> None:
    override = recipes.parse_override("pretrained=false")
    assert recipes.resolve("cmnist_99", "vanilla", (override,)) == recipes.resolve("cmnist_99", "vanilla")
    assert recipes.resolve("waterbirds", "vanilla", (override,))["pretrained"] is False
    assert not {"flip", "crop_padding", "stem", "preset"} & set(recipes.resolve("cmnist_99", "vanilla"))


def test_a_reduced_table_says_so_and_has_no_columns_without_the_preset() -> None:
    table = replace(plan.TABLES["2"], preset="reduced")
    assert table.available_tasks == ("waterbirds", "dogs_cats", "imagenet_b")
    assert table.stem == "table2-reduced"
    assert {each.preset for each in table.runs([0], table.tasks, ["vanilla"])} == {"reduced"}
    found = {(row.key, task): [] for row in table.rows for task in table.tasks}
    lines = tables.tidy(table, found)
    assert set(lines.preset) == {"reduced"}
    notes = tables.footer(table, found, [])
    assert tables.markdown(table, lines, notes).startswith("# Table 2: Debiasing on further tasks (reduced preset)")
    assert "reduced preset" in tables.latex(table, lines, notes)
    assert any("reduced preset" in note for note in notes)


def test_unknown_presets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(tmp_path), "--status"]
    assert run.main(["--table", "1", "--preset", "reducd", *where]) == 2
    assert "did you mean 'reduced'" in capsys.readouterr().err
    assert run.main(["--tasks", "cmnist_99", "--preset", "reduced", *where]) == 2
    assert "No preset 'reduced' exists for cmnist_99" in capsys.readouterr().err
    assert run.main(["--table", "1", "--preset", "reduced", "--methods", "jtt", *where]) == 0
    assert capsys.readouterr().out.count("missing") == 5
