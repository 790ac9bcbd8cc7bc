"""The example of a method works as printed, and the numbers of all pages are those of the committed records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.plan import sources
from benchmark.plan.recipes import RECIPES, load, tomllib
from benchmark.run import main
from benchmark.store.record import Record
from benchmark.store.store import Store
from methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = (".csv", ".md", ".tex")
EXAMPLE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", EXAMPLE, re.DOTALL).group(1)  # type: ignore[union-attr]


def test_the_example_method_runs_as_printed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr("methods.METHODS", dict(METHODS))
    extended = tmp_path / "recipes.toml"
    extended.write_text(RECIPES.read_text(encoding="utf-8") + "\n" + block("toml"), encoding="utf-8")
    for module in ("recipes", "sources"):
        monkeypatch.setattr(f"benchmark.plan.{module}.RECIPES", extended)
    load.cache_clear()
    request.addfinalizer(load.cache_clear)
    exec(block("python"), {"__name__": "example"})
    (name,) = tomllib.loads(block("toml"))["method"]
    assert all(each.source for each in sources.settings(load(), "colored_digits", name, [], "paper"))
    arguments = ["--quick", "--methods", "vanilla", name, "--set", "epochs=2", "--results", str(tmp_path)]
    assert main(arguments) == 0
    assert "| Confidence penalty |" in capsys.readouterr().out
    records = [only_record(tmp_path, each) for each in ("vanilla", name)]
    assert records[1].settings["options"] == load().options(name) != {}
    assert records[0].answers.test.tolist() != records[1].answers.test.tolist(), "its loss changes the training"


def only_record(results: Path, method: str) -> Record:
    (record,) = (each for each in Store(results).everything() if each.method == method)
    return record


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
    """Text byte by byte; of the pictures on pages the names, since their bytes depend on the version of matplotlib."""
    (tmp_path / "runs").symlink_to(ROOT / "results" / "runs")
    assert main(["--all", "--render-only", "--results", str(tmp_path)]) == 0
    committed, rendered = (
        {
            path.relative_to(folder): path
            for path in folder.glob("**/*.*")
            if path.suffix in GENERATED
            # Neither made from the records of the paper's tasks.
            and path.relative_to(folder).parts[0] not in ("paper", "runs", "speed", "inspect")
            and not path.name.startswith(("quick", "speed."))
        }
        for folder in (ROOT / "results", tmp_path)
    )
    assert set(committed) == set(rendered)
    for name, path in committed.items():
        assert path.read_text() == rendered[name].read_text(), f"{name} is stale: --all --render-only writes it"
    pictures = {name for page in PAGES for name in re.findall(r"results/(figures/[\w.-]+)", page.read_text("utf-8"))}
    assert len(pictures) > 1
    assert {name for name in pictures if not (tmp_path / name).exists()} == {"figures/speed.png"}, "speed has its own"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
