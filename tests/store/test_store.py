from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.digits import tiny_settings

from benchmark import records
from benchmark.errors import UserError
from benchmark.plan.run import Run
from benchmark.records import Store, faults, write_atomically
from benchmark.training.loop import train
from benchmark.training.training import Training
from benchmark.worker import make_record
from datasets import BiasedDataset


@pytest.fixture
def run() -> Run:
    return Run(tiny_settings("lff"), 0)


@pytest.fixture
def record(tiny: BiasedDataset, run: Run) -> dict[str, Any]:
    training = Training(tiny, run.settings, run.seed)
    train([training])
    return make_record(run, tiny, training, "fingerprint")


def test_a_record_comes_back_as_it_was_stored(tmp_path: Path, run: Run, record: dict[str, Any]) -> None:
    store = Store(tmp_path)
    assert store.load(run) is None
    store.save_failure(run, "first try", "trace")
    store.checkpoint_path(run).write_text("checkpoint")
    store.save(run, record)
    assert store.load(run) == record
    assert [path.name for path in store.record_path(run).parent.iterdir()] == [f"{run.digest}-s0.json"]




@pytest.mark.parametrize(
    "damage", ["settings", "truncate", "empty", "list", "key", "schema", "counts", "shape", "binary"]
)
def test_a_damaged_record_is_set_aside_and_counts_as_missing(
    tmp_path: Path, run: Run, record: dict[str, Any], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    store.save(run, record)
    path = store.record_path(run)
    broken = copy.deepcopy(record)
    if damage == "key":
        del broken["curves"]
    elif damage == "schema":
        broken["schema"] = 99
    elif damage == "settings":
        broken["settings"] = {}
    elif damage == "counts":
        broken["test"]["last"]["correct"][0][0] = 10_000
    elif damage == "shape":
        broken["test"]["last"]["correct"].pop()
    text = json.dumps(broken)
    content = {"truncate": text[: len(text) // 2], "empty": "", "list": "[]", "binary": "\x00\x01"}.get(damage, text)
    path.write_text(content)
    assert store.load(run) is None
    aside = [each for each in path.parent.iterdir() if "corrupt" in each.name]
    assert [each.read_text() for each in aside] == [content], "nothing stored is ever lost"
    assert str(path) in capsys.readouterr().out
    store.save(run, record)
    assert store.load(run) == record


def test_a_record_that_contradicts_itself_is_not_stored(tmp_path: Path, run: Run, record: dict[str, Any]) -> None:
    record["test"]["last"]["correct"][0][0] = 10_000
    assert faults(record)
    with pytest.raises(ValueError, match="more correct answers than samples"):
        Store(tmp_path).save(run, record)
    assert Store(tmp_path).load(run) is None




def test_seeds_and_failures_are_those_of_the_same_settings(tmp_path: Path, run: Run, record: dict[str, Any]) -> None:
    store = Store(tmp_path)
    for seed in (10, 2, 0):
        store.save(Run(run.settings, seed), record | {"seed": seed})
    store.save(Run(tiny_settings("lff", epochs=4), 1), record)
    store.save_failure(Run(run.settings, 5), "out of memory", "trace")
    assert [each["seed"] for each in store.seeds(run)] == [0, 2, 10]
    assert [(each.seed, reason) for each, reason in store.failures(run)] == [(5, "out of memory")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"results folder .*file.* cannot be written"):
        Store(tmp_path / "file").check_writable()


def test_predictions_belong_to_one_training_and_never_spoil_a_record(
    tmp_path: Path, run: Run, record: dict[str, Any]
) -> None:
    store = Store(tmp_path)
    record["provenance"]["finished"] = "2026-01-01T00:00:00Z"
    predicted, score = np.array([0, 3, 2]), np.array([1, 1e-9, 0.25], np.float32)
    store.save_predictions(run, record, predicted, score)
    store.save(run, record)
    found = store.predictions(run, record)
    assert found is not None
    assert found[0].tolist() == [0, 3, 2]
    assert found[1].tolist() == score.tolist(), "small scores keep their order"
    later = copy.deepcopy(record)
    later["provenance"]["finished"] = "2026-01-02T00:00:00Z"
    assert store.predictions(run, later) is None, "those of another training"

    path = store.predictions_path(run)
    for content in (path.read_bytes()[:100], b""):
        path.write_bytes(content)
        assert store.predictions(run, record) is None
        assert store.load(run) == record
    assert store.find() == store.find(run.id) == store.seeds(run) == [record]
    assert not list(tmp_path.rglob("*.tmp"))


def test_runs_are_found_by_the_beginning_of_their_ids(tmp_path: Path, run: Run, record: dict[str, Any]) -> None:
    store = Store(tmp_path)
    with pytest.raises(UserError, match="holds no record"):
        store.find("colored_digits")
    for seed in (10, 1, 0):
        store.save(Run(run.settings, seed), record | {"seed": seed, "settings": run.settings})
    store.save_failure(Run(run.settings, 5), "out of memory", "trace")
    assert {each["seed"] for each in store.find("colored_digits/l")} == {0, 1, 10}
    assert [each["seed"] for each in store.find(Run(run.settings, 1).id)] == [1], "seed 10 only begins so"
    with pytest.raises(UserError, match=r"Unknown run 'colored_digit/lff'; did you mean 'colored_digits/lff'"):
        store.find("colored_digit/lff")
