"""A training's checkpoint: what is continued from it, and what of it cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from factories.digits import tiny_settings
from torch import Tensor

from benchmark.training.loop import train
from benchmark.training.training import Training
from datasets import BiasedDataset


class Stop(Exception):
    pass


def stop(entry: object) -> None:
    raise Stop


def test_a_checkpoint_of_another_version_is_set_aside(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    train([Training(tiny, tiny_settings("vanilla"), seed=0, checkpoint=path, checkpoint_seconds=0)])
    other = Training(tiny, tiny_settings("gce", epochs=1), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    other.method.register_buffer("new_in_this_version", torch.zeros(3))
    train([other])
    assert len(other.progress.history) == 1
    assert "cannot be used" in other.progress.warnings[0]


def test_a_checkpoint_of_another_precision_is_set_aside(tiny: BiasedDataset, tmp_path: Path) -> None:
    """Begun on a node that computes in bf16, say, and requeued on one that does not: no run is of both."""
    path, settings = tmp_path / "run.ckpt", tiny_settings("vanilla")
    with pytest.raises(Stop):
        train([Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=0, report=stop)])
    state = torch.load(path, weights_only=True)
    torch.save(state | {"precision": "bfloat16"}, path)
    again = Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=1e9)
    train([again])
    assert len(again.progress.history) == 3
    (warning,) = again.progress.warnings
    assert "it was computed in bfloat16, and this machine computes in float32" in warning


@pytest.mark.parametrize("other", [float, torch.Tensor.float])
def test_a_checkpoint_goes_on_at_the_learning_rate_of_this_device(
    tiny: BiasedDataset, tmp_path: Path, other: Callable[[Tensor], object]
) -> None:
    """Older versions of Adam had it as a number, and a GPU's has it in float32, which other kernels misread."""

    path = tmp_path / "run.ckpt"
    settings = tiny_settings("vanilla", learning_rate_decay=0.5)
    expected = Training(tiny, settings, seed=0)
    train([expected])
    with pytest.raises(Stop):
        train([Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=0, report=stop)])
    state = torch.load(path, weights_only=True)
    (group,) = state["optimizers"][0]["param_groups"]
    group["lr"] = other(group["lr"])
    torch.save(state, path)
    again = Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=1e9)
    train([again])
    assert again.progress.history == expected.progress.history


@pytest.mark.parametrize("part", ["progress", "seconds_training", "one_more"])
def test_a_checkpoint_of_another_version_of_the_loop_is_set_aside(
    tiny: BiasedDataset, tmp_path: Path, part: str
) -> None:
    path = tmp_path / "run.ckpt"
    settings = tiny_settings("vanilla")
    expected = Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=0)
    train([expected])
    state = torch.load(path, weights_only=True)
    if part == "progress":
        state["loop"] = state.pop("progress")
    elif part == "one_more":
        state["progress"][part] = 1
    else:
        del state["progress"][part]
    torch.save(state, path)
    again = Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=1e9)
    train([again])
    assert again.progress.history == expected.progress.history
    assert "cannot be used" in again.progress.warnings[0]
    assert [each.name for each in tmp_path.iterdir()] == ["run.ckpt.corrupt"]


def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_over(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    expected = Training(tiny, tiny_settings("lff"), seed=0, checkpoint=path, checkpoint_seconds=0)
    train([expected])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    again = Training(tiny, tiny_settings("lff"), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    train([again])
    assert again.progress.history == expected.progress.history
    assert (tmp_path / "run.ckpt.corrupt").stat().st_size == len(content) // 2
    assert "cannot be used" in again.progress.warnings[0]


def test_a_signal_while_a_state_is_taken_writes_the_one_before(
    tiny: BiasedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "run.ckpt", tmp_path / "expected.ckpt"
    training = Training(tiny, tiny_settings("lff", epochs=4), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    assert training.checkpoint
    written: list[int] = []
    original = torch._foreach_copy_

    def interrupted(targets: list[Tensor], sources: list[Tensor]) -> None:
        """The third epoch's state is half there."""
        original(targets[:1], sources[:1])
        if len(training.progress.history) == 3 and not path.exists():
            training.checkpoint.write()
            written.append(torch.load(path, weights_only=True)["progress"]["epoch"])
        original(targets, sources)

    monkeypatch.setattr(torch, "_foreach_copy_", interrupted)
    train([training])
    assert written == [2]
    monkeypatch.undo()
    short = Training(tiny, tiny_settings("lff", epochs=4), seed=0, checkpoint=other, checkpoint_seconds=0)
    short.report = lambda entry: entry["epoch"] == 2 and stop(entry)
    with pytest.raises(Stop):
        train([short])
    found, expected = (torch.load(each, weights_only=True) for each in (path, other))
    assert found["method"].keys() == expected["method"].keys()
    assert all(torch.equal(value, expected["method"][name]) for name, value in found["method"].items())
    assert torch.equal(found["generator"], expected["generator"])


def test_checkpoints_are_written_no_more_often_than_asked(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    train([Training(tiny, tiny_settings("vanilla"), seed=0, checkpoint=path, checkpoint_seconds=1e9)])
    assert not path.exists()
