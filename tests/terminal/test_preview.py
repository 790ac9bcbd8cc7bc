"""Curves of runs in progress, from their logs, beside stored ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from factories.records import make_record, make_results, make_run, save_seeds

from benchmark.curves import main
from benchmark.plan.run import Run
from benchmark.store import leases
from benchmark.store.logs import JsonLines, path_of
from benchmark.store.store import Store
from benchmark.terminal import preview
from benchmark.terminal.preview import in_progress, pictures

EVERYTHING = ([""], (), ())


def begin(store: Store, run: Run, accuracies: list[float], biased: list[float] = []) -> None:  # noqa: B006
    """A run that somebody trains now, with its log."""
    of_biased: list[dict[str, Any]] = [
        {"phase": "poison", "epoch": place, "loss": 1.0, "biased": {"bias_acc": each}}
        for place, each in enumerate(biased, 1)
    ]
    own = {"bias_acc": 60.0, "model_bias": 20.0}
    of_target = [
        {"phase": "train", "epoch": place, "loss": 1.0, "target": {"avg_acc": each, **own}}
        for place, each in enumerate(accuracies, 1)
    ]
    JsonLines(path_of(store.folder, run.id), 30).follow([*of_biased, *of_target])
    assert leases.acquire(store.record_path(run))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_only_runs_that_are_trained_now_and_asked_for(store: Store) -> None:
    running, done, dead = (make_run("cmnist_99", seed=seed) for seed in range(3))
    other = make_run("cmnist_98", "lff")
    for run in (running, done, other):
        begin(store, run, [10.0])
    store.save(make_record(done))
    JsonLines(path_of(store.folder, dead.id), 30).follow([{"phase": "train", "epoch": 1, "loss": 1.0}])
    assert [run.id for run in in_progress(store, *EVERYTHING)] == sorted([running.id, other.id])
    assert [run.id for run in in_progress(store, [""], ["cmnist_98"], ())] == [other.id]
    assert [run.id for run in in_progress(store, [""], (), ["vanilla"])] == [running.id]
    assert [run.id for run in in_progress(store, ["cmnist_99/v"], (), ())] == [running.id]


def test_curves_of_a_run_in_progress_are_those_that_its_record_will_hold(store: Store) -> None:
    poisoner, plain = make_run("cmnist_99", "poisoner"), make_run("cmnist_99", "vanilla")
    begin(store, poisoner, [10.0, 20.0], [95.0])
    begin(store, plain, [10.0, 20.0])
    by_method = {run.method: run for run in in_progress(store, *EVERYTHING)}
    assert [each["bias_acc"] for each in by_method["poisoner"].curve("biased")] == [95.0]
    assert [each["avg_acc"] for each in by_method["poisoner"].curve("target")] == [10.0, 20.0]
    assert [each["bias_acc"] for each in by_method["vanilla"].curve("biased")] == [60.0, 60.0]


def test_runs_in_progress_stand_above_the_stored_ones_of_their_task(tmp_path: Path) -> None:
    store = save_seeds(tmp_path, "vanilla", {0: 0.3, 1: 0.3}) or Store(tmp_path)
    save_seeds(tmp_path, "vanilla", {0: 0.9}, changes=["epochs=7"])
    begin(store, make_run("cmnist_99", "lff", seed=3), [10.0, 20.0, 40.0])
    results = make_results(tmp_path)
    (text,) = pictures(in_progress(store, *EVERYTHING), results, (), 80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    place = next(place for place, line in enumerate(lines) if line.startswith("▸ LfF seed 3, 3/30"))
    assert lines[place].split()[-4:] == ["10.0", "20.0", "40.0", "▁▂▄"]
    assert lines[place + 1].split()[:4] == ["Vanilla", "(n", "=", "2)"]
    assert "90.0" not in text, "other settings than the recipe's"
    assert "--log jsonl" in "".join(pictures([], results, (), 80))


def test_it_is_shown_until_interrupted_and_only_on_a_terminal(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(store, make_run("cmnist_99"), [12.5, 25.0])
    command = ["--live", "--results", str(store.folder)]
    assert main(command) == 2
    assert "use --text" in capsys.readouterr().err

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(preview.time, "sleep", interrupt)
    assert main(command) == 0
    assert "▸ Vanilla seed 0, 2/30" in capsys.readouterr().out


class Sparse:
    """Measured after every other of ten epochs."""

    def curve(self, network: str) -> list[dict[str, float]]:
        return [{"epoch": epoch, "avg_acc": float(epoch)} for epoch in (1, 2, 4, 6, 8, 10)]


def test_numbers_stand_under_the_epochs_that_were_measured() -> None:
    head, _, row = preview.preview("", {"Vanilla": [Sparse()]}).split("\n\n")[1].splitlines()
    epochs = head.split("↑")[1].split()[:-3]
    assert epochs == ["1", "2", "4", "8", "10"], "a half is not measured, and the next one before is"
    assert row.split()[1:-1] == [f"{int(each):.1f}" for each in epochs]
