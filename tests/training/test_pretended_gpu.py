"""The path of a GPU, on a pretended one: the numbers of the CPU, and nothing that a GPU would refuse or wait for.

``factories/pretended_gpu.py`` says what is checked. Rates are powers of two, since a GPU's Adam has them in float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from factories.digits import tiny_settings
from factories.noise import noise_dataset, noise_settings
from factories.pretended_gpu import GPU, Hazard, Machine, pretended
from factories.records import make_run
from torch import Tensor, nn

from benchmark.store.store import Store
from benchmark.training import graphs, loader, networks
from benchmark.training.loop import train
from benchmark.training.training import Training
from benchmark.training.updates import Updates
from benchmark.workers.worker import Worker
from datasets import BiasedDataset
from methods import METHODS
from methods.base import Batch, Network, Step

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="test_gpu.py tests the GPU itself")
ALL = sorted(METHODS)
RATE = 2**-10


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The pretended GPU."""
    for kept in (graphs._stream, loader._copy_stream):
        kept.cache_clear()
    with pretended(monkeypatch) as machine:
        yield machine
    for kept in (graphs._stream, loader._copy_stream):
        kept.cache_clear()


@pytest.fixture
def gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The pretended GPU, on which no update may wait."""
    for name in ("_run", "_run_static"):
        monkeypatch.setattr(Updates, name, machine.watched(getattr(Updates, name)))
    return machine


def losses(training: Training) -> list[float]:
    return [entry["loss"] for entry in training.progress.history]


def assert_as_on_the_cpu(training: Training, alone: Training) -> None:
    train([alone])
    assert losses(training) == pytest.approx(losses(alone), rel=1e-9)
    assert training.progress.history[-1]["test"] == alone.progress.history[-1]["test"]
    assert training.progress.train_counts == alone.progress.train_counts
    assert training.progress.warnings == alone.progress.warnings


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("method", ALL)
def test_the_mlp(tiny: BiasedDataset, method: str, seeds: int, gpu: Machine) -> None:
    """Every phase is captured, and replayed to its end."""
    # 13 updates an epoch, and 2 of half of the validation images.
    settings = tiny_settings(method, learning_rate=RATE, batch_size=16)
    trainings = [Training(tiny, settings, seed, GPU) for seed in range(seeds)]
    train(trainings)
    phases = trainings[0].phases
    updates = sum(each.updates or (13 if each.split == "train" else 2) * each.epochs for each in phases)
    assert gpu.replays == updates - 3 * len(phases), "three of each phase warm it up"
    for seed, training in enumerate(trainings):
        assert_as_on_the_cpu(training, Training(tiny, settings, seed))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("changes", [{"optimizer": "sgd", "momentum": 0.5}, {"optimizer": "adamw"}])
def test_optimisers_with_a_rate_that_rises_while_updates_are_replayed(
    tiny: BiasedDataset, changes: dict[str, Any], seeds: int, gpu: Machine
) -> None:
    """A warm-up of 7 of 12 updates, at rates that float32 has; the capture comes after the third."""
    more = changes | {"weight_decay": 2**-4, "warmup": 7 / 12, "learning_rate": 2**-4, "learning_rate_decay": 0.5}
    settings = tiny_settings("vanilla", **more)
    trainings = [Training(tiny, settings, seed, GPU) for seed in range(seeds)]
    train(trainings)
    assert gpu.replays == 12 - 3
    for seed, training in enumerate(trainings):
        assert_as_on_the_cpu(training, Training(tiny, settings, seed))


def small_resnet(method: str, **changes: Any) -> dict[str, Any]:
    """Three updates an epoch."""
    settings = noise_settings(method, epochs=1, learning_rate=RATE, **changes)
    settings["options"] |= {"models": 1, "auxiliary_updates": 3} if method == "be" else {}
    settings["options"] |= {"last_layer_updates": 3} if method in ("afr", "dfr") else {}
    return settings


def on_both(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Training, Training]:
    """On the pretended GPU, and on the CPU as a GPU computes: in bf16, with no convolution replaced."""
    monkeypatch.setattr(networks, "speed_up", lambda module: None)
    training, alone = (Training(noise_dataset(), settings, 0, device) for device in (GPU, "cpu"))
    for network in alone.method.modules():
        if isinstance(network, Network):
            network.compute_in(torch.bfloat16, "cpu")
    return training, alone


# Bfloat16 is slow where it is emulated: one network, several in turn, alternating steps, features, frozen features.
@pytest.mark.parametrize("method", ["vanilla", "be", "debian", "poisoner", "afr"])
def test_a_resnet_whose_networks_alone_compute_in_bfloat16(
    method: str, gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, alone = on_both(small_resnet(method), monkeypatch)
    train([training])
    assert_as_on_the_cpu(training, alone)
    assert gpu.replays == 0


@pytest.mark.parametrize("changes", [{"optimizer": "sgd", "momentum": 0.5}, {"optimizer": "adamw"}])
def test_optimisers_of_a_resnet_and_crops_that_are_enlarged(
    changes: dict[str, Any], gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_resnet("vanilla", crop_padding=0, crop_scale=0.5, warmup=1.0, weight_decay=0.125, **changes)
    training, alone = on_both(settings, monkeypatch)
    train([training])
    assert_as_on_the_cpu(training, alone)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("method", "epochs"), [("lff", 1), ("lff", 2), ("lisa", 2)])
def test_batches_that_are_sent_while_others_are_computed(
    tiny: BiasedDataset, method: str, epochs: int, gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LISA's loss takes two at once."""
    monkeypatch.setattr(loader, "free_memory", lambda device: 1000 if device.type == "cuda" else 1e12)
    monkeypatch.setattr(loader, "EVALUATION_PIXELS", 300)
    settings = tiny_settings(method, epochs=epochs, learning_rate=RATE)
    training = Training(tiny, settings, 0, GPU)
    assert not training.splits.train.resident
    train([training])
    assert_as_on_the_cpu(training, Training(tiny, settings, 0))
    streams = next(gpu.numbers)
    train([Training(tiny, settings, 1, GPU)])
    assert next(gpu.numbers) == streams + 1, "no new stream for each pass and epoch"


@pytest.mark.parametrize("seeds", [1, 4])
def test_an_epoch_waits_for_the_device_twice_however_many_seeds(
    tiny: BiasedDataset, seeds: int, machine: Machine, tmp_path: Path
) -> None:
    """For its losses and for what was counted; a checkpoint that is not written waits for nothing."""
    waits: list[int] = []
    settings = tiny_settings("lff", epochs=4)
    trainings = [Training(tiny, settings, seed, GPU, tmp_path / f"{seed}.ckpt", 1e9) for seed in range(seeds)]
    trainings[0].report = lambda entry: waits.append(machine.waits)
    train(trainings)
    assert [after - before for before, after in pairwise(waits)] == [2, 2, 2]


def test_measuring_seeds_at_once_takes_the_operations_of_one(tiny: BiasedDataset, machine: Machine) -> None:
    def operations(seeds: int) -> int:
        trainings = [Training(tiny, tiny_settings("lff"), seed, GPU) for seed in range(seeds)]
        networks = [training.method.target for training in trainings]
        before = machine.default.clock[0]
        trainings[0].splits.train.logits_of(networks)
        return machine.default.clock[0] - before

    assert operations(16) == operations(2) < 3 * operations(1)


def test_a_worker_trains_seeds_at_once_on_a_device_that_nothing_has_touched(machine: Machine, tmp_path: Path) -> None:
    machine.initialised = False
    runs = [make_run("colored_digits", "poisoner", "epochs=2", seed=seed) for seed in range(2)]
    worker = Worker(Store(tmp_path), Path("unused"), GPU)
    assert worker.work(runs) == ["done"] * 2
    records = [worker.store.load(run) for run in runs]
    assert [record and record.provenance.seeds_at_once for record in records] == [2, 2]
    assert [record and record.warnings for record in records] == [[], []]


def test_what_pytorch_keeps_of_earlier_tensors_is_free(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    assert loader.free_memory(GPU) == 140


# Planted faults, each of which must be found


def plant(training: Training, fault: Callable[[Any, Batch, Tensor], Tensor]) -> Training:
    """Let the fault do its work on each loss of the method, which gets a buffer ``memory`` [n, n] to do it with."""
    (phase,) = training.phases
    (step,) = phase.steps
    size = len(training.method.all_targets)
    training.method.memory = nn.Buffer(torch.ones(size, size).to(training.device))
    steps = (Step(lambda batch: fault(training.method, batch, step.loss(batch)), step.trains),)
    training.phases = (replace(phase, steps=steps),)
    return training


def a_mask(method: Any, batch: Batch, loss: Tensor) -> Tensor:
    return loss + 0 * batch.images[batch.targets == 0].sum()


def a_number_put_by_index(method: Any, batch: Batch, loss: Tensor) -> Tensor:
    method.memory[batch.indices] = 2.0
    return loss


def a_product_in_bfloat16(method: Any, batch: Batch, loss: Tensor) -> Tensor:
    with torch.autocast("cuda", torch.bfloat16):
        return loss + 0 * (method.memory @ method.memory).float().mean()


def a_print(method: Any, batch: Batch, loss: Tensor) -> Tensor:
    print(loss)
    return loss


def a_replaced_buffer(method: Any, batch: Batch, loss: Tensor) -> Tensor:
    method.memory = method.memory + 1
    return loss + 0 * method.memory.mean()


def a_tensor_of_the_step_before(method: Any, batch: Batch, loss: Tensor) -> Tensor:
    before = getattr(method, "before", loss.detach())
    method.before = loss.detach().clone()
    return loss + 0 * before


WAITS, SENDS, BOTH = "makes the host wait", "sends a tensor", "of the device and of the host"


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        pytest.param(lambda method, batch, loss: loss * loss.item(), WAITS, id="item"),
        pytest.param(lambda method, batch, loss: loss if loss > 0 else -loss, WAITS, id="branch"),
        pytest.param(lambda method, batch, loss: loss * float(loss.detach().numpy()), WAITS, id="numpy"),
        pytest.param(lambda method, batch, loss: loss + 0 * loss.detach().cpu().to(GPU), WAITS, id="cpu"),
        pytest.param(lambda method, batch, loss: loss * len(batch.targets.unique()), WAITS, id="unique"),
        pytest.param(lambda method, batch, loss: loss * sum(batch.targets.tolist()), WAITS, id="tolist"),
        pytest.param(a_print, WAITS, id="print"),
        pytest.param(a_mask, WAITS, id="boolean mask"),
        pytest.param(lambda method, batch, loss: loss * torch.ones(1), BOTH, id="tensor of the host"),
        pytest.param(
            lambda method, batch, loss: loss * torch.tensor(2.0, device=GPU), SENDS, id="tensor made of numbers"
        ),
        pytest.param(a_number_put_by_index, SENDS, id="number put by index"),
        pytest.param(a_product_in_bfloat16, "half precision", id="bfloat16"),
        pytest.param(a_replaced_buffer, "freed after its capture", id="replaced buffer"),
        pytest.param(a_tensor_of_the_step_before, "freed after its capture", id="tensor of the step before"),
    ],
)
def test_a_faulty_loss_is_found(
    tiny: BiasedDataset, gpu: Machine, fault: Callable[[Any, Batch, Tensor], Tensor], finding: str
) -> None:
    with pytest.raises(Hazard, match=finding):
        train([plant(Training(tiny, tiny_settings("vanilla"), 0, GPU), fault)])


@pytest.mark.usefixtures("float64")
def test_a_loss_that_counts_in_python_has_other_numbers(tiny: BiasedDataset, gpu: Machine) -> None:
    def counting(method: Any, batch: Batch, loss: Tensor) -> Tensor:
        method.count = getattr(method, "count", 0) + 1
        return loss / method.count

    settings = tiny_settings("vanilla", learning_rate=RATE)
    training, alone = (plant(Training(tiny, settings, 0, device), counting) for device in (GPU, "cpu"))
    train([training])
    with pytest.raises(AssertionError):
        assert_as_on_the_cpu(training, alone)


def new_rates(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    original = Training.begin_epoch

    def begin(self: Training) -> Any:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate_tensor()
        return original(self)

    monkeypatch.setattr(Training, "begin_epoch", begin)


def nothing(*args: object) -> None: ...


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        pytest.param(
            lambda patch, machine: patch.setattr(machine.kinds["Stream"], "wait_stream", nothing),
            "does not wait for", id="updates wait for nobody",
        ),
        pytest.param(
            lambda patch, machine: patch.setattr(machine.kinds["Stream"], "wait_event", nothing),
            "does not wait for", id="batches are not waited for",
        ),
        pytest.param(
            lambda patch, machine: patch.setattr(machine.kinds["Event"], "synchronize", nothing),
            "overwritten while it may be sent", id="batches are overwritten while they are sent",
        ),
        pytest.param(
            lambda patch, machine: patch.setattr(Tensor, "record_stream", nothing),
            "is given anew", id="batches are given up while they are read",
        ),
        pytest.param(new_rates, "freed after its capture", id="new learning rates"),
    ],
)  # fmt: skip
def test_a_faulty_loop_is_found(
    tiny: BiasedDataset,
    gpu: Machine,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch, Machine], None],
    finding: str,
) -> None:
    """One run that is streamed and one that is captured."""
    with monkeypatch.context() as patch:
        patch.setattr(loader, "free_memory", lambda device: 1000)
        streamed = Training(tiny, tiny_settings("vanilla"), 0, GPU)
    captured = Training(tiny, tiny_settings("vanilla"), 0, GPU)
    fault(monkeypatch, gpu)
    with pytest.raises(Hazard, match=finding):  # noqa: PT012
        train([streamed])
        train([captured])


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("side_stream", lambda device: contextlib.nullcontext(), "the default stream cannot be captured"),
        ("capture", graphs.capture, "operation not permitted when stream is capturing: _local_scalar_dense"),
    ],
)
def test_an_update_that_cannot_be_captured_says_why(
    tiny: BiasedDataset, machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str, value: object, why: str
) -> None:
    """The end of a broken capture fails, too, with an error that says nothing."""
    monkeypatch.setattr(graphs, name, value)
    factor = (lambda loss: loss.item()) if name == "capture" else (lambda loss: 1)
    training = plant(
        Training(tiny, tiny_settings("vanilla"), 0, GPU), lambda method, batch, loss: loss * factor(loss.detach())
    )
    train([training])
    (warning,) = training.progress.warnings
    assert why in warning
    assert len(losses(training)) == 3
