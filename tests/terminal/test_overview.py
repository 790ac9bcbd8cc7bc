"""What --status and --list print: how many seeds are done, what went wrong, and how far a run is."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from factories.leases import rewrite
from factories.records import make_record, make_run
from rich.console import Console

from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.run import main
from benchmark.store import leases, logs
from benchmark.store.leases import Lease
from benchmark.store.status import Condition, Status
from benchmark.store.store import Store
from benchmark.terminal import overview

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def lease_of(store: Store, run: str, epochs: int) -> Lease:
    """A lease that has told of so many epochs of 30, the last a minute after the one before."""
    lease = leases.acquire(store.record_path(run))
    assert lease
    lease.total, lease.done = 30, epochs
    for epoch in range(1, epochs + 1):
        lease.tell("train", epoch, 1 / epoch, {"avg_acc": 2.0 * epoch})
    lease.last = tuple(
        leases.Epoch(each.phase, each.epoch, each.loss, each.metrics, 60.0 * each.epoch) for each in lease.last
    )
    lease._beat()
    return lease


def test_the_matrix_counts_seeds_and_marks_what_is_on_the_way_or_lost(capsys: Capture) -> None:
    conditions: dict[tuple[str, str], list[Condition]] = {
        ("cmnist_99", "vanilla"): ["done", "done", "running"],
        ("cmnist_99", "lff"): ["done", "failed", "failed"],
        ("cmnist_98", "lff"): ["stale", "missing", "waiting"],
    }
    statuses = [
        Status(make_run(task, method, seed=seed), each, "why" if each == "failed" else "")
        for (task, method), found in conditions.items()
        for seed, each in enumerate(found)
    ]
    overview.print_status([("Table 2", statuses)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(lines[0]).startswith("Table 2: 3 done, 1 stale, 1 running, 1 waiting, 2 failed, 1 missing")
    assert ["vanilla", "2/3", "▸1"] in lines
    assert ["lff", "1/3", "✗2", "1/3", "…1", "~1"] in lines
    assert [line[0] for line in lines[-3:]] == ["failed", "failed", "waiting"]
    assert lines[-2] == ["failed", "cmnist_99/lff", "seed", "2", "why"]
    assert ["done/asked", "▸", "running", "✗", "failed", "…", "waiting", "~", "stale"] in lines


def test_every_table_of_the_paper_is_readable_in_eighty_columns(tmp_path: Path, capsys: Capture) -> None:
    reason = "RuntimeError: " + "many words " * 20
    Store(tmp_path).save_failure(make_run("cmnist_99"), reason, "")
    command = ["--table", "1", "2", "3", "4", "ablations", "--seeds", "5", "--status", "--results", str(tmp_path)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    long = [line for line in lines if len(line.rstrip()) > 80]
    assert [line.split()[:3] for line in long] == [["failed", "cmnist_99/vanilla", "seed"]], "a line a run, to grep"
    heads = [line.split() for line in lines if line.split()[:1] == ["method"]]
    assert len(heads) > 5, "Table 3 has more tasks than columns for them"
    assert sum(line.count("0/5") for line in lines) == 9 * 4 + 9 * 5 + 3 * 8, "those with a row a method"


def test_the_listing_has_eighty_columns_and_every_setting_once(capsys: Capture) -> None:
    recipes = load()
    overview.print_listing(recipes)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert not any(line.endswith(" ") for line in printed.splitlines())
    words = printed.split()
    assert words.count("optimizer=adam") == 1, "what all tasks share"
    assert words.count("epochs=30") == 2, "Colored MNIST, twice"
    assert all(f"{key}={value}" in words for key, value in {"poisoner.gamma": 1.0, "data.ratio": 0.98}.items())
    assert all(name in words for name in (*recipes.tasks, *recipes.methods))


def test_a_run_in_progress_by_its_lease_alone(store: Store, capsys: Capture) -> None:
    run = make_run("cmnist_99", "lff").id
    lease_of(store, run, 15)
    store.save(make_record(make_run("cmnist_99", "lff", seed=1)))
    assert main(["--status", "cmnist_99/lff", "--results", str(store.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"running {run}", "the other run of that name is done"
    assert f"{os.getpid()}, epoch 15 of 30" in lines[1]
    assert lines[2].strip() == "60 s an epoch, 15 min left"
    assert [line.split()[:2] for line in lines[4:14]] == [["train", str(epoch)] for epoch in range(6, 16)]
    assert lines[13].split() == ["train", "15", "0.06667", "30.0"]
    assert lines[14].split() == ["Avg.", "▁▂▂▂▂▂▂▃▃▃", "0", "to", "100,", "10", "epochs"], "12 to 30 percent"


def test_a_log_shows_all_epochs_but_never_those_of_an_earlier_life(store: Store, capsys: Capture) -> None:
    run = make_run("cmnist_99", "lff").id
    history = [{"phase": "train", "epoch": each, "loss": 1.0, "target": {"avg_acc": 50.0}} for each in range(1, 21)]
    logs.JsonLines(logs.path_of(store.folder, run), 30).follow(history)
    lease_of(store, run, 15)
    overview.print_runs(run, store, {})
    assert "20 epochs" in capsys.readouterr().out
    rewrite(store.record_path(run), done=25)
    overview.print_runs(run, store, {})
    assert "20 epochs" not in capsys.readouterr().out


def test_runs_that_ended(store: Store, capsys: Capture) -> None:
    done, failed = make_run("cmnist_99", "poisoner"), make_run("cmnist_99", "gce")
    store.save(make_record(done))
    store.save_failure(failed, "TrainingError: nan", "Traceback of it")
    overview.print_runs("poisoner", store, {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["done", done.id]
    assert [line[:2] for line in lines[2:6]] == [["poison", "1"], ["train", "1"], ["train", "2"], ["train", "3"]]
    overview.print_runs("gce", store, {})
    printed = capsys.readouterr().out
    assert "TrainingError: nan" in printed
    assert "Traceback of it" in printed
    with pytest.raises(UserError, match=r"2 runs are called 'cmnist_99', and none is running: .*\(failed\)"):
        overview.print_runs("cmnist_99", store, {})
    with pytest.raises(UserError, match="Unknown run 'lff'"):
        overview.print_runs("lff", store, {})


def test_a_dead_owner_is_not_in_progress(store: Store, capsys: Capture) -> None:
    run = make_run("cmnist_99", "lff").id
    lease_of(store, run, 15)
    rewrite(store.record_path(run), machine="another", written=time.time() - 1000)
    overview.print_runs("lff", store, {})
    assert capsys.readouterr().out.startswith("missing ")


def test_a_terminal_folds_reasons_beside_their_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, width=80, force_terminal=True, color_system=None, file=io.StringIO())
    monkeypatch.setattr(overview, "Output", lambda: console)
    overview.print_status([("Quick", [Status(make_run(), "failed", "word " * 40)])])
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    first = next(place for place, line in enumerate(lines) if line.startswith("failed"))
    assert lines[first + 1].startswith(" " * lines[first].index("word"))
