"""Tables and figures from a small fixed set of records; the golden files are reviewed by eye when they change."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark import figures, plan, recipes, tables
from benchmark.plan import Run, Table
from benchmark.records import SCHEMA, Store
from benchmark.run import main

GOLDEN = Path(__file__).parent / "golden"


def made_up_record(run: Run, accuracy: float) -> dict[str, Any]:
    """A record whose counts are plainly invented: every aligned group right, the others right by a share."""
    total = np.full((10, 10), 100)
    correct = np.full((10, 10), round(100 * accuracy))
    np.fill_diagonal(correct, 100)
    correct[:, 9] -= 10
    counts = {"epoch": 3, "correct": correct.tolist()}
    curve = {"avg_acc": 100 * accuracy, "model_bias": 30.0, "bias_acc": 100 - 50 * accuracy}
    epochs = [
        {"phase": "train", "epoch": epoch, "loss": 1 / epoch, "target": curve | {"bias_acc": 90.0 - 10 * epoch}}
        for epoch in (1, 2, 3)
    ]
    if run.method == "poisoner":
        epochs = [{"phase": "poison", "epoch": 1, "loss": 1.0, "biased": {"bias_acc": 95.0}}, *epochs]
    return {
        "schema": SCHEMA,
        "task": run.task,
        "method": run.method,
        "seed": run.seed,
        "preset": "paper",
        "settings": run.settings,
        "groups": {"test": total.tolist()},
        "test": {"last": counts, "validation": counts},
        "train": {},
        "curves": epochs,
        "summary": {},
        "warnings": [],
        "provenance": {"commit": "0123456789abcdef", "modified": False},
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fixed_store(tmp_path)


def fixed_store(folder: Path) -> Store:
    """Two tasks, four methods, two seeds; LfF failed on one task and has a single seed on the other."""
    store = Store(folder)
    shares = {"vanilla": 0.4, "lff": 0.6, "poisoner": 0.8, "groupdro": 0.9, "gce": 0.2}
    for task in ("cmnist_99", "cmnist_98"):
        for method, share in shares.items():
            for seed in (0, 1):
                run = Run(recipes.resolve(task, method), seed)
                if method == "lff" and (task == "cmnist_98" or seed):
                    continue
                store.save(run, made_up_record(run, share + 0.02 * seed))
    store.save_failure(Run(recipes.resolve("cmnist_98", "lff"), 0), "TrainingError: The loss became nan.", "trace")
    return store


@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_golden(store: Store, number: str, request: pytest.FixtureRequest) -> None:
    table = plan.TABLES[number]
    tables.write(table, tables.collect(table, store), store)
    for path in sorted((store.folder / "tables").iterdir()):
        golden = GOLDEN / path.name
        if request.config.getoption("--update-golden"):
            GOLDEN.mkdir(exist_ok=True)
            shutil.copy(path, golden)
        assert path.read_text() == golden.read_text(), f"{path.name} changed; look, then run with --update-golden"


def test_csv_says_mean_sd_and_difference_to_the_paper(store: Store) -> None:
    table = plan.TABLES["2"]
    lines = tables.tidy(table, tables.collect(table, store)).set_index(["method", "task", "metric", "selection"])
    cell = lines.loc["vanilla", "cmnist_99", "avg_acc", "last"]
    # Nine groups of ten at the share, the diagonal at 100; the last colour 10 points less, its diagonal at 90.
    values = [100 * (9 * share + 1) / 10 - 1 for share in (0.40, 0.42)]
    assert cell["mean"] == pytest.approx(np.mean(values))
    assert cell["std"] == pytest.approx(np.std(values, ddof=1))
    assert (cell["n"], cell["paper"], cell["preset"]) == (2, 56.28, "paper")
    assert cell["delta"] == pytest.approx(np.mean(values) - 56.28)
    gap = lines.loc["lff", "cmnist_98", "avg_acc", "last"]
    assert gap["n"] == 0
    assert pd.isna(gap["mean"])
    assert gap["paper"] == 83.92
    single = lines.loc["lff", "cmnist_99", "avg_acc", "last"]
    assert single["n"] == 1
    assert pd.isna(single["std"]), "one seed has no spread"


def test_table3_reads_curves_where_it_stops_early(store: Store) -> None:
    table = plan.TABLES["3"]
    means = tables.tidy(table, tables.collect(table, store)).set_index(["method", "task"])["mean"]
    assert means["erm_stop_epoch2", "cmnist_99"] == 70
    assert means["erm", "cmnist_99"] == 60
    assert means["poisoner", "cmnist_99"] == 95, "the biased model's curve, not the target's"


def test_best_and_second_are_marked_among_methods_without_bias_labels(store: Store) -> None:
    table = plan.TABLES["2"]
    text = tables.write(table, tables.collect(table, store), store)
    section = text[text.index("0.99") : text.index("0.98")]
    rows = {line.split("|")[1].strip(): line for line in section.splitlines() if line.startswith("| ")}
    assert "**" in rows["Poisoner"]
    assert "<u>" in rows["LfF"]
    assert "*" not in rows["GroupDRO*"].replace("GroupDRO*", "")
    assert "**" not in rows["Vanilla"]


def test_equal_means_are_both_best(store: Store) -> None:
    table = plan.selection(["cmnist_99"], ["vanilla", "gce"])
    for seed in (0, 1):
        run = Run(recipes.resolve("cmnist_99", "gce"), seed)
        store.save(run, made_up_record(run, 0.4 + 0.02 * seed))
    assert tables.write(table, tables.collect(table, store), store).count("**") == 2 * 2 * 3


def test_selections_of_other_tasks_have_other_files(store: Store) -> None:
    one, both = (plan.selection(tasks, ["vanilla"]) for tasks in (["cmnist_99"], ["cmnist_99", "cmnist_98"]))
    assert one.stem != both.stem
    assert one == plan.selection(["cmnist_99", "cmnist_99"], ["vanilla", "vanilla"])
    assert plan.with_methods(one, ["gce", "gce"]) == plan.selection(["cmnist_99"], ["vanilla", "gce"])
    text = tables.write(one, tables.collect(one, store), store)
    assert text.startswith("# Selection: Selected tasks and methods\n")
    assert (store.folder / "tables" / "selection-cmnist_99.csv").exists()


def test_the_failure_and_its_reason_stand_under_the_table(store: Store) -> None:
    table = plan.TABLES["2"]
    text = tables.write(table, tables.collect(table, store), store)
    assert "Failed: cmnist_98/lff seed 0: TrainingError: The loss became nan." in text
    assert "Without records: waterbirds, dogs_cats, imagenet_b." in text


def test_a_modified_run_never_stands_in_the_papers_table(store: Store) -> None:
    override = recipes.parse_override("epochs=5")
    table: Table = replace(plan.TABLES["2"], overrides=(override,))
    run = Run(recipes.resolve("cmnist_99", "be", [override]), 0)
    store.save(run, made_up_record(run, 0.99))
    plain = plan.TABLES["2"]
    lines = tables.tidy(plain, tables.collect(plain, store))
    assert lines[lines.method == "be"].n.sum() == 0
    text = tables.write(table, tables.collect(table, store), store)
    assert "modified: paper, epochs=5" in text
    assert (store.folder / "tables" / "table2-epochs=5.md").exists()


def test_the_average_column_is_over_seeds_that_every_task_has(tmp_path: Path) -> None:
    store, table = Store(tmp_path), plan.TABLES["1"]
    shares = {"celeba_bignose": 0.4, "celeba_attractive": 0.5, "celeba_blond": 0.6, "celeba_bags_under_eyes": 0.9}
    for task, share in shares.items():
        for seed in (0, 1) if task != "celeba_blond" else (1, 2):
            run = Run(recipes.resolve(task, "vanilla"), seed)
            store.save(run, made_up_record(run, share + 0.02 * seed))
    run = Run(recipes.resolve("celeba_blond", "lff"), 0)
    store.save(run, made_up_record(run, 0.5))
    lines = tables.tidy(table, tables.collect(table, store)).set_index(["method", "task", "metric", "selection"])
    mean = lines.loc["vanilla", "celeba_avg", "avg_acc", "last"]
    expected = np.mean([100 * (9 * (share + 0.02) + 1) / 10 - 1 for share in shares.values()])
    assert (mean["mean"], mean["n"], mean["paper"]) == (pytest.approx(expected), 1, 74.87)
    assert lines.loc["lff", "celeba_avg", "avg_acc", "last"]["n"] == 0
    assert "## CelebA, mean of the four" in tables.write(table, tables.collect(table, store), store)


def test_the_papers_numbers_may_stand_apart(store: Store) -> None:
    table = plan.TABLES["2"]
    text = tables.write(table, tables.collect(table, store), store, "apart")
    measured, published = text.split("# As published")
    assert "paper" not in measured.split("- Percent")[0]
    assert "41.00" not in published
    assert "56.28" in published
    assert "56.28" not in measured
    assert "## ImageNet-B" in published
    source = (store.folder / "tables" / "table2.tex").read_text()
    assert source.count(r"\begin{table*}") == 2
    assert "as published" in source[source.rindex(r"\caption") :]


def test_every_table_compiles(store: Store) -> None:
    """All tables in one document, by the TeX of this machine."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here")
    folder = store.folder / "tables"
    assert main(["--table", "1", "2", "3", "4", "--render-only", "--results", str(store.folder)]) == 0
    tables.write(
        replace(plan.TABLES["2"], preset="reduced"),
        tables.collect(plan.TABLES["2"], store),
        store,
        "apart",
    )
    for own in (plan.QUICK, *plan.OURS.values()):
        tables.write(own, tables.collect(own, store), store)
        assert "paper" not in (folder / f"{own.stem}.tex").read_text()
    inputs = "".join(rf"\input{{{path.stem}}}" for path in sorted(folder.glob("*.tex")))
    (folder / "all.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}" + inputs + r"\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=folder, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_records_of_different_data_are_not_silently_put_into_one_column(store: Store) -> None:
    table = plan.TABLES["2"]
    found = tables.collect(table, store)
    records = [record for (_, task), each in found.items() if task == "cmnist_99" for record in each]
    for record in records:
        record["provenance"]["data"] = "as it was"
    assert not any("DIFFERENT DATA" in note for note in tables.footer(table, found, []))
    records[-1]["provenance"]["data"] = "changed"
    (note,) = (note for note in tables.footer(table, found, []) if "DIFFERENT DATA" in note)
    assert note.startswith("C-MNIST¹")


def test_a_table_with_many_changes_has_a_name_that_file_systems_take(store: Store) -> None:
    def named(last: float) -> str:
        values = [*(0.001 + 1e-9 * each for each in range(30)), last]
        return replace(plan.QUICK, overrides=tuple(recipes.Override("", "learning_rate", each) for each in values)).stem

    assert len(named(0.5)) <= 150
    assert named(0.5) != named(0.25)
    assert named(0.5).startswith("quick-learning_rate=0.001")


def test_curves_show_every_method_with_its_seeds(store: Store) -> None:
    table = plan.TABLES["2"]
    figure = figures.curves(table, tables.collect(table, store), "cmnist_99")
    average, _, biased = figure.axes
    assert [line.get_label() for line in average.lines] == ["Vanilla", "LfF", "Poisoner", "GroupDRO"]
    assert [line.get_label() for line in biased.lines] == ["Vanilla", "Poisoner"]
    assert average.lines[0].get_ydata()[-1] == pytest.approx(41), "the mean over seeds"
    assert len(average.collections) == 3, "a band where there is more than one seed"
    assert "n = 1 to 2" in figure.get_suptitle()
