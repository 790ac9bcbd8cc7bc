"""In bfloat16 networks compute, and nothing else: what losses make of their outputs is as exact as float32 is.

A method's losses are taken with networks in bfloat16, on a CPU as on a GPU, and then again from the very same outputs
of these networks, in float64 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from factories.noise import noise_dataset, noise_settings
from torch import Tensor, nn

from benchmark.training.training import Training
from methods import METHODS
from methods.base import Network

Outputs = list[Tensor]
SHARP = 30  # times as large are logits than those of new networks, which know nothing


def parts(module: nn.Module) -> Iterator[nn.Module]:
    for network in module.modules():
        if isinstance(network, Network):
            yield from (network.features, network.classifier)


def new_training(method: str) -> Training:
    settings = noise_settings(method, batch_size=32)
    settings["options"] |= {"models": 1, "auxiliary_updates": 2} if method == "be" else {}
    training = Training(noise_dataset(), settings, 0)
    for network in training.method.modules():
        if isinstance(network, Network):
            network.classifier.weight.data.mul_(SHARP)
    return training


def recording(forward: Callable[[Tensor], Tensor], outputs: Outputs) -> Callable[[Tensor], Tensor]:
    def recorded(inputs: Tensor) -> Tensor:
        output = forward(inputs)
        outputs.append(output.detach())
        return output

    return recorded


def losses(training: Training) -> list[float]:
    """Of three batches of each phase, which all see the same weights; what the method remembers goes on."""
    generator, found = torch.Generator().manual_seed(0), []
    for index, phase in enumerate(training.phases):
        training.go_to(index)
        split = training.batches.split(phase)
        for _ in range(3):
            for step, samplers in zip(phase.steps, phase.batches, strict=True):
                batches = []
                for place in range(len(samplers)):
                    indices = torch.randperm(len(split), generator=generator)[:32]
                    images = split.images[indices]
                    unchanged = torch.zeros(len(images), 3, dtype=torch.int64)
                    draws = torch.rand(len(images), step.draws, generator=generator, dtype=torch.float32)
                    draws = draws.to(torch.get_default_dtype())
                    batches.append(training.batches.batch(phase, indices, images, unchanged, draws, place))
                found.append(step.loss(*batches).item())
        training.measurement.forget()
        training.call(phase.end_epoch)
        training.call(phase.end)
    return found


def compute_in_bfloat16(training: Training) -> Outputs:
    """Let the networks compute as on a GPU; returns the list to which they add their outputs."""
    outputs: Outputs = []
    for network in training.method.modules():
        if isinstance(network, Network):
            network.compute_in(torch.bfloat16, "cpu")
    for part in parts(training.method):
        part.forward = recording(part.forward, outputs)
    return outputs


def exact_losses(training: Training, outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its losses in float64, where the networks give these outputs."""
    remaining = iter(outputs)
    for part in parts(training.method):
        part.forward = lambda inputs: next(remaining).double()
    training.method.double()
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    try:
        return losses(training)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_losses_follow_from_the_outputs_of_networks_in_bfloat16(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded, exact = new_training(method), new_training(method)
    outputs = compute_in_bfloat16(rounded)
    found = losses(rounded)
    assert found == pytest.approx(exact_losses(exact, outputs, monkeypatch), rel=2e-6)
    for name, value in exact.method.named_buffers():
        other = dict(rounded.method.named_buffers())[name]
        if "features" in name:  # the networks' own, which stand still where outputs are played back
            continue
        if value.is_floating_point():
            torch.testing.assert_close(other.double(), value, rtol=2e-6, atol=1e-7, msg=name)
        else:
            assert torch.equal(other, value), f"{name}: labels and choices are the same"


@pytest.mark.parametrize("method", ["debian", "poisoner", "groupdro"])
def test_a_loss_in_bfloat16_would_be_found(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded, exact = new_training(method), new_training(method)
    outputs = compute_in_bfloat16(rounded)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(rounded)
    assert found != pytest.approx(exact_losses(exact, outputs, monkeypatch), rel=1e-3)
