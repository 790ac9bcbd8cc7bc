"""The page from small made-up sets of records; tests/integration/page_browser.py reads it in a browser."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from factories.records import fixed_store, make_record, make_results, make_run, save_seeds

from benchmark import options
from benchmark.compare import fidelity, readings, verdicts
from benchmark.compare.cells import tidy
from benchmark.plan.paper import CELEBA, TABLES
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.rendering import stored_variants
from benchmark.report import page
from benchmark.store.results import Results
from benchmark.store.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fixed_store(tmp_path).folder


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return make_results(fixed_store(tmp_path_factory.mktemp("results")).folder)


@pytest.fixture(scope="module")
def text(fixed: Results) -> str:
    """The page of the fixed store, pictures and all."""
    return rendered(fixed)


def rendered(results: Results) -> str:
    return page.write(
        results,
        stored_variants(load(), results),
        fidelity.cells(results),
        verdicts.evaluate(results),
        readings.evaluate(results),
    ).read_text(encoding="utf-8")


def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder's page without pictures: drawing them takes most of the time."""
    monkeypatch.setattr(page, "_figures", lambda *arguments: iter(()))
    return rendered(make_results(folder))


def embedded(text: str) -> dict[str, Any]:
    """The JSON that the page's script reads."""
    return json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def cells(text: str, table: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """What is written in every cell of a table, by row, task and metric."""
    found = {}
    for grid in re.findall(rf'<table class="grid" data-table="{table}">(.*?)</table>', text, re.DOTALL):
        for attributes, content in re.findall(
            r'<button type="button" class="cell[^"]*" (.*?)>(.*?)</button>', grid, re.S
        ):
            key = [re.search(f'data-{name}="([^"]*)"', attributes)[1] for name in ("row", "task", "metric")]
            parts = {name: re.search(rf'class="{name}[^"]*">([^<]*)<', content) for name in ("mean", "paper", "delta")}
            found[tuple(key)] = {name: match[1] if match else "" for name, match in parts.items()}
            found[tuple(key)]["number"] = re.search(r'data-cell="(\d+)"', attributes)[1]
    return found


@pytest.mark.parametrize("number", TABLES)
def test_every_cell_says_what_the_table_says(fixed: Results, text: str, number: str) -> None:
    table = TABLES[number]
    shown = cells(text, table.name)
    lines = tidy(table, fixed)
    lines = lines[lines.selection == "last"].set_index(["method", "task", "metric"])
    assert set(shown) == set(lines.index)
    for key, cell in shown.items():
        mean, paper, delta = lines.loc[key, ["mean", "paper", "delta"]]
        assert cell["mean"] == ("" if pd.isna(mean) else f"{mean:.2f}")
        assert cell["paper"] == ("" if pd.isna(paper) else f"{paper:.2f}")
        assert cell["delta"].replace("−", "-") == ("" if pd.isna(delta) else f"{delta:+.2f}")


def test_the_records_behind_a_cell(text: str) -> None:
    data = embedded(text)
    cell = data["cells"][int(cells(text, "table2")["vanilla", "cmnist_99", "avg_acc"]["number"])]
    assert [value for _, value in cell["records"]] == ["45.00", "46.80"]
    assert cell["measured"] == "45.90 ± 1.27"
    found = [data["records"][number] for number, _ in cell["records"]]
    assert [each["seed"] for each in found] == [0, 1]
    run = make_run("cmnist_99", "vanilla", seed=1)
    assert found[1]["path"] == f"runs/{run.id}.json"
    assert found[1]["provenance"]["commit"] == "0123456789abcdef"
    assert found[1]["settings"]["data.ratio"] == 0.99
    assert found[1]["changes"] == []


def test_the_average_comes_from_the_records_of_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in CELEBA:
        save_seeds(tmp_path, "vanilla", {0: 0.5}, task=task)
    text = written(tmp_path, monkeypatch)
    cell = embedded(text)["cells"][int(cells(text, "table1")["vanilla", "celeba_avg", "avg_acc"]["number"])]
    assert [value for _, value in cell["records"]] == [cell["measured"]] * 4


def test_a_gap_tells_the_command_that_fills_it_and_why_it_failed(text: str) -> None:
    data = embedded(text)
    gap = data["cells"][int(cells(text, "table2")["lff", "cmnist_98", "worst_acc"]["number"])]
    assert gap["records"] == []
    assert gap["command"] == "python -m benchmark.run --table 2 --tasks cmnist_98 --methods lff"
    assert gap["failures"] == ["cmnist_98/lff seed 0: TrainingError: The loss became nan."]
    epoch2 = data["cells"][int(cells(text, "table3")["gce_stop_epoch2", "waterbirds", "bias_acc"]["number"])]
    assert epoch2["command"] == "python -m benchmark.run --table 3 --tasks waterbirds --methods gce"
    missing = text[text.index('id="missing"') :]
    commands = re.findall(r'<code class="command">(.*?)</code>', missing)
    assert "python -m benchmark.run --table 1" in commands
    assert "python -m benchmark.run --table 2 --tasks cmnist_98 --methods focal lff jtt debian echoes be" in commands
    assert "python -m benchmark.run --figure 4" in commands
    assert all(parses(html.unescape(command)) for command in commands)


def parses(command: str) -> bool:
    """Whether the command line understands it, and has something to train."""
    parsed = options.parser().parse_args(command.removeprefix("python -m benchmark.run").split())
    return bool(options.select(parsed).runs())


def test_another_preset_stands_apart_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_seeds(folder, "be", {0: 0.5}, task="waterbirds", preset="reduced")
    text = written(folder, monkeypatch)
    assert not cells(text, "table2")["be", "waterbirds", "avg_acc"]["mean"]
    reduced = cells(text, "table2-reduced")
    assert reduced["be", "waterbirds", "avg_acc"]["mean"] == "54.00"
    assert {task for _, task, _ in reduced} == {"waterbirds"}
    title = text[text.index('id="table2-reduced-title"') :].split("</h3>")[0]
    assert "reduced preset" in title
    commands = re.findall(r'<code class="command">(.*?)</code>', text[text.index('id="missing"') :])
    assert any(each.endswith("--preset reduced") and "--tasks waterbirds" in each for each in commands)


def test_findings_count_and_name_the_best(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = written(folder, monkeypatch)
    found = text[text.index('id="findings"') : text.index('id="tables"')]
    assert "<b>21 of 126</b>" in found
    # In these inventions Poisoner is the best without bias labels, as among these methods in the paper.
    assert "the best here, too: <b>6 of 6</b>" in found
    save_seeds(folder, "vanilla", {0: 0.99, 1: 0.99}, task="cmnist_98")
    text = written(folder, monkeypatch)
    found = text[text.index('id="findings"') : text.index('id="tables"')]
    assert "the best here, too: <b>3 of 6</b>" in found
    columns = "; ".join(f"{metric} on C-MNIST² (ρ = 0.98)" for metric in ("Bias", "Avg.", "Worst"))
    assert f"Vanilla instead of Poisoner is best in: {columns}." in found


def test_hostile_text_is_shown_and_never_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = "<img src=x onerror=alert(1)>"
    record = make_record(Run(make_run("cmnist_99", "vanilla").settings | {"task": attack}, 0))
    provenance = msgspec.structs.replace(record.provenance, device="</script><script>alert(2)</script>")
    make_results(folder, msgspec.structs.replace(record, provenance=provenance))
    Store(folder).save_failure(make_run("cmnist_98", "be"), "<b>bold</b>", "")
    text = written(folder, monkeypatch)
    assert attack not in text
    assert "<script>alert" not in text
    assert "<b>bold" not in text
    assert html.escape(attack) in text
    (found,) = (each for each in embedded(text)["records"] if each["task"] == attack)
    assert found["provenance"]["device"] == "</script><script>alert(2)</script>"


def test_errata_stand_beside_their_numbers(text: str) -> None:
    data, shown = embedded(text)["cells"], cells(text, "table1")
    noted = {key for key, cell in shown.items() if data[int(cell["number"])]["errata"]}
    assert ("echoes", "celeba_attractive", "worst_acc") in noted
    assert ("echoes", "celeba_attractive", "avg_acc") not in noted
    (note,) = data[int(shown["echoes", "celeba_attractive", "worst_acc"]["number"])]["errata"]
    assert note.endswith("(impossible)")
    assert f"Echoes, CelebA, attractive, Worst: {note}" in html.unescape(text)


def test_claims_and_distances_are_those_of_their_own_tables(fixed: Results, text: str) -> None:
    claims = text[text.index('id="claims"') : text.index('id="fidelity"')]
    lines = verdicts.evaluate(fixed)
    decided = lines[lines.verdict != verdicts.MISSING]
    assert len(decided) > 5
    assert re.findall(r'<td>([^<]*)</td><td>[^<]*</td><td class="number">', claims) == list(decided.verdict)
    distances = text[text.index('id="fidelity"') : text.index('id="missing"')]
    near = fidelity.overall(fidelity.cells(fixed)).iloc[1]
    assert near["measured"] == 21
    assert f'<th scope="row">Table 2</th><td>21 of 126</td><td>{near["difference"]:.2f}</td>' in distances


def test_curves_are_those_of_the_record_and_rounded(text: str) -> None:
    data = embedded(text)
    assert [each["title"] for each in data["curves"]] == ["C-MNIST¹ (ρ = 0.99)", "C-MNIST² (ρ = 0.98)"]
    number = next(each for each in data["curves"][0]["runs"] if data["records"][each]["method"] == "Poisoner")
    found = data["records"][number]["curves"]
    assert found["biased"] == {
        "bias_acc": [95.0],
        "aligned_error": [0.0],
        "conflicting_error": [90.0],
        "aligned_loss": [0.1],
        "conflicting_loss": [0.2],
    }
    assert found["target"]["bias_acc"] == [80.0, 70.0, 60.0]


def test_the_same_records_give_the_same_page(folder: Path, text: str) -> None:
    assert rendered(make_results(folder)) == text


def test_pictures_are_inlined_and_figures_without_records_are_gaps(text: str) -> None:
    pictures = re.findall(r'<img src="data:image/png;base64,[^"]{1000,}" width="\d+" height="\d+" alt="[^"]+">', text)
    assert len(pictures) == 7, "curves of both tasks for Tables 2 and modern, of one for Table 4; Figure 4 on both"
    gap = text[text.index('<details class="unmeasured" id="figure7">') :].split("</details>")[0]
    assert '<code class="command">python -m benchmark.run --figure 7</code>' in gap
    assert not re.search(r'(?:src|href)="(?!data:|#)', text), "nothing is loaded from elsewhere"
