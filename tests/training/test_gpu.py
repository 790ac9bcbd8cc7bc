"""What only a GPU can show; skipped without one. test_pretended_gpu.py tests as much of it as a CPU can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories.digits import tiny_settings
from factories.noise import noise_dataset, noise_settings
from factories.records import make_run

from benchmark.plan.recipes import load
from benchmark.speed.__main__ import noise
from benchmark.store.store import Store
from benchmark.training import loader
from benchmark.training.loader import DeviceSplit
from benchmark.training.loop import train
from benchmark.training.training import Training
from benchmark.training.updates import Updates
from benchmark.workers.worker import Worker
from datasets import BiasedDataset
from methods import METHODS
from methods.base import Network, Step

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


@pytest.mark.parametrize("changes", [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adamw"}])
def test_a_graph_gives_the_numbers_of_its_update_with_any_optimiser(
    tiny: BiasedDataset, changes: dict[str, object]
) -> None:
    settings = tiny_settings("vanilla", learning_rate=1e-3, weight_decay=0.1, warmup=1.0, **changes)
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


@pytest.mark.parametrize(
    ("network", "method"), [(network, method) for network in ("mlp", "resnet18") for method in ALL]
)
def test_no_update_waits_for_the_device(tiny: BiasedDataset, network: str, method: str) -> None:
    if network == "mlp":
        training = Training(tiny, tiny_settings(method), 0, CUDA)
    else:
        crops = {"crop_padding": 0, "crop_scale": 0.5, "warmup": 1.0} if method == "lff" else {}
        settings = load().resolve("dogs_cats", method, (), "reduced") | {"batch_size": 16, **crops}
        training = Training(noise(48, 32, 2), settings, 0, CUDA)
    for index in range(len(training.phases)):
        training.go_to(index)
        updates = Updates([training], captured=False)
        updates.epoch()  # libraries may wait when they are first used
        drawn = training.begin_epoch()
        torch.cuda.set_sync_debug_mode("error")
        try:
            updates._run(*drawn)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", ALL)
def test_a_resnet_has_the_losses_of_a_cpu_to_the_rounding_of_its_networks(method: str) -> None:
    """One epoch of three updates at a rate at which weights hardly change.

    On a CPU bfloat16 moves the losses of networks that are sure of much by up to 5 %, DebiAN's by 15 %.
    """
    settings = noise_settings(method, epochs=1, learning_rate=1e-6)
    settings["options"] |= {"models": 1, "auxiliary_updates": 3} if method == "be" else {}
    trainings = [Training(noise_dataset(), settings, 0, device) for device in (CUDA, "cpu")]
    for network in trainings[1].method.modules():
        if isinstance(network, Network):
            network.compute_in(torch.bfloat16, "cpu")
    for training in trainings:
        train([training])
    on_gpu, on_cpu = ([entry["loss"] for entry in each.progress.history] for each in trainings)
    assert on_gpu == pytest.approx(on_cpu, rel=0.3 if method == "debian" else 0.1)


def test_batches_that_are_sent_are_those_that_lie_there(tiny: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_settings("vanilla")
    resident = DeviceSplit(tiny.train, 4, settings, CUDA)
    monkeypatch.setattr(loader, "free_memory", lambda device: 1000)
    streamed = DeviceSplit(tiny.train, 4, settings, CUDA)
    assert not streamed.resident
    order = torch.randint(203, (300, 64), generator=torch.Generator().manual_seed(0))
    for (_, images), (_, same) in zip(resident.batches(order), streamed.batches(order), strict=True):
        assert torch.equal(images, same)


def test_seeds_at_once_are_measured_as_each_alone(tiny: BiasedDataset) -> None:
    networks = [Training(tiny, tiny_settings("vanilla"), seed, CUDA).method.target for seed in range(16)]
    split = DeviceSplit(tiny.train, 4, tiny_settings("vanilla"), CUDA)
    together, alone = split.logits_of(networks), torch.stack([split.logits(network) for network in networks])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(together.argmax(2), alone.argmax(2))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_signal_in_an_epoch_saves_the_state_before_it(tiny: BiasedDataset, tmp_path: Path, seeds: int) -> None:
    """The state is copied on the device, and read when it is written, on whatever stream that is."""

    class Stop(Exception):
        pass

    def new(folder: Path) -> list[Training]:
        settings = tiny_settings("lff", learning_rate=1e-4)
        return [Training(tiny, settings, seed, CUDA, folder / f"{seed}.ckpt", 1e9) for seed in range(seeds)]

    whole, stopped, resumed = new(tmp_path / "none"), new(tmp_path), new(tmp_path)
    original = Updates._run_static

    def signalled(self: Updates, *drawn: torch.Tensor) -> None:
        original(self, *drawn)
        if stopped[0].progress.epoch == 2:
            for training in stopped:
                assert training.checkpoint
                training.checkpoint.write()
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Updates, "_run_static", signalled)
        with pytest.raises(Stop):
            train(stopped)
    train(whole)
    train(resumed)
    for one, other in zip(whole, resumed, strict=True):
        assert len(other.progress.history) == 3
        expected = [entry["loss"] for entry in one.progress.history]
        assert [entry["loss"] for entry in other.progress.history] == pytest.approx(expected, rel=1e-3)


def test_an_update_that_cannot_be_captured_says_why(tiny: BiasedDataset) -> None:
    training = Training(tiny, tiny_settings("vanilla"), 0, CUDA)
    (phase,) = training.phases
    loss = phase.steps[0].loss
    looking = Step(lambda batch: loss(batch) * loss(batch).item(), phase.steps[0].trains)
    training.phases = (replace(phase, steps=(looking,)),)
    train([training])
    (warning,) = training.progress.warnings
    assert "captur" in warning
    assert "previous error" not in warning
    assert len(training.progress.history) == 3


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
