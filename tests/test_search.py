"""Searches: their points, what they choose and by what, and that nothing is trained twice."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from factories.records import make_record, put
from msgspec.structs import replace

from benchmark.collect import collect
from benchmark.compare.search import Outcome, outcome, tuned_table
from benchmark.options import parser
from benchmark.plan.ranges import Range
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.plan.search import SEED, Search
from benchmark.report import search as report
from benchmark.rules import RULES, Rule
from benchmark.run import main
from benchmark.search import plan, sobol
from benchmark.selection import select
from benchmark.store.record import Answers, Record
from benchmark.store.results import Results
from benchmark.store.store import Store
from benchmark.workers.worker import check_options
from methods import METHODS

WORST = RULES["validation_worst"]


def searches(*arguments: str, count: int = 4) -> list[Search]:
    chosen = select(parser().parse_args(["--tasks", "colored_digits", *arguments]))
    return plan(chosen.recipes, chosen.tables, chosen.tasks, chosen.methods, count)


def test_a_longer_search_begins_with_the_shorter_one() -> None:
    few, many = sobol(3, 5), sobol(3, 100)
    assert list(many[:5]) == list(few)
    assert len({tuple(point) for point in many}) == 100
    assert np.all((np.array(many) >= 0) & (np.array(many) < 1))
    # Evenly spread: of the first 64, each half of each dimension has its half.
    assert ((np.array(sobol(3, 64)) < 0.5).sum(0) == 32).all()


@pytest.mark.parametrize(
    ("told", "default", "values"),
    [
        (Range(uniform=(0.0, 2.0)), 0.5, (0.0, 1.0, 2.0)),
        (Range(log=(1e-4, 1e-2)), 0.5, (1e-4, 1e-3, 1e-2)),
        (Range(uniform=(1, 5)), 3, (1, 3, 5)),
        (Range(log=(10, 1000)), 3, (10, 100, 1000)),
        (Range(choice=("a", "b")), "a", ("a", "b", "b")),
    ],
)
def test_values_lie_where_the_range_says(told: Range, default: object, values: tuple[object, ...]) -> None:
    found = [told.value(share, default) for share in (0.0, 0.5, 1 - 1e-9)]
    assert found == [pytest.approx(each, rel=0.02) if isinstance(each, float) else each for each in values]
    assert {type(each) for each in found} == {type(default)}


@pytest.mark.parametrize("bad", [{"uniform": (2.0, 1.0)}, {"log": (0.0, 1.0)}, {"choice": (1,)}, {}])
def test_ranges_that_are_none_are_refused(bad: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="range"):
        Range(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_point_of_every_method_is_a_run_that_may_be_trained(method: str) -> None:
    (search,) = searches("--methods", method, count=9)
    assert search.points[0].overrides == ()
    assert search.points[0].run == Run(load().resolve("colored_digits", method), SEED)
    for point in search.points:
        check_options(point.run)
        assert {each.key for each in point.overrides} >= {"learning_rate", "weight_decay"} or not point.overrides
    assert len({point.run.id for point in search.points}) == 9


@pytest.mark.parametrize("owner", ["", "lff."])
def test_what_the_user_sets_is_not_searched(owner: str) -> None:
    (search,) = searches("--methods", "lff", "--set", f"{owner}learning_rate=0.5", "lff.q=0.6", "gce.weight_decay=0.5")
    assert {each.name for point in search.points for each in point.overrides} == {"weight_decay", "lff.alpha"}
    assert {point.run.settings["learning_rate"] for point in search.points} == {0.5}
    assert {point.run.settings["options"]["q"] for point in search.points} == {0.6}


def measured(folder: Path, search: Search, shares: dict[int, tuple[int, int]], rule: Rule = WORST) -> Outcome:
    """The search with a record of each point: in every group so many right, of 100, in validation and in the test."""
    for number, (validation, test) in shares.items():
        record = make_record(search.points[number].run)
        answers = Answers(epochs=[1], test=np.full((1, 100), test), validation=np.full((1, 100), validation))
        put(folder, replace(record, answers=answers))
    return outcome(search, read(folder, rule))


def read(folder: Path, rule: Rule = WORST) -> Results:
    return collect(Store(folder), load(), rule)


def test_validation_alone_decides_and_the_recipe_wins_a_tie(tmp_path: Path) -> None:
    (search,) = searches("--methods", "lff")
    assert measured(tmp_path, search, {0: (50, 90), 1: (60, 10), 2: (60, 95)}).chosen is None, "a point is missing"
    found = measured(tmp_path, search, {3: (55, 99)})
    assert found.chosen == 1, "the first of the best in validation, the worst in the test"
    assert [found.scores[number][0] for number in range(4)] == pytest.approx([50, 60, 60, 55])
    assert measured(tmp_path, search, {0: (60, 0)}).chosen == 0
    points = report.points([found])
    assert list(points.columns) == [
        "task",
        "row",
        "point",
        "settings",
        "score",
        "tie_break",
        "chosen",
        "failure",
        "run",
    ]
    assert points.set_index("point").chosen.to_dict() == {0: False, 1: True, 2: False, 3: False}


def test_points_stand_in_no_table(tmp_path: Path) -> None:
    """The recipe's own settings are a point, too, and its run of the search would be a seed more."""
    (search,) = searches("--methods", "lff")
    found = measured(tmp_path, search, {number: (50 + number, 50) for number in range(4)})
    results = read(tmp_path)
    table = tuned_table([found], results)
    assert [row.title for row in table.rows] == ["", "LfF, tuned"]
    assert [len(results.cell(table, row, "colored_digits")) for row in table.rows] == [0, 0]
    assert results.records == ()
    assert len(results.points) == 4


@pytest.mark.parametrize(
    ("tasks", "own"), [(["colored_digits", "cmnist_99"], ("-colored_digits", "-cmnist_99")), (["cmnist_99"], ("",))]
)
def test_each_task_of_several_has_files_of_its_own(tasks: list[str], own: tuple[str, ...], tmp_path: Path) -> None:
    command = ["--tasks", *tasks, "--methods", "vanilla", "--search", "2", "--select", "validation_worst"]
    assert main([*command, "--render-only", "--results", str(tmp_path)]) == 0
    name = f"search-selection-{'-'.join(tasks)}-vanilla"
    written = {path.name: path.read_text() for path in (tmp_path / "tables").glob("*-points.csv")}
    found = {f"{name}{each}-validation_worst-points.csv": task for each, task in zip(own, tasks, strict=True)}
    assert set(written) == set(found)
    for path, task in found.items():
        assert {line.split(",")[0] for line in written[path].splitlines()[1:]} == {task}


def test_a_point_that_failed_is_counted_and_not_waited_for(tmp_path: Path) -> None:
    (search,) = searches("--methods", "lff")
    Store(tmp_path).save_failure(search.points[2].run, "TrainingError: The loss became nan.", "trace")
    found = measured(tmp_path, search, {0: (50, 50), 1: (40, 50), 3: (45, 50)})
    assert (found.missing, found.chosen) == (0, 0)
    assert "nan" in found.failures[2]
    assert re.search(
        r"\| +3 of 4 \| +1 \|", report.choices([found], tuned_table([found], read(tmp_path)), read(tmp_path))
    )


def test_a_search_killed_in_the_middle_ends_like_one_left_alone(tmp_path: Path) -> None:
    """Killed, then continued in processes of this machine."""
    search = ["--tasks", "colored_digits", "--methods", "vanilla", "--set", "epochs=10", "--search", "4"]
    here = ["--select", "validation_average", "--device", "cpu"]
    command = [sys.executable, "-m", "benchmark.run", *search, *here]
    process = subprocess.Popen(
        [*command, "--workers", "1", "--results", str(tmp_path / "killed")], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 2 <= len(list(tmp_path.rglob("*.json"))) < 4
    local = ["--launcher", "local", "--max-parallel", "2", "--wait"]
    subprocess.run([*command, "--results", str(tmp_path / "killed"), *local], check=True, stdout=subprocess.DEVNULL)
    assert main([*search, *here, "--workers", "1", "--results", str(tmp_path / "alone")]) == 0
    killed, alone = (
        {each.run.id: each.answers.test.tolist() for each in Store(tmp_path / name).everything()}
        for name in ("killed", "alone")
    )
    assert len(alone) >= 4
    assert killed == alone
    (one,), (other,) = (tmp_path.glob(f"{name}/tables/*-points.csv") for name in ("killed", "alone"))
    assert one.read_text() == other.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "last"], "choose one of validation, validation_class, validation_average, validation_worst"),
        (["--select", "test_average"], "--search chooses by validation images"),
        (["--select", "validation", "--figure", "4"], "leave out --figure"),
    ],
)
def test_what_nothing_may_be_chosen_by_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = [] if "--figure" in arguments else ["--tasks", "colored_digits"]
    assert main([*what, "--search", "3", *arguments, "--results", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_rule_that_the_data_do_not_allow_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--tasks", "colored_digits", "--search", "3", "--set", "data.validation_ratio=1.0"]
    assert main([*command, "--select", "validation_worst", "--results", str(tmp_path)]) == 2
    assert "90 of the tested groups have no validation image" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_search_trains_what_is_missing_and_then_what_it_chooses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--tasks", "colored_digits", "--methods", "vanilla", "groupdro", "--set", "epochs=1", "--seeds", "2"]
    command += ["--select", "validation_worst", "--results", str(tmp_path)]
    assert main([*command, "--search", "2"]) == 0
    capsys.readouterr()
    first = {record.run.id for record in Store(tmp_path).everything()}
    assert sum(run.endswith(f"-s{SEED}") for run in first) == 4
    assert main([*command, "--search", "2", "--dry-run"]) == 0
    assert "Nothing to train." in capsys.readouterr().out
    assert main([*command, "--search", "3"]) == 0
    said = capsys.readouterr().out
    points = [line.split("  ")[0] for line in said.splitlines() if line.startswith("done: ") and "seed 10000" in line]
    assert sorted(points) == [f"done: colored_digits/{each} seed 10000" for each in ("groupdro", "vanilla")], "no other"
    assert {record.run.id for record in Store(tmp_path).everything()} >= first
    assert "| GroupDRO, tuned* |" in said
    assert "of 3 points a method" in said
    name = "search-selection-colored_digits-vanilla-groupdro-epochs=1-validation_worst"
    written = {path.name for path in (tmp_path / "tables").iterdir()}
    assert written == {f"{name}{end}" for end in (".csv", ".md", ".tex", "-points.csv", "-choices.md")}
    assert (tmp_path / "figures" / f"{name}-options.png").stat().st_size > 10_000
    assert main([*command, "--search", "3", "--status"]) == 0
    said = capsys.readouterr().out
    assert "0 missing" in said
    points = {record.run.id for record in Store(tmp_path).everything() if record.seed == SEED}
    assert len(points) == 6
    run = next(iter(sorted(points)))
    Store(tmp_path).set_aside(Store(tmp_path).read(run).run.id, ".lost")
    Store(tmp_path).checkpoint_path(run).write_bytes(b"")
    assert main([*command, "--search", "3", "--status"]) == 0
    said = capsys.readouterr().out
    assert f"missing  {run}  continues from its checkpoint" in said, "of one name, hence told apart by their ids"


def test_a_method_of_which_nothing_is_left_to_search_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["--tasks", "colored_digits", "--methods", "vanilla", "--select", "validation_worst", "--render-only"]
    command += ["--results", str(tmp_path), "--search"]
    assert main([*command, "2", "--set", "learning_rate=0.001", "weight_decay=0.0001"]) == 2
    assert "Nothing of the method vanilla is left to search on colored_digits" in capsys.readouterr().err
    assert main([*command, "1"]) == 2
    assert "--search" in capsys.readouterr().err


def test_searches_of_other_methods_have_files_of_their_own(tmp_path: Path) -> None:
    names = set()
    for methods in (["vanilla"], ["focal"], []):
        chosen = ["--table", "2", "--tasks", "cmnist_99", *(["--methods", *methods] if methods else [])]
        found = select(parser().parse_args(chosen))
        searched = plan(found.recipes, found.tables, found.tasks, found.methods, 2)
        names.add(tuned_table([outcome(each, read(tmp_path)) for each in searched], read(tmp_path)).stem)
    assert names == {f"search-table2-cmnist_99{each}" for each in ("-vanilla", "-focal", "")}


def test_points_of_different_data_are_said_beside_what_was_chosen_among_them(tmp_path: Path) -> None:
    (search,) = searches("--methods", "lff", count=2)
    measured(tmp_path, search, {0: (50, 50), 1: (60, 50)})
    results = read(tmp_path)
    (other,) = (
        each for each in results.points.values() if isinstance(each, Record) and each.run == search.points[1].run
    )
    put(tmp_path, replace(other, provenance=replace(other.provenance, data="fedcba9876543210")))
    results = read(tmp_path)
    found = [outcome(search, results)]
    text = report.choices(found, tuned_table(found, results), results)
    assert re.search(r"With the points of the search: [^:]*: THESE RECORDS ARE OF DIFFERENT DATA", text)
