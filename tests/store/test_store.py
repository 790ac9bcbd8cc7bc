from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from factories.digits import tiny_settings
from msgspec.structs import replace

from benchmark.collect import collect
from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.store.encoding import encode
from benchmark.store.record import Record
from benchmark.store.store import Store


def assert_same(found: Record | None, expected: Record) -> None:
    """Records hold arrays, which are not simply equal or not."""
    assert found
    assert encode(found) == encode(expected)


def test_a_record_comes_back_as_it_was_stored(tmp_path: Path, run: Run, record: Record) -> None:
    store = Store(tmp_path)
    assert store.load(run) is None
    store.save_failure(run, "first try", "trace")
    store.checkpoint_path(run).write_text("checkpoint")
    store.save(record)
    found = store.load(run)
    assert_same(found, record)
    assert found.run.id == run.id  # type: ignore[union-attr]
    assert [path.name for path in store.record_path(run).parent.iterdir()] == [f"{run.digest}-s0.json"]
    text = store.record_path(run).read_bytes()
    store.save(found)  # type: ignore[arg-type]
    assert store.record_path(run).read_bytes() == text, "what was read is written to the same bytes"


@pytest.mark.parametrize(
    "damage",
    ["settings", "truncate", "empty", "list", "key", "unknown key", "kind", "counts", "shape", "curve",
     "binary", "seed"],
)  # fmt: skip
def test_a_damaged_record_is_set_aside_and_counts_as_missing(
    tmp_path: Path, run: Run, record: Record, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    store.save(record)
    path = store.record_path(run)
    broken = json.loads(path.read_text())
    if damage == "key":
        del broken["phases"]
    elif damage == "unknown key":
        broken["groups"]["sizes"] = []
    elif damage == "kind":
        broken["provenance"]["seconds"] = "a minute"
    elif damage == "settings":
        broken["settings"] = {}
    elif damage == "counts":
        broken["answers"]["test"][-1][0] = 10_000
    elif damage == "shape":
        broken["answers"]["test"].pop()
    elif damage == "curve":
        broken["phases"][0]["target"]["avg_acc"].pop()
    elif damage == "seed":
        broken["seed"] = 1
    text = json.dumps(broken)
    content = {"truncate": text[: len(text) // 2], "empty": "", "list": "[]", "binary": "\x00\x01"}.get(damage, text)
    path.write_text(content)
    assert store.load(run) is None
    aside = [each for each in path.parent.iterdir() if "corrupt" in each.name]
    assert [each.read_text() for each in aside] == [content], "nothing stored is ever lost"
    assert str(path) in capsys.readouterr().out
    store.save(record)
    assert_same(store.load(run), record)


def test_a_record_of_a_newer_version_is_left_alone(
    tmp_path: Path, run: Run, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whoever looks at a folder with an older checkout; nor is its run trained there for nothing."""
    store = Store(tmp_path)
    store.save(record)
    path = store.record_path(run)
    content = path.read_text().replace('"schema": 3', '"schema": 4').replace('"train": {', '"new": 1,\n "train": {', 1)
    path.write_text(content)
    assert store.load(run) is None
    assert "left alone: it is of a newer version of the benchmark (schema 4)" in capsys.readouterr().out
    assert not store.lacks(run)
    assert [each.read_text() for each in path.parent.iterdir()] == [content]


def test_a_record_that_contradicts_itself_is_not_stored(tmp_path: Path, run: Run, record: Record) -> None:
    answers = record.answers.test.copy()
    answers[-1, 0] = 10_000
    broken = replace(record, answers=replace(record.answers, test=answers))
    with pytest.raises(ValueError, match="more correct answers than samples"):
        Store(tmp_path).save(broken)
    assert Store(tmp_path).load(run) is None
    assert not list(tmp_path.rglob("*"))


def test_seeds_and_failures_are_those_of_the_same_settings(tmp_path: Path, run: Run, record: Record) -> None:
    store = Store(tmp_path)
    for seed in (10, 2, 0):
        store.save(replace(record, seed=seed))
    store.save(replace(record, seed=1, settings=tiny_settings("lff", epochs=4)))
    store.save_failure(Run(run.settings, 5), "out of memory", "trace")
    store.save_failure(Run(tiny_settings("lff", epochs=4), 6), "out of luck", "trace")
    series = collect(store, load()).series[run.series]
    assert [each.seed for each in series.records] == [0, 2, 10]
    assert series.failures == {5: "out of memory"}
    assert store.failure(Run(run.settings, 5))["trace"] == "trace"
    assert store.failure(Run(run.settings, 6)) == {}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"reason": 1}', "\x00"])
def test_a_damaged_note_of_a_failure_is_none(tmp_path: Path, run: Run, content: str) -> None:
    store = Store(tmp_path)
    store.save_failure(run, "out of memory", "trace", job="7_1", log="some.out")
    assert store.failures() == {run.id: "out of memory"}
    assert store.failure(run)["log"] == "some.out"
    store.failure_path(run).write_text(content)
    assert store.failures() == store.failure(run) == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"results folder .*file.* cannot be written"):
        Store(tmp_path / "file").check_writable()


def test_predictions_belong_to_one_record_and_never_spoil_it(tmp_path: Path, run: Run, record: Record) -> None:
    store = Store(tmp_path)
    predicted, score = np.array([0, 3, 2]), np.array([1, 1e-9, 0.25], np.float32)
    assert store.save(record, (predicted, score))
    stored = store.load(run)
    assert stored
    found = store.predictions(stored)
    assert found is not None
    assert found[0].tolist() == [0, 3, 2]
    assert found[1].tolist() == score.tolist(), "small scores keep their order"
    assert store.predictions(record) is None, "a record without predictions has none, whatever lies beside it"
    text = encode(stored)

    path = store.predictions_path(stored)
    content = path.read_bytes()
    other = Store(tmp_path / "other")
    other.save(record, (predicted[:2], score[:2]))
    (of_another_length,) = other.folder.glob("runs/*/*/*.npz")
    for damaged in (content[:100], b"", of_another_length.read_bytes(), content[:-1] + b"x"):
        path.write_bytes(damaged)
        assert store.predictions(stored) is None
        assert_same(store.load(run), stored)
    assert text == store.record_path(run).read_text()
    assert store.ids("") == store.ids(run.id) == [run.id]
    (only,) = store.everything()
    assert_same(only, stored)
    assert not list(tmp_path.rglob("*.tmp"))


def test_runs_are_found_by_the_beginning_of_their_ids(tmp_path: Path, run: Run, record: Record) -> None:
    store = Store(tmp_path)
    with pytest.raises(UserError, match="holds no record"):
        store.ids("colored_digits")
    for seed in (10, 1, 0):
        store.save(replace(record, seed=seed))
    store.save_failure(Run(run.settings, 5), "out of memory", "trace")
    assert store.ids("colored_digits/l") == [f"{run.series}-s{seed}" for seed in (0, 1, 10)]
    assert {each.seed for name in store.ids("colored_digits/l") if (each := store.read(name))} == {0, 1, 10}
    assert store.ids(Run(run.settings, 1).id) == [Run(run.settings, 1).id], "seed 10 only begins so"
    with pytest.raises(UserError, match=r"Unknown run 'colored_digit/lff'; did you mean 'colored_digits/lff'"):
        store.ids("colored_digit/lff")
