"""The README's example works as printed, and its numbers are those of the committed records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark import plan, recipes, tables
from benchmark.recipes import tomllib
from benchmark.records import Store
from benchmark.run import main
from methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL).group(1)  # type: ignore[union-attr]


def test_the_example_method_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("methods.METHODS", dict(METHODS))
    row = tomllib.loads(block("toml"))["method"]
    for name, table in row.items():
        monkeypatch.setitem(recipes.tables()[1], name, table)
    exec(block("python"), {"__name__": "example"})
    (name,) = row
    arguments = ["--quick", "--methods", "vanilla", name, "--set", "epochs=2", "--results", str(tmp_path)]
    assert main(arguments) == 0
    assert "| Confidence penalty |" in capsys.readouterr().out
    records = [next((tmp_path / "runs" / "colored_digits" / each).glob("*.json")) for each in ("vanilla", name)]
    assert records[0].read_text() != records[1].read_text()


def test_the_measured_tables_are_those_of_the_records(request: pytest.FixtureRequest) -> None:
    """Between the marks stands results/tables/table2.md without its title, its headings one level deeper."""
    rendered = (ROOT / "results" / "tables" / "table2.md").read_text(encoding="utf-8")
    expected = rendered.split("\n", 1)[1].replace("\n## ", "\n### ")
    current = re.sub(r"(?s)(?<=<!-- table2 -->\n).*(?=<!-- /table2 -->)", lambda _: expected + "\n", README)
    if request.config.getoption("--update-golden"):
        (ROOT / "README.md").write_text(current, encoding="utf-8")
    else:
        assert current == README, "the README's table is stale; run with --update-golden"


@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_the_committed_tables_follow_from_the_committed_records(number: str, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(ROOT / "results" / "runs")
    store = Store(tmp_path)
    table = plan.TABLES[number]
    tables.write(table, tables.collect(table, store), store)
    for path in (tmp_path / "tables").iterdir():
        assert path.read_text() == (ROOT / "results" / "tables" / path.name).read_text(), path.name


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
