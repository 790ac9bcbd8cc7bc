"""Nothing is rendered twice, and nothing that is there is other than what would be rendered from nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from factories.records import fixed_store, make_record, make_run, put
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmark import rendering
from benchmark.compare import published
from benchmark.plan import code, recipes
from benchmark.run import main
from benchmark.store import encoding
from benchmark.store.store import Store

CHOSEN = ["--table", "2", "3", "--figure", "4", "--task", "cmnist_99"]
PICTURES = {"figures/table2-cmnist_99", "figures/table2-cmnist_98", "figures/figure4-cmnist_99"}
TABLES = {"tables/table2", "tables/table3"}
Change = Callable[[Path, pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The pictures that are drawn, each by its file; what is written of one are the lines and words that it shows."""
    found: list[str] = []

    def savefig(self: Drawing, path: Path, **options: object) -> None:
        found.append(path.name)
        lines = [[axes.get_title(), *((each.get_label(), each.get_xydata().tolist()) for each in axes.lines)]
                 for axes in self.axes]  # fmt: skip
        path.write_bytes(bytes(24) + json.dumps([self.get_suptitle(), lines]).encode())

    monkeypatch.setattr(Drawing, "savefig", savefig)
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *arguments: None)
    yield found
    monkeypatch.undo()
    for each in (recipes.load, rendering.code, published.numbers, published.errata):
        each.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fixed_store(tmp_path / "results").folder


def render(folder: Path, *options: str, chosen: list[str] = CHOSEN) -> None:
    assert main([*chosen, "--render-only", "--results", str(folder), *options]) == 0


def written(said: str, folder: Path) -> set[str]:
    """What the command says that it wrote, without the ends of names."""
    names = (line.removeprefix(f"wrote {folder}/") for line in said.splitlines() if line.startswith("wrote"))
    return {re.sub("-(groups|rules|tests)$", "", name.rpartition(".")[0]) for name in names}


def content(folder: Path) -> dict[str, bytes]:
    """Every file that was rendered into the folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and "runs" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != ".rendered.json"}


def test_where_nothing_has_changed_no_record_is_read_and_nothing_is_drawn_or_written(
    folder: Path, drawn: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    render(folder, chosen=["--all"])
    first = capsys.readouterr().out
    assert {"report", "fidelity", "readings", "tables/claims", "figures/overview"} | TABLES | PICTURES <= written(
        first, folder
    )
    assert drawn
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    drawn.clear()
    monkeypatch.setattr(encoding, "decode", lambda content: pytest.fail("a record was read"))
    render(folder, chosen=["--all"])
    assert drawn == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    *second, last = capsys.readouterr().out.splitlines()
    assert second == [line for line in first.splitlines() if not line.startswith("wrote")], "tables are printed"
    assert last == f"{len(content(folder))} files in {folder} are as they would be rendered now."


def _record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, make_record(make_run("cmnist_98", "vanilla"), 0.45))


def _gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(folder).record_path(make_run("cmnist_99", "gce")).unlink()


def _damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Store(folder).record_path(make_run("cmnist_99", "vanilla", seed=1))
    path.write_text(path.read_text().replace('"seed": 1', '"seed": -1'))


def _failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(folder).save_failure(make_run("cmnist_98", "lff"), "TrainingError: Another reason.", "trace")


def _recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = recipes.RECIPES.read_text(encoding="utf-8")
    assert text.count('title = "LfF"') == 1
    changed = folder.parent / "recipes.toml"
    changed.write_text(text.replace('title = "LfF"', 'title = "Learning from Failure"'), encoding="utf-8")
    monkeypatch.setattr(recipes, "RECIPES", changed)
    recipes.load.cache_clear()


def _published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder.parent / "paper"
    shutil.copytree(published.PAPER, own)
    numbers = own / "published.csv"
    (line,) = (each for each in numbers.read_text().splitlines() if each.startswith("table2,vanilla,cmnist_99,avg_acc"))
    numbers.write_text(numbers.read_text().replace(line, "table2,vanilla,cmnist_99,avg_acc,12.34"))
    monkeypatch.setattr(published, "PAPER", own)
    published.numbers.cache_clear()


def _library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == "matplotlib" else version(name))
    rendering.code.cache_clear()


def _code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in rendering.PACKAGES:
        shutil.copytree(rendering.ROOT / package, folder.parent / "code" / package)
    with (folder.parent / "code" / "benchmark" / "report" / "page.css").open("a") as file:
        file.write("\n")
    monkeypatch.setattr(rendering, "ROOT", folder.parent / "code")
    rendering.code.cache_clear()


def _picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "figures" / "table2-cmnist_98.pdf").unlink()


def _by_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "tables" / "table3.tex"
    path.write_text(path.read_text().replace("ERM", "Ours"))


def _nothing_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / ".rendered.json"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (_record, {"tables/table2", "figures/table2-cmnist_98"}),
        (_gone, {"tables/table3", "figures/figure4-cmnist_99"}),
        (_damaged, TABLES | {"figures/table2-cmnist_99"}),
        (_failure, {"tables/table2", "figures/table2-cmnist_98"}),
        (_recipe, TABLES | PICTURES),
        (_published, TABLES | PICTURES),
        (_library, TABLES | PICTURES),
        (_code, TABLES | PICTURES),
        (_picture, {"figures/table2-cmnist_98"}),
        (_by_hand, {"tables/table3"}),
        (_nothing_known, TABLES | PICTURES),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_a_change_concerns_is_rendered_anew_and_nothing_else(
    folder: Path, change: Change, anew: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    render(folder)
    capsys.readouterr()
    change(folder, monkeypatch)
    render(folder)
    said = capsys.readouterr().out
    assert written(said, folder) == anew
    other = folder.parent / "other"
    shutil.copytree(folder / "runs", other / "runs")
    render(other)
    assert content(folder) == content(other), "as if rendered from nothing"
    from_nothing = capsys.readouterr().out
    assert written(from_nothing, other) == TABLES | PICTURES
    render(folder)
    assert written(capsys.readouterr().out, folder) == set()


def test_options_are_part_of_what_is_shown(folder: Path, drawn: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    render(folder)
    drawn.clear()
    capsys.readouterr()
    render(folder, "--compare", "apart")
    assert written(capsys.readouterr().out, folder) == TABLES
    render(folder, "--select", "validation")
    said = written(capsys.readouterr().out, folder)
    assert {"tables/table2-validation", "figures/figure4-cmnist_99-validation"} <= said
    assert not any(name.startswith("table2-cmnist") for name in drawn), "curves show every epoch"
    render(folder)
    assert written(capsys.readouterr().out, folder) == TABLES, "beside again"


def test_what_there_is_no_reason_for_any_more_is_deleted_again(folder: Path) -> None:
    for path in (folder / "runs").rglob("*.json"):
        if "vanilla" not in path.parts:
            path.unlink()
    render(folder)
    restored = folder / "tables" / "table2-tests.md"
    assert not restored.exists()
    restored.write_text("of other records")
    render(folder)
    assert not restored.exists()


SCRIPT = """
import json, os, sys
os.sched_getaffinity = lambda pid: range(int(sys.argv[1]))
from benchmark import rendering
from benchmark.run import main
assert main(sys.argv[2:]) == 0
files = [getattr(each, "__file__", None) for each in list(sys.modules.values())]
print(json.dumps([os.path.realpath(each) for each in files if each]))
"""


def test_processes_draw_the_same_and_the_fingerprint_covers_all_that_is_loaded(folder: Path) -> None:
    """With real pictures, in processes without PyTorch, of which one forks."""
    found = []
    for cores in (1, 2):
        copy = folder.parent / str(cores)
        shutil.copytree(folder / "runs", copy / "runs")
        arguments = ["--table", "2", "--render-only", "--results", str(copy)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(cores), *arguments],
            env={**os.environ, "PYTHONPATH": str(rendering.ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append(content(copy))
    assert found[0].keys() >= {
        f"{each}.{end}" for each in PICTURES - {"figures/figure4-cmnist_99"} for end in ("png", "pdf")
    }
    assert found[0] == found[1]
    modules = [Path(each) for each in json.loads(done.stdout.splitlines()[-1])]
    own = {each.relative_to(rendering.ROOT).parts[0] for each in modules if rendering.ROOT in each.parents}
    assert own <= {*rendering.PACKAGES, "slurm", ".venv"}, "slurm looks for jobs"
    loaded = {place.parts[-1] for each in modules for place in each.parents if place.parent.name == "site-packages"}
    of_packages = metadata.packages_distributions()
    libraries = {name.lower() for each in loaded for name in of_packages.get(each, ())}
    assert (
        {"matplotlib", "numpy", "pandas"} <= libraries <= {*rendering.LIBRARIES, "setuptools"}
    )  # which looks in at every start


def test_what_is_no_longer_rendered_goes_unless_another_command_or_hand_made_it(folder: Path) -> None:
    render(folder, chosen=["--all"])
    (stand_in,) = (folder / "figures").glob("figure4-cmnist_99.png")
    kept = stand_in.read_bytes()
    shutil.rmtree(folder / "runs" / "cmnist_99" / "gce")
    render(folder, chosen=["--all"])
    assert not stand_in.exists(), "one of its rows has no record"
    assert not stand_in.with_suffix(".pdf").exists()
    assert (folder / "tables" / "table2.md").exists()
    stand_in.write_bytes(kept)
    render(folder, chosen=["--all"])
    assert stand_in.read_bytes() == kept


def test_all_deletes_what_other_commands_rendered_of_records_that_are_gone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--tasks", "cmnist_99", "--methods", "vanilla"]
    name, other = "selection-cmnist_99-vanilla-gce", "selection-cmnist_99-vanilla-lff"

    def files(name: str) -> list[str]:
        return sorted(path for path in content(folder) if Path(path).name.startswith(name))

    render(folder, chosen=["--all"])
    render(folder, chosen=[*chosen, "lff"])
    render(folder, chosen=[*chosen, "gce"])
    found, stays = files(name), files(other)
    assert len(found) == len(stays) > 4, "a table, its rules and curves"
    shutil.copytree(folder / "runs", folder.parent / "kept")
    shutil.rmtree(folder / "runs" / "cmnist_99" / "gce")
    capsys.readouterr()
    render(folder, chosen=["--all"])
    assert files(name) == []
    assert files(other) == stays
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("removed")]
    assert sorted(said) == sorted(f"removed {folder / each}, of records that are gone" for each in found)

    shutil.copytree(folder.parent / "kept", folder / "runs", dirs_exist_ok=True)
    render(folder, chosen=[*chosen, "gce"])
    (changed,) = (folder / each for each in files(name) if each.endswith(".tex"))
    changed.write_text("by hand")
    assert files(name) == found
    shutil.rmtree(folder / "runs" / "cmnist_99" / "gce")
    render(folder, chosen=["--all"])
    assert files(name) == [each for each in found if not each.startswith("figures")], "that was changed by hand"
    assert files(other) == stays, "the second time the command itself has nothing to render"


def test_everything_keeps_the_rows_of_methods_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tables that compare methods, where they have records, as by the command that names them."""
    monkeypatch.delitem(code.VERSIONS, "dpr")  # as if it were none of the suite's
    put(folder, make_record(make_run("cmnist_99", "dpr")))
    render(folder, "--methods", "vanilla", "dpr", chosen=["--table", "2"])
    named = (folder / "tables" / "table2.md").read_text()
    assert "| DPR" in named
    render(folder, chosen=["--all"])
    assert (folder / "tables" / "table2.md").read_text().count("| DPR") == named.count("| DPR")
    assert "| DPR" not in (folder / "tables" / "table4.md").read_text()
