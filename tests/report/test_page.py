"""The page from small made-up sets of records; tests/integration/page_browser.py uses it in a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from factories.records import fixed_store, make_record, make_results, make_run, put, save_seeds
from scipy import stats

from benchmark import options, selection
from benchmark.compare import fidelity, readings, verdicts
from benchmark.compare.cells import tidy
from benchmark.compare.claims import CLAIMS
from benchmark.metrics import FAIRNESS
from benchmark.plan.paper import CELEBA, TABLES
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.rendering import stored_variants
from benchmark.report import page, page_answers, page_records
from benchmark.rules import REPORTED, RULES
from benchmark.store.record import Answers, Groups
from benchmark.store.results import Results
from benchmark.store.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fixed_store(tmp_path).folder


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The fixed store, and a run whose epochs are told apart by rules, which half of its seeds cannot be chosen by."""
    folder = fixed_store(tmp_path_factory.mktemp("results")).folder
    for seed, (first, last) in {0: (0.7, 0.3), 1: (0.72, 0.32)}.items():
        record, early = (make_record(make_run("cmnist_99", "be", seed=seed), share) for share in (last, first))
        answers = record.answers
        test = np.stack([early.answers.test[0], answers.test[1], answers.test[2]])
        put(
            folder,
            msgspec.structs.replace(record, answers=msgspec.structs.replace(answers, test=test, validation=test)),
        )
    blind = make_record(make_run("cmnist_99", "be", seed=2), 0.5)
    groups = msgspec.structs.replace(blind.groups, validation=None)
    answers = msgspec.structs.replace(blind.answers, validation=None)
    put(folder, msgspec.structs.replace(blind, groups=groups, answers=answers))
    return make_results(folder)


@pytest.fixture(scope="module")
def text(fixed: Results) -> str:
    return rendered(fixed)


@pytest.fixture(scope="module")
def data(text: str) -> dict[str, Any]:
    return embedded(text)


def rendered(results: Results) -> str:
    return page.write(
        results,
        stored_variants(load(), results),
        fidelity.cells(results),
        verdicts.evaluate(results),
        readings.evaluate(results),
    ).read_text(encoding="utf-8")


def embedded(text: str) -> dict[str, Any]:
    """The JSON that the page's script reads."""
    return json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def table_of(data: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (table for table in data["tables"] if table["id"] == name)
    return found


def place(table: dict[str, Any], row: str, task: str, metric: str) -> int:
    rows = [each["key"] for each in table["rows"]]
    return rows.index(row) * len(table["columns"]) + table["columns"].index([task, metric])


def runs_of(data: dict[str, Any], table: dict[str, Any], row: str, task: str) -> list[list[Any]]:
    tasks = list(dict.fromkeys(each for each, _ in table["columns"]))
    number = [each["key"] for each in table["rows"]].index(row) * len(tasks) + tasks.index(task)
    return [run for series in table["series"][number] for run in data["runs"] if run[0] == series]


def cells(text: str, table: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """What is written in every cell of a table for those without JavaScript, by row, task and metric."""
    found = {}
    grid = text.split(f'data-table="{table}"')[1].split("</table>")[0] if f'data-table="{table}"' in text else ""
    for name, content in re.findall(rf'<td id="{table}\.([^"]*)">(.*?)</td>', grid):
        row, task, metric = name.split(".")
        patterns = {
            "mean": r'class="measured[^"]*">([^<]*)<',
            "paper": r'class="paper">([^<]*)<',
            "delta": r'class="delta">([^<]*)<',
        }
        found[row, task, metric] = {
            key: (match[1].strip().replace("–", "") if (match := re.search(pattern, content)) else "")
            for key, pattern in patterns.items()
        } | {"best": "best" if "measured best" in content else ""}
    return found


@pytest.mark.parametrize("number", TABLES)
def test_without_javascript_every_cell_says_what_the_table_says(fixed: Results, text: str, number: str) -> None:
    table = TABLES[number]
    shown = cells(text, table.name)
    lines = tidy(table, fixed)
    lines = lines[lines.selection == REPORTED.name].set_index(["method", "task", "metric"])
    assert set(shown) == set(lines.index)
    for key, cell in shown.items():
        mean, paper, delta = lines.loc[key, ["mean", "paper", "delta"]]
        assert cell["mean"] == ("" if pd.isna(mean) else f"{mean:.2f}")
        assert cell["paper"] == ("" if pd.isna(paper) else f"{paper:.2f}")
        assert cell["delta"].replace("−", "-") == ("" if pd.isna(delta) else f"{delta:+.2f}")


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_the_numbers_of_its_own_table(fixed: Results, data: dict[str, Any], rule: str) -> None:
    table = table_of(data, "table2")
    under = table["under"][rule]["cells"]
    lines = tidy(TABLES["2"], replace(fixed, rule=RULES[rule]))
    lines = lines[lines.selection == rule]
    assert len(lines) == len(under)
    for line in lines.to_dict("records"):
        cell = under[place(table, line["method"], line["task"], line["metric"])]
        if pd.isna(line["mean"]):
            assert cell is None
        else:
            assert (cell[0], cell[2]) == (round(line["mean"] * 100), line["n"])
            assert cell[1] == (None if pd.isna(line["std"]) else int(f"{line['std']:.1f}".replace(".", "")))


def test_a_rule_chooses_epochs_and_leaves_out_what_it_cannot_judge(data: dict[str, Any]) -> None:
    table = table_of(data, "table2")
    cell = place(table, "be", "cmnist_99", "avg_acc")
    last, chosen = (table["under"][rule]["cells"][cell] for rule in ("last", "validation_average"))
    assert (last[2], chosen[2]) == (3, 2)
    assert chosen[0] > last[0] + 2000
    epochs = [[None if each is None else each[0] for each in run[2]] for run in runs_of(data, table, "be", "cmnist_99")]
    places = [list(RULES).index(rule) for rule in ("last", "validation_average")]
    assert [[line[each] for each in places] for line in epochs] == [[3, 1], [3, 1], [3, None]]
    assert any("cannot be selected so" in note for note in table["under"]["validation_average"]["notes"])


def test_the_records_behind_a_cell(fixed: Results, data: dict[str, Any]) -> None:
    table = table_of(data, "table2")
    cell = table["under"][REPORTED.name]["cells"][place(table, "vanilla", "cmnist_99", "avg_acc")]
    assert cell[:3] == [4590, 13, 2]
    found = runs_of(data, table, "vanilla", "cmnist_99")
    assert [(run[1], run[2][0][1 + FAIRNESS.index("avg_acc")]) for run in found] == [(0, 4500), (1, 4680)]
    name, preset, changes = data["series"][found[0][0]][:3]
    assert f"{name}-s1" == make_run("cmnist_99", "vanilla", seed=1).id
    assert (preset, changes) == ("paper", [])
    said = dict(zip(data["provenance"], (data["texts"][each] for each in found[1][4]), strict=True))
    assert (said["Commit"], said["Device"]) == ("0123456789abcdef", "CPU (invented)")
    assert "data.ratio\t0.99" in [data["settings"][each] for each in data["series"][found[0][0]][3]]


def test_few_groups_stand_behind_a_cell_under_every_rule(tmp_path: Path) -> None:
    """Of two classes and biases; a hundred groups are left to the table's own file."""
    made = make_record(make_run("celeba_blond"))
    sizes = [[90, 10], [20, 80]]
    names = Groups(classes=["dark", "blond"], biases=["female", "male"], aligned_bias=[0, 1], train=sizes,
                   test=[[100, 100], [100, 100]], validation=None)  # fmt: skip
    answers = Answers(epochs=[1, 2], test=np.array([[90, 80, 70, 60], [99, 1, 2, 98]]))
    few = msgspec.structs.replace(made, groups=names, answers=answers, train={"target": sizes})
    page = embedded(rendered(make_results(tmp_path, few, make_record(make_run("cmnist_99")))))
    by_task = {each[0].split("/")[0]: each[6] for each in page["series"]}
    assert by_task["cmnist_99"] == []
    places = {rule: place for place, rule in enumerate(RULES)}
    dark, *_, blond = by_task["celeba_blond"]
    assert dark[:5] == ["dark", "female", True, 90, 100]
    assert blond[:5] == ["blond", "male", True, 80, 100]
    assert [dark[5][places[rule]] for rule in ("last", "test_average", "validation")] == [9900, 9000, None]


def test_the_difference_to_the_first_row_is_paired(fixed: Results, data: dict[str, Any]) -> None:
    table = table_of(data, "table2")
    cell = table["under"][REPORTED.name]["cells"][place(table, "poisoner", "cmnist_99", "avg_acc")]
    # Both gain the same from seed to seed, so that nothing is known of their difference's spread.
    assert cell[6:] == [3600, None, None, 2]


def test_the_average_comes_from_the_records_of_all_tasks(tmp_path: Path) -> None:
    for task in CELEBA:
        save_seeds(tmp_path, "vanilla", {0: 0.5}, task=task)
    data = embedded(rendered(make_results(tmp_path)))
    table = table_of(data, "table1")
    cell = table["under"][REPORTED.name]["cells"][place(table, "vanilla", "celeba_avg", "avg_acc")]
    runs = runs_of(data, table, "vanilla", "celeba_avg")
    assert [run[2][0][1 + FAIRNESS.index("avg_acc")] for run in runs] == [cell[0]] * 4
    assert cell[1:3] == [None, 1]


def test_a_gap_tells_the_command_that_fills_it_and_why_it_failed(text: str, data: dict[str, Any]) -> None:
    table = table_of(data, "table2")
    assert not runs_of(data, table, "lff", "cmnist_98")
    tasks = list(dict.fromkeys(task for task, _ in table["columns"]))
    assert table["commands"][tasks.index("cmnist_98")] == (
        "python -m benchmark.run --table 2 --tasks cmnist_98 --methods METHOD"
    )
    assert table["failures"]["lff|cmnist_98"] == ["cmnist_98/lff seed 0: TrainingError: The loss became nan."]
    assert "poisoner|cmnist_99" not in table["failures"]
    commands = re.findall(r'<code class="command">(.*?)</code>', text[text.index('class="missing-runs"') :])
    assert "python -m benchmark.run --table 1" in commands
    assert "python -m benchmark.run --table 2 --tasks cmnist_98 --methods focal lff jtt debian echoes be" in commands
    assert "python -m benchmark.run --figure 7" in commands
    assert all(parses(html.unescape(command)) for command in commands)


def test_a_failure_stands_at_its_own_row(folder: Path) -> None:
    Store(folder).save_failure(
        make_run("cmnist_99", "poisoner", "poisoner.gamma=0.0", seed=9), "The loss became nan.", ""
    )
    table = table_of(embedded(rendered(make_results(folder))), "table4")
    assert table["failures"] == {
        "poisoner_without_gifl|cmnist_99": ["cmnist_99/poisoner (without GIFL) seed 9: The loss became nan."]
    }


def parses(command: str) -> bool:
    """Whether the command line understands it, and has something to train."""
    parsed = options.parser().parse_args(command.removeprefix("python -m benchmark.run").split())
    return bool(selection.select(parsed).runs())


def test_another_preset_is_never_in_view_with_the_papers_own(folder: Path) -> None:
    save_seeds(folder, "be", {0: 0.5}, task="waterbirds", preset="reduced")
    text = rendered(make_results(folder))
    assert not cells(text, "table2")["be", "waterbirds", "avg_acc"]["mean"]
    reduced = cells(text, "table2-reduced")
    assert reduced["be", "waterbirds", "avg_acc"]["mean"] == "54.00"
    assert {task for _, task, _ in reduced} == {"waterbirds"}
    before = text[: text.index('id="table2-reduced-title"')]
    assert before.rindex('data-preset="reduced">') > before.rindex('data-preset="paper" open>'), "folded away at first"
    assert "reduced preset" in text[text.index('id="table2-reduced-title"') :].split("</h3>")[0]
    assert [each["preset"] for each in embedded(text)["views"]] == ["paper", "reduced"]
    commands = re.findall(r'<code class="command">(.*?)</code>', text)
    assert any(each.endswith("--preset reduced") and "--tasks waterbirds" in each for each in commands)


@pytest.mark.parametrize("rule", RULES)
def test_the_matrix_holds_the_verdicts_of_every_rule(fixed: Results, data: dict[str, Any], rule: str) -> None:
    claims = data["views"][0]["claims"]
    rows = {row["number"]: row for group in claims["groups"] for row in group["rows"]}
    judged = verdicts.evaluate(replace(fixed, rule=RULES[rule]))
    expected = {}
    for line in judged[judged.verdict != verdicts.MISSING].to_dict("records"):
        kind = line["verdict"].removesuffix(verdicts.ONE_SEED)
        expected[line["claim"], line["task"]] = (kind, line["n"], line["scope"] == "paper")
    found = {
        (CLAIMS[number - 1].id, cell["task"]): (line["kind"], line["n"], line["own"])
        for number, row in rows.items()
        for cell in row["cells"]
        if (line := cell["under"].get(rule, cell["under"][REPORTED.name])) and line["kind"] != verdicts.MISSING
    }
    assert found == expected
    assert len(found) > 5
    assert all(rows[number]["sentence"] == CLAIMS[number - 1].sentence for number in rows)


def test_the_matrix_stands_in_the_page_without_javascript(text: str, data: dict[str, Any]) -> None:
    for group in data["views"][0]["claims"]["groups"]:
        for row in group["rows"]:
            shown = text[text.index(f'<tr id="paper.{row["id"]}">') :].split("</tr>")[0]
            assert html.escape(row["sentence"], quote=False) in html.unescape(shown)
            lines = [cell["under"][REPORTED.name] for cell in row["cells"]]
            assert re.findall(r'class="unseen">([^<]*)<', shown) == [line["kind"] for line in lines if line]
            assert re.findall(r"<small>(\d+)</small>", shown) == [
                str(line["n"]) for line in lines if line and line["n"]
            ]


def test_every_claim_has_one_place_in_the_matrix() -> None:
    for claim in CLAIMS:
        assert sum(claim.id.startswith(beginnings) for beginnings in page_answers.GROUPS.values()) == 1, claim.id


def test_the_best_method_has_an_interval_of_its_mean_and_of_its_lead(data: dict[str, Any]) -> None:
    lines = {line["task"]: line["under"]["last"] for line in data["views"][0]["best"]}
    best = lines["cmnist_99"][FAIRNESS.index("avg_acc")]
    assert (best["title"], best["mean"], best["n"]) == ("Poisoner", "81.90", 2)
    low, high = stats.t.interval(0.95, 1, 81.9, np.std([81, 82.8], ddof=1) / np.sqrt(2))
    assert best["interval"] == f"{low:.2f} to {high:.2f}"
    assert best["lead"] == "18.00 ahead of LfF on the one seed of both, may be chance"
    assert best["informed"] == "with bias labels, GroupDRO: 90.90, n = 2"
    chosen = {line["task"]: line["under"]["validation_average"] for line in data["views"][0]["best"]}
    assert "ahead of BE" in chosen["cmnist_99"][FAIRNESS.index("avg_acc")]["lead"], "which that rule makes the second"


def test_the_best_by_its_own_seeds_is_not_said_to_be_ahead_where_it_is_behind(tmp_path: Path) -> None:
    save_seeds(tmp_path, "lff", {0: 0.5, 1: 0.5, 2: 0.9})
    save_seeds(tmp_path, "jtt", {0: 0.6, 1: 0.6})
    (line,) = embedded(rendered(make_results(tmp_path)))["views"][0]["best"]
    best = line["under"]["last"][FAIRNESS.index("avg_acc")]
    assert best["title"] == "LfF"
    assert best["lead"] == "9.00 behind JTT on the 2 seeds of both, and best by seeds that JTT lacks"


def test_there_is_no_best_of_two_that_are_level_or_get_nothing_right(tmp_path: Path) -> None:
    save_seeds(tmp_path, "lff", {0: 0.5})
    save_seeds(tmp_path, "jtt", {0: 0.5})
    (line,) = embedded(rendered(make_results(tmp_path)))["views"][0]["best"]
    assert line["under"]["last"] == [None, None, None]
    save_seeds(tmp_path, "jtt", {0: 0.6})
    (line,) = embedded(rendered(make_results(tmp_path)))["views"][0]["best"]
    bias = line["under"]["last"][FAIRNESS.index("model_bias")]
    average = line["under"]["last"][FAIRNESS.index("avg_acc")]
    assert bias["average"] == average["mean"], "a low bias alone proves nothing"
    assert average["average"] == ""


def test_collapsed_methods_are_marked_and_never_the_best(tmp_path: Path) -> None:
    save_seeds(tmp_path, "vanilla", {0: 0.4})
    save_seeds(tmp_path, "focal", {0: 0.3})
    chance = make_record(make_run("cmnist_99", "be"), correct=[[10] * 10 for _ in range(10)])
    text = rendered(make_results(tmp_path, chance))
    data = embedded(text)
    table = table_of(data, "table2")
    bias = table["under"][REPORTED.name]["cells"][place(table, "be", "cmnist_99", "model_bias")]
    assert (bias[0], bias[3], bias[4]) == (0, None, 1), "its bias is the lowest, and means nothing"
    (line,) = data["views"][0]["best"]
    assert line["under"][REPORTED.name][FAIRNESS.index("model_bias")]["title"] == "Vanilla"
    content = re.search(r'<td id="table2\.be\.cmnist_99\.model_bias">(.*?)</td>', text)[1]
    assert 'class="measured collapsed"' in content
    assert "n = 1" in content


def test_hostile_text_is_shown_and_never_run(folder: Path) -> None:
    attack = "<img src=x onerror=alert(1)>"
    record = make_record(Run(make_run("cmnist_99", "vanilla").settings | {"task": attack}, 0))
    provenance = msgspec.structs.replace(record.provenance, device="</script><script>alert(2)</script>")
    make_results(folder, msgspec.structs.replace(record, provenance=provenance))
    Store(folder).save_failure(make_run("cmnist_98", "be"), "<b>bold</b>", "")
    text = rendered(make_results(folder))
    assert attack not in text
    assert "<script>alert" not in text
    assert "<b>bold" not in text
    data = embedded(text)
    assert attack in data["tasks"]
    assert "</script><script>alert(2)</script>" in data["texts"]


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(text: str) -> None:
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert (len(scripts), len(styles)) == (2, 1)
    for each in (*scripts, *styles):
        assert base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() in policy
    assert not re.search(r'<[^>]* (?:style|on\w+)="', text[text.index("<body>") : text.index('id="data"')])


def test_errata_stand_beside_their_numbers(text: str, data: dict[str, Any]) -> None:
    table = table_of(data, "table1")
    doubtful = place(table, "echoes", "celeba_attractive", "worst_acc")
    assert str(place(table, "echoes", "celeba_attractive", "avg_acc")) not in table["errata"]
    (note,) = table["errata"][str(doubtful)]
    assert note.endswith("(impossible)")
    shown = re.search(r'<td id="table1\.echoes\.celeba_attractive\.worst_acc">(.*?)</td>', text)[1]
    assert "<sup>e</sup>" in shown


def test_columns_say_how_near_they_are(fixed: Results, data: dict[str, Any]) -> None:
    table = table_of(data, "table2")
    near = fidelity.columns(fidelity.cells(fixed))
    for line in near[(near.table == "table2") & (near.methods > 0)].to_dict("records"):
        distance, correlation = table["under"][REPORTED.name]["near"][
            table["columns"].index([line["task"], line["metric"]])
        ]
        assert distance == int(f"{line['difference']:.2f}".replace(".", ""))
        assert correlation == int(f"{line['rank_correlation']:.2f}".replace(".", ""))


def decoded(code: str) -> list[int]:
    digits = page_records.DIGITS
    return [digits.index(a) * 64 + digits.index(b) for a, b in zip(code[::2], code[1::2], strict=True)]


def test_curves_are_means_over_seeds_of_what_records_hold(fixed: Results, data: dict[str, Any]) -> None:
    number = next(place for place, each in enumerate(data["series"]) if each[0].startswith("cmnist_99/poisoner/"))
    found = {(network, page_records.CURVES[metric]): rest for network, metric, *rest in data["series"][number][4]}
    assert decoded(found[1, "bias_acc"][0]) == [950]
    assert decoded(found[0, "bias_acc"][0]) == [800, 700, 600]
    assert decoded(found[0, "avg_acc"][0]) == [810, 810, 810]
    assert decoded(found[0, "avg_acc"][1]) == [14, 14, 14], "two seeds, 80 and 82"
    (loss,) = {*decoded(found[0, "conflicting_loss"][0])}
    assert 10 ** (loss / page_records.DECADE + page_records.LEAST) == pytest.approx(0.2, rel=0.005)
    assert (1, "avg_acc") not in found
    networks = {each[0].split("/")[1]: {network for network, *_ in each[4]} for each in data["series"]}
    assert networks["groupdro"] == {0}, "which has no biased model, nor is one"
    assert networks["vanilla"] == networks["gce"] == {0, 1}, "Table 3 takes them for biased models"
    assert data["series"][number][5][str(page_records.CURVES.index("worst_acc"))] == 37.40, "as published"


def test_gaps_and_the_ends_of_the_scale_survive_the_code() -> None:
    assert decoded(page_records._code(np.array([0.0, 100.0, np.nan, 33.34]), logarithmic=False)) == [
        0,
        1000,
        page_records.GAP,
        333,
    ]
    assert decoded(page_records._code(np.array([0.0, 1e-7, 1e9]), logarithmic=True)) == [0, 0, page_records.GAP - 1]
    # A biased model that is made to answer wrongly has losses far above those of chance.
    for loss in (1e-5, 0.3, 15.6, 300.0):
        (code,) = decoded(page_records._code(np.array([loss]), logarithmic=True))
        assert 10 ** (code / page_records.DECADE + page_records.LEAST) == pytest.approx(loss, rel=0.005)


def test_the_papers_figures_are_numbers(data: dict[str, Any]) -> None:
    figures = {figure["id"]: figure for figure in data["figures"]}
    assert set(figures) == {"figure4-cmnist_99", "figure4-cmnist_98"}, "those of which any run is there"
    (panel,) = figures["figure4-cmnist_99"]["panels"]
    names = {data["series"][series][0].split("/")[1] for series, *_ in panel["curves"]}
    assert names == {"gce", "poisoner"}


def test_the_same_records_give_the_same_page(fixed: Results, text: str) -> None:
    assert rendered(make_results(fixed.folder)) == text


def test_the_page_of_an_empty_folder_says_so(tmp_path: Path) -> None:
    text = rendered(make_results(tmp_path))
    assert "None of the paper’s claims can be checked yet." in text
    assert cells(text, "table2")["vanilla", "cmnist_99", "avg_acc"] == {
        "mean": "",
        "paper": "56.28",
        "delta": "",
        "best": "",
    }
