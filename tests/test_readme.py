"""The README's example works as printed, and the numbers of all pages are those of the committed records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark import recipes
from benchmark.recipes import tomllib
from benchmark.run import main
from methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PICTURES = (".png", ".pdf")
GENERATED = (*PICTURES, ".csv", ".md", ".tex")
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


def shown(source: str, section: str | None) -> str:
    """A generated file without its title, its headings one level deeper; or one of its sections without heading."""
    text = (ROOT / source).read_text(encoding="utf-8").split("\n", 1)[1]
    if section:
        text = re.split(rf"\n## {re.escape(section)}\n", text)[1].split("\n## ")[0]
    return "\n" + text.replace("\n## ", "\n### ").strip() + "\n\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_up_to_date(page: Path, request: pytest.FixtureRequest) -> None:
    """From <!-- results/FILE.md --> or <!-- results/FILE.md, SECTION --> to <!-- end --> stands what was rendered."""
    text = page.read_text(encoding="utf-8")
    current = re.sub(
        r"(?s)(<!-- (results/\S+?\.md)(?:, (.+?))? -->\n).*?(?=<!-- end -->)",
        lambda mark: mark[1] + shown(mark[2], mark[3]),
        text,
    )
    if request.config.getoption("--update-golden"):
        page.write_text(current, encoding="utf-8")
    else:
        assert current == text, f"{page.name} is stale; run with --update-golden"


def test_everything_committed_follows_from_the_committed_records(tmp_path: Path) -> None:
    """Text byte by byte; of pictures the names, since their bytes depend on the version of matplotlib."""
    (tmp_path / "runs").symlink_to(ROOT / "results" / "runs")
    assert main(["--all", "--render-only", "--results", str(tmp_path)]) == 0
    committed, rendered = (
        {path.relative_to(folder): path for path in folder.glob("**/*.*") if path.suffix in GENERATED}
        for folder in (ROOT / "results", tmp_path)
    )
    for name in (*committed, *rendered):
        if name.parts[0] in ("paper", "runs", "speed") or name.name.startswith(("quick", "curves-", "speed.")):
            committed.pop(name, None)  # neither made from the records of the paper's tasks
            rendered.pop(name, None)
    assert set(committed) == set(rendered)
    for name, path in committed.items():
        if path.suffix not in PICTURES:
            assert path.read_text() == rendered[name].read_text(), f"{name} is stale: --all --render-only writes it"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
