"""What only a GPU can show; skipped without one. tests/training/test_updates.py tests as much of it as a CPU can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from factories.digits import tiny_settings
from factories.records import make_run

from benchmark.plan.recipes import load
from benchmark.speed.__main__ import noise
from benchmark.store.store import Store
from benchmark.training.loop import train
from benchmark.training.training import Training
from benchmark.training.updates import Updates
from benchmark.worker import Worker
from datasets import BiasedDataset
from methods import METHODS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
CUDA = torch.device("cuda")
ALL = sorted(METHODS)


def losses(training: Training, captured: bool, epochs: int = 13) -> list[float]:
    """Mean losses of the first epochs of each phase."""
    found = []
    for index in range(len(training.phases)):
        training.go_to(index)
        updates = Updates([training], captured)
        found += [updates.epoch()[0] for _ in range(epochs)]
        assert (updates._replay is not None) == captured
    return found


@pytest.mark.parametrize("method", ALL)
def test_a_graph_gives_the_numbers_of_its_update(tiny: BiasedDataset, method: str) -> None:
    """52 updates of each phase."""
    settings = tiny_settings(method, learning_rate=1e-4)
    eager, graph = (Training(tiny, settings, 0, CUDA) for _ in range(2))
    assert losses(graph, True) == pytest.approx(losses(eager, False), rel=1e-3)
    assert not graph.progress.warnings


@pytest.mark.parametrize("method", ALL)
def test_seeds_in_lockstep_end_like_each_alone(tiny: BiasedDataset, method: str) -> None:
    settings = tiny_settings(method, learning_rate=1e-4)
    alone, together = ([Training(tiny, settings, seed, CUDA) for seed in range(3)] for _ in range(2))
    for training in alone:
        train([training])
    train(together)
    for one, other in zip(alone, together, strict=True):
        expected = [entry["loss"] for entry in one.progress.history]
        assert [entry["loss"] for entry in other.progress.history] == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("network", "method"), [("mlp", method) for method in ALL] + [("resnet18", "poisoner")])
def test_no_update_waits_for_the_device(tiny: BiasedDataset, network: str, method: str) -> None:
    if network == "mlp":
        training = Training(tiny, tiny_settings(method), 0, CUDA)
    else:
        settings = load().resolve("dogs_cats", method, (), "cpu") | {"batch_size": 16}
        training = Training(noise(48, 32, 2), settings, 0, CUDA)
    for index in range(len(training.phases)):
        training.go_to(index)
        updates = Updates([training], captured=False)
        updates.epoch()  # libraries may wait when they are first used
        order, draws = training.begin_epoch()
        torch.cuda.set_sync_debug_mode("error")
        try:
            updates._run(order, draws)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_worker_records_seeds_trained_at_once(tmp_path: Path) -> None:
    runs = [make_run("colored_digits", "poisoner", "epochs=2", seed=seed) for seed in range(3)]
    worker = Worker(Store(tmp_path), Path("unused"), CUDA)
    assert worker.work(runs) == ["done"] * 3
    for run in runs:
        record = worker.store.load(run)
        assert record
        assert record.provenance.seeds_at_once == 3
        assert (record.provenance.peak_device_memory or 0) > 0
        assert not record.warnings
