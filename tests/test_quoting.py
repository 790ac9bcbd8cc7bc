"""Names of people in Markdown, LaTeX, CSV, HTML, pictures and shells: read as names, carried out by nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from factories.records import make_record

from benchmark import quoting
from benchmark.collect import collect, own_tables
from benchmark.compare import fidelity, readings, verdicts
from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.plan.table import Table
from benchmark.report import figures, page, page_tables, tables
from benchmark.run import main
from benchmark.store.results import Results
from benchmark.store.store import Store
from slurm import launch

HOSTILE = r"=1+2|a\b{c}_%&#$\frac^~<b>x<i>[d]*\"'`"


def own_results(folder: Path, name: str) -> Results:
    """Two methods' records of a folder of one's own that is called so."""
    recipes = load().with_folder({"folder": name, "labels": "0123456789abcdef"})
    for method in ("vanilla", "groupdro"):
        Store(folder).save(make_record(Run(recipes.resolve(name, method), 0)))
    return collect(Store(folder), load())


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return own_results(tmp_path, HOSTILE)


@pytest.fixture
def table(results: Results) -> Table:
    (table,) = own_tables(results, load())
    return table


def test_an_own_folder_is_a_table(results: Results, table: Table) -> None:
    assert table.tasks == (HOSTILE,)
    assert [row.method for row in table.rows] == ["vanilla", "groupdro"]
    assert results.measured(table, HOSTILE)
    assert results.mark(table.rows[1].key) == "*"


def test_markdown_has_the_cells_it_should_have(results: Results, table: Table) -> None:
    text = tables.write(table, results)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}, "method and three metrics"
    assert "<b>" not in text
    assert r"## =1+2\|a\\b{c}" in text


def test_latex_carries_out_nothing_of_a_name(results: Results, table: Table) -> None:
    tables.write(table, results)
    (path,) = (results.folder / "tables").glob("*.tex")
    (head,) = [line for line in path.read_text().splitlines() if line.startswith(r" & \multicolumn")]
    expected = (
        r"=1+2\textbar{}a\textbackslash{}b\{c\}\_\%\&\#\$\textbackslash{}frac\^{}\~{}\textless{}b\textgreater{}x"
        r"\textless{}i\textgreater{}{[}d{]}{*}\textbackslash{}'''`"
    )
    assert head == rf" & \multicolumn{{3}}{{c}}{{{expected}}} \\"


def test_latex_sets_options_and_letters_as_they_are_written() -> None:
    assert quoting.latex("--select last, a-b") == "-{}-select last, a-b"
    assert quoting.latex("α → ρ") == r"$\alpha$ $\rightarrow$ $\rho$"


def test_no_name_is_a_formula_in_csv(results: Results, table: Table) -> None:
    tables.write(table, results)
    (path,) = (results.folder / "tables").glob("*.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert {row["task"] for row in rows} == {f"'{HOSTILE}"}
    assert {row["method"] for row in rows} == {"vanilla", "groupdro"}


@pytest.mark.parametrize("name", ["=SUM(A1)", "+1a", "-x", "@cmd", "\tx", "-1+2"])
def test_what_a_spreadsheet_would_compute_comes_behind_an_apostrophe(name: str) -> None:
    assert quoting.csv(pd.DataFrame({"file": [name]})).splitlines()[1].strip('"') == f"'{name}"


def test_numbers_and_plain_names_stay_as_they_are_in_csv() -> None:
    lines = pd.DataFrame({"name": ["a=b", "-1", "+2.5", ""], "value": [-1.0, float("nan"), 2.0, -0.25]})
    assert quoting.csv(lines) == "name,value\na=b,-1.0000\n-1,\n+2.5,2.0000\n,-0.2500\n"


def test_the_page_shows_an_own_folder_as_text(results: Results, table: Table) -> None:
    judged, compared = verdicts.evaluate(results), fidelity.cells(results)
    text = page.write(results, [table], compared, judged, readings.evaluate(results)).read_text()
    assert "<b>x" not in text
    assert f'id="{page_tables.anchor(table.stem)}-title"' in text
    assert "Nothing is measured yet" not in text
    json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_the_command_for_an_own_folder_names_it(results: Results, table: Table) -> None:
    words = shlex.split(page_tables.command(table, table.tasks, ["lff"], results))
    assert words == ["python", "-m", "benchmark.run", "--dataset", HOSTILE, "--methods", "lff"]


def test_a_dollar_in_a_name_is_no_formula_of_a_picture(tmp_path: Path) -> None:
    results = own_results(tmp_path, r"birds $\nonsense{ $")
    (table,) = own_tables(results, load())
    for path in figures.write_curves(table, results):
        assert path.stat().st_size > 1000


def test_everything_shows_an_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_results(tmp_path, "my_birds")
    assert main(["--all", "--methods", "vanilla", "--render-only", "--results", str(tmp_path)]) == 0
    assert "## my_birds" in capsys.readouterr().out
    assert (tmp_path / "tables" / "selection-my_birds-last.md").exists()
    text = (tmp_path / "report.html").read_text()
    assert 'id="selection-my_birds-title"' in text


@pytest.mark.parametrize(
    "name", ["plain", "two words", "$(touch owned)", "`touch owned`", 'a"b', "a'b", "a\ntouch owned", "$HOME", r"a\b"]
)
def test_a_checkout_is_found_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    checkout = tmp_path / name
    checkout.mkdir()
    monkeypatch.setattr(launch, "REPOSITORY", checkout)
    script = "\n".join([*launch._environment(), 'printf %s "$PYTHONPATH"'])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "before"}, capture_output=True
    )
    assert done.stdout.decode() == f"{checkout}:before"
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["100%A", "a\nb"])
def test_folders_that_slurm_would_read_otherwise_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="SLURM cannot write logs into"):
        launch._check_paths(Store(tmp_path / name))


def test_a_checkout_that_no_path_can_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "REPOSITORY", tmp_path / "a:b")
    with pytest.raises(UserError, match="move the checkout"):
        launch._check_paths(Store(tmp_path))


def test_a_name_is_cut_to_what_file_systems_take_and_stays_its_own() -> None:
    short, long = "birds/of=prey", "\u9ce5" * 100
    assert quoting.file_name(short) == "birds_of=prey"
    names = {quoting.file_name(each) for each in (long, f"{long}-a", f"{long}-b", "a" * 151, "a" * 152)}
    assert len(names) == 5
    assert all(140 < len(name.encode()) <= quoting.LONGEST_NAME for name in names)


@pytest.mark.parametrize("name", ["\u9ce5" * 60, "a" * 150])
def test_every_file_of_a_folder_with_a_long_name_is_written(tmp_path: Path, name: str) -> None:
    results = own_results(tmp_path, name)
    assert main(["--all", "--render-only", "--results", str(results.folder)]) == 0
    written = [path.name for folder in ("tables", "figures") for path in (results.folder / folder).iterdir()]
    assert sum(each.startswith(f"selection-{name[:20]}") for each in written) > 4


def test_every_table_has_an_anchor_of_its_own_on_the_page() -> None:
    names = ["my birds", "my.birds", "my-birds", "my:20:birds", "my_birds", "m\u00fc birds"]
    assert len({page_tables.anchor(name) for name in names}) == len(names)
