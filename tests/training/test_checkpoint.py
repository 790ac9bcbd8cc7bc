"""A training's checkpoint: what is continued from it, and what of it cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings

from benchmark.training.loop import train
from benchmark.training.training import Training
from datasets import BiasedDataset


def test_a_checkpoint_of_another_version_is_set_aside(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    Training(tiny, tiny_settings("vanilla"), seed=0, checkpoint=path, checkpoint_seconds=0).run()
    other = Training(tiny, tiny_settings("gce", epochs=1), seed=0, checkpoint=path, checkpoint_seconds=1e9)
    other.method.register_buffer("new_in_this_version", torch.zeros(3))
    train([other])
    assert len(other.progress.history) == 1
    assert "cannot be used" in other.progress.warnings[0]


def test_a_checkpoint_that_has_the_learning_rate_as_a_number_is_continued(tiny: BiasedDataset, tmp_path: Path) -> None:
    """Older versions wrote it so."""

    class Stop(Exception):
        pass

    def stop(entry: dict[str, object]) -> None:
        raise Stop

    path = tmp_path / "run.ckpt"
    settings = tiny_settings("vanilla", learning_rate_decay=0.5)
    expected = Training(tiny, settings, seed=0)
    train([expected])
    with pytest.raises(Stop):
        Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=0, report=stop).run()
    state = torch.load(path, weights_only=True)
    (group,) = state["optimizers"][0]["param_groups"]
    group["lr"] = float(group["lr"])
    torch.save(state, path)
    again = Training(tiny, settings, seed=0, checkpoint=path, checkpoint_seconds=1e9)
    train([again])
    assert again.progress.history == expected.progress.history


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


def test_checkpoints_are_written_no_more_often_than_asked(tiny: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    Training(tiny, tiny_settings("vanilla"), seed=0, checkpoint=path, checkpoint_seconds=1e9).run()
    assert not path.exists()
