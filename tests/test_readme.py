"""The example of a method works as printed, and the numbers of all pages are those of the committed records."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmark.plan import code, sources
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
    own = tmp_path / "methods"  # where its file would be looked for, by which its records are known
    own.mkdir()
    (own / "example.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.setattr(code, "METHODS", own)
    request.addfinalizer(code.of_method.cache_clear)
    exec(block("python"), {"__name__": "example"})
    (name,) = tomllib.loads(block("toml"))["method"]
    assert all(each.source for each in sources.settings(load(), "colored_digits", name, [], "paper"))
    arguments = ["--quick", "--methods", "vanilla", name, "--set", "epochs=2", "--results", str(tmp_path)]
    assert main(arguments) == 0
    assert "| Confidence penalty |" in capsys.readouterr().out
    records = [only_record(tmp_path, each) for each in ("vanilla", name)]
    assert len(records[1].provenance.method_version) == 12
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


def committed() -> set[Path]:
    """The files of results/, as seen from there, that git tracks; where this is no checkout, those that are there."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(ROOT / "results"), "ls-files", "-z"]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
        return {Path(name) for name in names if (ROOT / "results" / name).exists()}
    return {path.relative_to(ROOT / "results") for path in (ROOT / "results").rglob("*.*")}


def generated(files: Iterable[Path]) -> set[Path]:
    """Those that are made from the records of the paper's tasks, and are text."""
    return {
        path
        for path in files
        if path.suffix in GENERATED
        and path.parts[0] not in ("paper", "runs", "speed", "inspect")
        and not path.name.startswith(("quick", "speed."))
    }


def test_everything_committed_follows_from_the_committed_records(tmp_path: Path) -> None:
    """Text byte by byte; of the pictures on pages the names, since their bytes depend on the version of matplotlib.

    Whoever tries the commands of the pages has records and tables of his own beside the committed ones.
    """
    for path in committed():
        if path.parts[0] == "runs":
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).symlink_to(ROOT / "results" / path)
    assert main(["--all", "--render-only", "--results", str(tmp_path)]) == 0
    expected = generated(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    known = generated(committed())
    assert known == expected, "git does not track what --all --render-only writes: git add, or rm"
    stale = [
        str(each) for each in sorted(known) if (tmp_path / each).read_text() != (ROOT / "results" / each).read_text()
    ]
    assert not stale, "not what the records that git tracks give: git add new records, then --all --render-only"
    pictures = {name for page in PAGES for name in re.findall(r"results/(figures/[\w.-]+)", page.read_text("utf-8"))}
    assert len(pictures) > 1
    assert {name for name in pictures if not (tmp_path / name).exists()} == {"figures/speed.png"}, "speed has its own"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
