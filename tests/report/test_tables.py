"""Tables from a small fixed set of records; the golden files are reviewed by eye when they change."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories.records import fixed_store, make_record, make_results, make_run, put, save_seeds

from benchmark.compare import significance
from benchmark.compare.cells import tidy
from benchmark.plan.ours import OURS, QUICK, selection
from benchmark.plan.paper import TABLES
from benchmark.plan.table import Override, Row, method_rows
from benchmark.report import notes, tables
from benchmark.rules import RULES
from benchmark.run import main
from benchmark.store.record import Record
from benchmark.store.results import Results

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return make_results(fixed_store(tmp_path).folder)


@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_golden(results: Results, number: str, request: pytest.FixtureRequest) -> None:
    tables.write(TABLES[number], results)
    for path in sorted((results.folder / "tables").iterdir()):
        golden = GOLDEN / path.name
        if request.config.getoption("--update-golden"):
            GOLDEN.mkdir(exist_ok=True)
            shutil.copy(path, golden)
        assert path.read_text() == golden.read_text(), f"{path.name} changed; look, then run with --update-golden"


def test_best_and_second_are_marked_among_methods_without_bias_labels(results: Results) -> None:
    text = tables.write(TABLES["2"], results)
    section = text[text.index("0.99") : text.index("0.98")]
    rows = {line.split("|")[1].strip(): line for line in section.splitlines() if line.startswith("| ")}
    assert "**" in rows["Poisoner"]
    assert "<ins>" in rows["LfF"]
    assert "*" not in rows["GroupDRO*"].replace("GroupDRO*", "")
    assert "**" not in rows["Vanilla"]


def test_notes_on_the_data_that_only_some_runs_of_a_task_have_are_each_said_once(results: Results) -> None:
    """As after a part of the data was completed, or a later version looked at more."""
    old, new = "Part of it is missing.", "1 of 9 test images are validation images, too."
    told = []
    for seed, said in ((0, [old]), (1, [old, new])):
        record = make_record(make_run(seed=seed))
        provenance = msgspec.structs.replace(record.provenance, data_notes=said)
        told.append(msgspec.structs.replace(record, provenance=provenance))
    text = tables.write(TABLES["2"], make_results(results.folder, *told))
    assert [text.count(f"C-MNIST¹ (ρ = 0.99): {each}") for each in (old, new)] == [1, 1]


def test_methods_that_use_validation_images_are_marked_and_noted(results: Results) -> None:
    """Those with bias labels are neither best nor second, and stand apart in LaTeX."""
    for method, share in (("dfr", 0.99), ("afr", 0.5)):
        save_seeds(results.folder, method, {0: share, 1: share})
    note = "DFR trains on half of the validation images"
    (dfr,) = (record for record in make_results(results.folder).records if record.run == make_run(method="dfr"))
    told = msgspec.structs.replace(
        dfr,
        uses_validation=True,
        uses_validation_bias=True,
        provenance=msgspec.structs.replace(dfr.provenance, data_notes=[note]),
    )
    results = make_results(results.folder, told)
    text = tables.write(OURS["modern"], results)
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "**" in rows["Poisoner"]
    assert "**" not in rows["DFR†"]
    assert "<ins>" not in rows["DFR†"]
    assert rows["AFR"]
    assert "among methods without bias labels (* uses them, † uses those of validation images)." in text
    assert f"C-MNIST¹ (ρ = 0.99): {note}" in text
    source = (results.folder / "tables" / "modern.tex").read_text()
    assert source.index("AFR") < source.index("GroupDRO{*}") < source.index(r"DFR\dag{}")


def test_validation_images_without_bias_are_no_bias_labels(results: Results) -> None:
    record = make_record(make_run("cmnist_99", "gce"), 0.95)
    results = make_results(results.folder, msgspec.structs.replace(record, uses_validation=True))
    text = tables.write(selection(["cmnist_99"], ["vanilla", "gce"]), results)
    (row,) = (line for line in text.splitlines() if line.startswith("| GCE‡"))
    assert "**" in row
    assert "‡ trains on validation images, without their bias labels." in text
    assert "among methods" not in text


def test_equal_means_are_both_best_unless_all_are_level(results: Results) -> None:
    save_seeds(results.folder, "gce", {0: 0.40, 1: 0.42})
    save_seeds(results.folder, "focal", {0: 0.30, 1: 0.32})
    for methods, marked in ((["vanilla", "gce", "focal"], 2 * 3), (["vanilla", "gce"], 0)):
        table = selection(["cmnist_99"], methods)
        assert tables.write(table, make_results(results.folder)).count("**") == 2 * marked


def test_of_two_rows_the_other_is_no_second(results: Results) -> None:
    table = selection(["cmnist_99"], ["vanilla", "gce", "groupdro"])
    save_seeds(results.folder, "gce", {0: 0.30, 1: 0.32})
    save_seeds(results.folder, "groupdro", {0: 0.30, 1: 0.32})  # uses bias labels and is not compared
    text = tables.write(table, make_results(results.folder))
    assert text.count("**") == 2 * 3
    assert "<ins>" not in text
    save_seeds(results.folder, "lff", {0: 0.20, 1: 0.22})
    text = tables.write(selection(["cmnist_99"], ["vanilla", "gce", "lff"]), make_results(results.folder))
    assert text.count("<ins>") == 3


def test_a_selection_has_a_file_of_its_own(results: Results) -> None:
    text = tables.write(selection(["cmnist_99"], ["vanilla"]), results)
    assert text.startswith("# Selection: Selected tasks and methods\n")
    assert (results.folder / "tables" / "selection-cmnist_99-vanilla.csv").exists()


def test_the_failure_and_its_reason_stand_under_the_table(results: Results) -> None:
    text = tables.write(TABLES["2"], results)
    assert "Failed: cmnist_98/lff seed 0: TrainingError: The loss became nan." in text
    assert "Tasks left out, without records: Waterbirds; Dogs & Cats; ImageNet-B (reconstruction)." in text


def test_a_modified_run_never_stands_in_the_papers_table(results: Results) -> None:
    table = replace(TABLES["2"], overrides=(Override("", "epochs", 5),))
    results = make_results(results.folder, make_record(make_run("cmnist_99", "be", "epochs=5"), 0.99))
    lines = tidy(TABLES["2"], results)
    assert lines[lines.method == "be"].n.sum() == 0
    lines = tidy(table, results)
    assert lines[lines.method == "be"].n.sum() == 3 * len(RULES), "three metrics by all rules"
    assert "modified: paper, epochs=5" in tables.write(table, results)
    assert (results.folder / "tables" / "table2-epochs=5.md").exists()


def test_the_average_of_tasks_has_a_section_once_all_of_them_are_measured(tmp_path: Path) -> None:
    table, heading = TABLES["1"], "## CelebA, mean of the four"
    for task in table.tasks:
        assert heading not in tables.write(table, make_results(tmp_path))
        save_seeds(tmp_path, "vanilla", {1: 0.5}, task=task)
    assert heading in tables.write(table, make_results(tmp_path))


def test_the_papers_numbers_may_stand_apart(results: Results) -> None:
    text = tables.write(TABLES["2"], results, "apart")
    measured, published = text.split("# As published")
    assert "paper" not in measured.split("- Percent")[0]
    assert "41.00" not in published
    assert "56.28" in published
    assert "56.28" not in measured
    assert "## ImageNet-B" in published
    source = (results.folder / "tables" / "table2.tex").read_text()
    assert source.count(r"\begin{table*}") == 2
    assert "as published" in source[source.rindex(r"\caption") :]


def test_every_table_compiles(results: Results) -> None:
    """All tables in one document of two columns, by the TeX of this machine; none is wider than the page."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here")
    folder = results.folder / "tables"
    assert main(["--table", "1", "2", "3", "4", "--render-only", "--results", str(results.folder)]) == 0
    save_seeds(results.folder, "vanilla", {0: 0.4, 1: 0.5}, task="dogs_cats", preset="reduced")
    results = make_results(results.folder)
    tables.write(replace(TABLES["2"], preset="reduced"), results, "apart")
    for own in (QUICK, *OURS.values()):
        tables.write(own, results)
        assert r"\textit{paper}" not in (folder / f"{own.stem}.tex").read_text()
    inputs = "".join(rf"\input{{{path.stem}}}" for path in sorted(folder.glob("*.tex")))
    (folder / "all.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{booktabs}\textwidth=7in\columnwidth=3.35in\hsize=\columnwidth"
        r"\linewidth=\columnwidth\oddsidemargin=-0.25in\columnsep=0.3in\begin{document}" + inputs + r"\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=folder, capture_output=True
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "Overfull" not in said, said


def test_latex_has_what_is_measured_in_the_papers_arrangement(tmp_path: Path) -> None:
    for task in TABLES["1"].tasks:
        for method in ("vanilla", "poisoner"):
            save_seeds(tmp_path, method, {0: 0.5, 1: 0.6}, task=task)
    tables.write(TABLES["1"], make_results(tmp_path))
    source = (tmp_path / "tables" / "table1.tex").read_text()
    assert source.startswith("% Commit ")
    assert "Commit" not in source[source.index(r"\begin") :]
    assert "resizebox" not in source
    # All five column groups of three fit the page, standard deviations below the means, in numbers of the same size.
    assert "{lrrrrrrrrrrrrrrr}" in source
    assert r"\quad$\pm$ &" in source
    assert r"\tiny" not in source
    save_seeds(tmp_path / "one", "vanilla", {0: 0.5, 1: 0.6}, task="waterbirds")
    tables.write(TABLES["2"], make_results(tmp_path / "one"))
    source = (tmp_path / "one" / "tables" / "table2.tex").read_text()
    assert r"\begin{table}" in source, "one group fits a column"
    assert "{lrrr}" in source
    assert "without records: Dogs \\& Cats;" in source
    assert r"\,$\pm$\," in source


def test_rows_without_a_number_are_left_out_and_named(tmp_path: Path) -> None:
    """Those that the paper has a number for stay, as in Table 2."""
    save_seeds(tmp_path, "vanilla", {0: 0.5})
    results = make_results(tmp_path)
    text = tables.write(OURS["modern"], results)
    source = (tmp_path / "tables" / "modern.tex").read_text()
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")] == ["Method", "Vanilla"]
    assert "Rows left out, without a number: RWG*; GroupDRO*; JTT; BE;" in text
    assert "\nJTT &" not in source
    assert "| LfF " in tables.write(TABLES["2"], results)


def test_rows_of_fewer_seeds_are_named_with_their_number(tmp_path: Path) -> None:
    for method, number in (("vanilla", 5), ("gce", 1), ("lff", 3), ("jtt", 3)):
        save_seeds(tmp_path, method, dict.fromkeys(range(number), 0.5))
    results = make_results(tmp_path)

    def text(*names: str) -> str:
        return tables.write(selection(["cmnist_99"], names), results)

    assert "n = 3 to 5 (3: LfF, JTT), mean" in text("vanilla", "lff", "jtt")
    assert "n = 1 to 5 (3: LfF), mean" in text("vanilla", "lff", "gce")
    assert "n = 3, mean" in text("lff", "jtt")


def test_a_bias_that_is_the_average_itself_is_named_and_never_marked(tmp_path: Path) -> None:
    """Vanilla gets nothing right of one group of every class, LfF of one class: biases of 18 and 2.7, JTT's of 27."""
    for method, right, worst, classes in (("vanilla", 20, 0, 10), ("lff", 30, 0, 1), ("jtt", 60, 30, 10)):
        correct = np.full((10, 10), right)
        correct[:classes, 3] = worst
        put(tmp_path, make_record(make_run("cmnist_99", method), correct=correct.tolist()))
    results = make_results(tmp_path)
    found = [each for each in notes.footer(TABLES["2"], results) if "the average itself" in each]
    assert [each.rsplit(": ", 1)[1] for each in found] == ["Vanilla."]
    lines = [line for line in tables.write(TABLES["2"], results).splitlines() if line.startswith("| ")]
    biases = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines}
    assert {name: bias for name, bias in biases.items() if bias[0].isdigit() or bias[0] in "*<"} == {
        "Vanilla": "18.00°", "LfF": "**2.70**°", "JTT": "27.00°",
    }  # fmt: skip


def test_rows_of_the_same_runs_are_ranked_once_and_marked_alike(tmp_path: Path) -> None:
    for changes, share in (((), 0.8), (("poisoner.gamma=0.0",), 0.7), (("poisoner.conflict_factor=1.0",), 0.6)):
        save_seeds(tmp_path, "poisoner", {0: share}, changes=changes)
    lines = tables.write(OURS["ablations"], make_results(tmp_path)).splitlines()
    averages = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in lines if line.startswith("| ")}
    assert averages["as in the recipe"] == averages["p = 5"]
    assert averages["as in the recipe"].startswith("**")
    assert averages["γ = 0"].startswith("<ins>")
    assert averages["λ = 1"].startswith("6")


def test_titles_of_rows_are_broken_where_the_page_is_too_narrow(tmp_path: Path) -> None:
    for task in OURS["ablations"].tasks[:3]:
        save_seeds(tmp_path, "poisoner", {0: 0.8}, task=task)
        save_seeds(tmp_path, "poisoner", {0: 0.7}, task=task, changes=["poisoner.differentiated=conflicting"])
    tables.write(OURS["ablations"], make_results(tmp_path))
    source = (tmp_path / "tables" / "ablations.tex").read_text()
    assert r"{\raggedright\hangindent=1em GIFL: gradient through the conflicting mean only\strut} &" in source
    assert "\nas in the recipe &" in source


def test_a_run_in_several_rows_is_counted_once_and_no_metric_called_unmeasurable(tmp_path: Path) -> None:
    made = make_record(make_run("cmnist_99", "poisoner"))
    groups = msgspec.structs.replace(made.groups, validation=None)
    answers = msgspec.structs.replace(made.answers, validation=None)
    results = make_results(tmp_path, msgspec.structs.replace(made, groups=groups, answers=answers))
    text = tables.write(OURS["ablations"], results)
    assert "1 run cannot be selected so, since there are no validation images" in text
    assert "cannot be measured there" not in text


def test_rows_of_a_method_with_bias_labels_stand_apart_whatever_they_are_called(tmp_path: Path) -> None:
    rows = (*method_rows("vanilla"), Row("groupdro_tuned", "groupdro", "GroupDRO, tuned"), *method_rows("lff"))
    results = make_results(tmp_path, *(make_record(make_run("cmnist_99", row.method)) for row in rows))
    tables.write(replace(TABLES["2"], rows=rows), results)
    body = (tmp_path / "tables" / "table2.tex").read_text().split(r"\midrule")
    assert ["GroupDRO, tuned" in part for part in body] == [False, False, True]


def test_a_number_of_one_seed_is_marked(results: Results) -> None:
    text = tables.write(TABLES["2"], results)
    (lff, *_) = (line for line in text.splitlines() if line.startswith("| LfF"))
    assert "<ins>12.00</ins>°" in lff
    assert "; ° one seed; selection" in text
    assert "°" not in notes.footer(TABLES["2"], results, whole=False)[0], "where cells say it in words"
    assert "°" not in next(line for line in text.splitlines() if line.startswith("| Vanilla"))
    assert "|:----------|---" in text, "methods to the left"
    assert "---:|---" in text, "numbers to the right"


def test_records_of_different_data_are_not_silently_put_into_one_column(results: Results) -> None:
    def of_data(record: Record, data: str) -> Record:
        return msgspec.structs.replace(record, provenance=msgspec.structs.replace(record.provenance, data=data))

    def warnings(results: Results) -> list[str]:
        return [note for note in notes.footer(TABLES["2"], results) if "DIFFERENT DATA" in note]

    # Tasks may differ; the records of one may not.
    results = make_results(results.folder, *(of_data(record, record.task) for record in results.records))
    assert warnings(results) == []
    (last,) = (record for record in results.records if record.run == make_run("cmnist_99", "groupdro", seed=1))
    (note,) = warnings(make_results(results.folder, of_data(last, "changed")))
    assert note.startswith("C-MNIST¹")
    assert "C-MNIST²" not in note


def test_a_table_says_which_runs_computed_in_less_than_float32(tmp_path: Path) -> None:
    for seed, precision in enumerate(("float32", "bfloat16", "")):
        made = make_record(make_run("cmnist_99", seed=seed))
        provenance = msgspec.structs.replace(made.provenance, precision=precision)
        put(tmp_path, msgspec.structs.replace(made, provenance=provenance))
    said = "1 of these 3 runs computed in bfloat16, the others in float32. In bfloat16 C-MNIST¹ (ρ = 0.99): Vanilla."
    assert said in notes.caveats(TABLES["2"], make_results(tmp_path))


def test_rows_of_the_same_runs_and_of_other_seeds_are_named(tmp_path: Path) -> None:
    """A setting's own value beside the recipe is no second measurement, and seeds that differ are no pairs."""
    for method, seeds in (("vanilla", (0, 1)), ("gce", (2, 3)), ("poisoner", (1, 2))):
        save_seeds(tmp_path, method, dict.fromkeys(seeds, 0.5))
    results = make_results(tmp_path)
    rows = (
        Row("vanilla", "vanilla"),
        Row("gce", "gce"),
        Row("recipe", "poisoner", "as in the recipe"),
        Row("p5", "poisoner", "p = 5", (Override("poisoner", "percentile", 5.0),)),
    )
    table = replace(TABLES["2"], rows=rows)
    said = notes.footer(table, results)
    assert "C-MNIST¹ (ρ = 0.99): the same runs stand in the rows as in the recipe, p = 5." in said
    assert "C-MNIST¹ (ρ = 0.99): of other seeds than Vanilla, so not paired with it: GCE." in said
    assert not any("stand in the rows" in note for note in notes.footer(TABLES["3"], results)), "one run, two epochs"
    beside = significance.differences(replace(table, rows=rows[2:]), results)
    assert beside.empty, "no difference of a run from itself"
