"""Nothing of a checkpoint is used that does not fit, whichever part of it that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import digits
from factories.digits import tiny_settings

from benchmark.training.loop import train
from benchmark.training.progress import EpochEntry
from benchmark.training.training import Training

State = dict[str, Any]


class Stop(Exception):
    pass


@pytest.fixture(scope="module", params=["lff", "jtt", "poisoner"])
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def expected(method: str) -> Training:
    training = Training(digits.tiny(), tiny_settings(method), seed=0)
    train([training])
    return training


@pytest.fixture
def path(tmp_path: Path, method: str) -> Path:
    """The checkpoint of a training that was stopped in the second epoch of its last phase."""
    path = tmp_path / "run.ckpt"

    def stop(entry: EpochEntry) -> None:
        if entry["phase"] == training.phases[-1].name and entry["epoch"] == 2:
            raise Stop

    training = Training(digits.tiny(), tiny_settings(method), 0, checkpoint=path, checkpoint_seconds=0, report=stop)
    with pytest.raises(Stop):
        train([training])
    return path


def resume(path: Path, method: str) -> Training:
    training = Training(digits.tiny(), tiny_settings(method), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    train([training])
    return training


def assert_same(found: Training, expected: Training) -> None:
    assert found.progress.history == expected.progress.history
    assert found.progress.train_counts == expected.progress.train_counts
    assert found.progress.samples_trained == expected.progress.samples_trained
    for one, other in zip(found.predictions(), expected.predictions(), strict=True):
        assert (one == other).all()


def test_one_that_fits_is_continued(path: Path, method: str, expected: Training) -> None:
    found = resume(path, method)
    assert not found.progress.warnings
    assert path.exists()
    assert_same(found, expected)


def put(*keys: Any, value: Any) -> Callable[[State], None]:
    """Give the part that the keys lead to another value; a function is called with the old one."""

    def damage(state: State) -> None:
        place: Any = state
        for key in keys[:-1]:
            place = place[key]
        old = place[keys[-1]] if callable(value) else None
        place[keys[-1]] = value(old) if callable(value) else value

    return damage


def first(state: State) -> str:
    return next(name for name, each in state["method"].items() if each.ndim > 1)


def tensor(change: Callable[[torch.Tensor], Any]) -> Callable[[State], None]:
    return lambda state: put("method", first(state), value=change)(state)


def adam(key: str, change: Callable[[torch.Tensor], Any]) -> Callable[[State], None]:
    return put("optimizers", 0, "state", 0, key, value=change)


DAMAGES: dict[str, Callable[[State], Any]] = {
    "method is a list": put("method", value=[]),
    "a parameter is missing": lambda state: state["method"].pop(first(state)),
    "a parameter more": put("method", "more", value=torch.zeros(1)),
    "int32 weights": tensor(lambda each: each.to(torch.int32)),
    "float64 weights": tensor(torch.Tensor.double),
    "transposed weights": tensor(lambda each: each.mT[:, :1]),
    "weights that are a list": tensor(torch.Tensor.tolist),
    "NaN weights": tensor(lambda each: each * float("nan")),
    "sparse weights": tensor(torch.Tensor.to_sparse),
    "no optimisers": put("optimizers", value=[]),
    "optimisers are none": put("optimizers", value=None),
    "an optimiser more": put("optimizers", value=lambda old: [*old, old[0]]),
    "an optimiser without state": put("optimizers", 0, value={}),
    "Adam's mean of another shape": adam("exp_avg", lambda each: each.flatten()[:1]),
    "Adam's squares of another type": adam("exp_avg_sq", torch.Tensor.half),
    "Adam's squares below zero": adam("exp_avg_sq", lambda each: each - 1),
    "Adam's mean is infinite": adam("exp_avg", lambda each: each + float("inf")),
    "Adam's steps are many": adam("step", lambda each: each + 1e6),
    "Adam's steps are none": adam("step", torch.zeros_like),
    "Adam's steps are a number": adam("step", float),
    "Adam's steps are a row": adam("step", lambda each: each[None]),
    "Adam's mean is missing": lambda state: state["optimizers"][0]["state"][0].pop("exp_avg"),
    "state of a parameter more": lambda state: state["optimizers"][0]["state"].update({999: {}}),
    "state by name": put("optimizers", 0, "state", value=lambda old: {str(key): each for key, each in old.items()}),
    "generator too short": put("generator", value=lambda old: old[:-1]),
    "generator of floats": put("generator", value=torch.Tensor.float),
    "generator is none": put("generator", value=None),
    "generator of noughts": put("generator", value=torch.zeros_like),
    "version of another": put("version", value="0"),
    "of other data": put("data", value="0"),
    "of no data": lambda state: state.pop("data"),
    "empty progress": put("progress", value={}),
    "progress is a list": put("progress", value=[]),
    "phase beyond the last": put("progress", "phase_index", value=lambda old: old + 1),
    "phase before the first": put("progress", "phase_index", value=-1),
    "epoch beyond the end": put("progress", "epoch", value=10**9),
    "epoch before": put("progress", "epoch", value=1),
    "epoch nought": put("progress", "epoch", value=0),
    "epoch is text": put("progress", "epoch", value="2"),
    "epoch is a fraction": put("progress", "epoch", value=2.0),
    "epoch is true": put("progress", "epoch", value=True),
    "empty history": put("progress", "history", value=[]),
    "history lacks an epoch": put("progress", "history", value=lambda old: old[1:]),
    "history twice": put("progress", "history", value=lambda old: old + old),
    "history of another phase": put("progress", "history", 0, "phase", value="another"),
    "a loss is NaN": put("progress", "history", -1, "loss", value=float("nan")),
    "a loss is text": put("progress", "history", -1, "loss", value="0.5"),
    "an epoch lacks its target": lambda state: state["progress"]["history"][-1].pop("target"),
    "a metric is missing": lambda state: state["progress"]["history"][-1]["target"].pop("avg_acc"),
    "a metric is text": put("progress", "history", -1, "target", "avg_acc", value="50"),
    "warnings are numbers": put("progress", "warnings", value=[1]),
    "an epoch was not tested": lambda state: state["progress"]["history"][-1].pop("test"),
    "an epoch was not validated": lambda state: state["progress"]["history"][-1].pop("validation"),
    "answers are too many": put("progress", "history", -1, "test", 0, value=10**6),
    "answers are 10**400": put("progress", "history", -1, "test", 0, value=10**400),
    "answers are less than none": put("progress", "history", -1, "validation", 0, value=-1),
    "answers are of another shape": put("progress", "history", -1, "test", value=lambda old: old[1:]),
    "answers are text": put("progress", "history", -1, "validation", 0, value="5"),
    "no counts of training": put("progress", "train_counts", value={}),
    "counts of a third network": put("progress", "train_counts", "third", value=[[0]]),
    "counts of training too large": put("progress", "train_counts", "target", 0, 0, value=10**6),
    "samples below zero": put("progress", "samples_trained", value=-1),
    "seconds are NaN": put("progress", "seconds", value=float("nan")),
    "seconds are none": put("progress", "seconds", value=None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_that_does_not_fit_is_set_aside(path: Path, method: str, expected: Training, damage: str) -> None:
    state = torch.load(path, weights_only=True)
    DAMAGES[damage](state)
    torch.save(state, path)
    found = resume(path, method)
    (warning,) = found.progress.warnings
    assert warning.startswith("Checkpoint run.ckpt.corrupt cannot be used (")
    assert warning.endswith("); started over.")
    assert_same(found, expected)
    assert [each.name for each in path.parent.iterdir()] == ["run.ckpt.corrupt"]


KINDS = {
    "sgd": {"optimizer": "sgd", "momentum": 0.9},
    "sgd without momentum": {"optimizer": "sgd"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
}
OF_KINDS = [
    ("sgd", put("optimizers", 0, "state", 0, value={})),
    ("sgd", adam("momentum_buffer", lambda each: each.flatten()[:1])),
    ("sgd", adam("momentum_buffer", lambda each: each * float("nan"))),
    ("sgd", adam("momentum_buffer", torch.Tensor.double)),
    ("sgd", put("optimizers", 0, "state", 0, "momentum_buffer", value=None)),
    ("sgd", put("optimizers", 0, "state", 0, "step", value=torch.tensor(1.0))),
    ("sgd without momentum", put("optimizers", 0, "state", value={0: {"momentum_buffer": torch.zeros(100, 24)}})),
    ("adamw", adam("exp_avg", lambda each: each.flatten()[:1])),
    ("adamw", adam("exp_avg_sq", lambda each: each - 1)),
    ("adamw", adam("step", lambda each: each + 1e6)),
    ("adamw", put("optimizers", 0, "state", 0, value={"momentum_buffer": torch.zeros(100, 24)})),
]


@pytest.mark.parametrize(("kind", "damage"), OF_KINDS)
def test_one_of_another_optimiser_that_does_not_fit_is_set_aside(
    tmp_path: Path, kind: str, damage: Callable[[State], Any]
) -> None:
    def training(**more: Any) -> Training:
        return Training(digits.tiny(), tiny_settings("vanilla", **KINDS[kind]), 0, **more)

    def stop(entry: EpochEntry) -> None:
        raise Stop

    path = tmp_path / "run.ckpt"
    with pytest.raises(Stop):
        train([training(checkpoint=path, checkpoint_seconds=0, report=stop)])
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    whole, found = training(), training(checkpoint=path, checkpoint_seconds=1e9)
    train([whole])
    train([found])
    assert "cannot be used" in found.progress.warnings[0]
    assert_same(found, whole)


@pytest.mark.parametrize("value", [None, [], {}, torch.zeros(3), "text", 1])
def test_one_that_is_no_state_is_set_aside(tmp_path: Path, value: object) -> None:
    path = tmp_path / "run.ckpt"
    torch.save(value, path)
    assert "cannot be used" in resume(path, "vanilla").progress.warnings[0]


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"PK\x03\x04" + bytes(1000), b"\x80\x02]q\x00."])
def test_bytes_that_are_no_checkpoint_are_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.ckpt"
    path.write_bytes(content)
    assert "cannot be used" in resume(path, "vanilla").progress.warnings[0]


def test_a_bit_that_flips_anywhere_changes_no_number(path: Path, method: str, expected: Training) -> None:
    """PyTorch reads a weight with another bit as it is."""
    content = path.read_bytes()
    started_over = 0
    for place in range(0, len(content), len(content) // 12):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found = resume(path, method)
        started_over += bool(found.progress.warnings)
        assert_same(found, expected)
    assert started_over > 6


def test_one_that_cannot_be_set_aside_is_not_used_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.ckpt"
    path.write_bytes(b"")

    def replace(*more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.replace", replace)
    assert "Checkpoint run.ckpt cannot be used" in resume(path, "vanilla").progress.warnings[0]
