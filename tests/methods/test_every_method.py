"""What holds for the losses and networks of every registered method."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from factories.methods import BIAS, IMAGE_SHAPE, TARGETS, build, generator, make_batch
from torch import Tensor, nn

from methods import METHODS
from methods.base import Method, Network, Phase


def build_any(name: str) -> Method:
    return build(name, TARGETS, BIAS)


def steps_through(method: Method) -> Iterator[tuple[Phase, Tensor, tuple[nn.Module, ...]]]:
    """The loss of each step of each phase, in order, with the hooks called in between as the common loop does."""
    for phase in method.phases():
        seen = method.uses_bias_labels if phase.split == "train" else method.uses_validation_bias
        for step, samplers in zip(phase.steps, phase.batches, strict=True):
            bias = BIAS if seen else None
            batches = [
                make_batch(method, range(len(TARGETS)), bias, seed, step.draws)._replace(split=phase.split)
                for seed, _ in enumerate(samplers)
            ]
            yield phase, step.loss(*batches), step.trains
        for hook in (phase.end_epoch, phase.end):
            if hook is not None:
                images = torch.randn(len(TARGETS), *IMAGE_SHAPE, generator=generator(5))
                with torch.no_grad():
                    hook(lambda network, split="train", images=images: network(images))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_step_gives_gradients_to_exactly_the_networks_it_trains(name: str) -> None:
    method = build_any(name)
    for phase, loss, trained in steps_through(method):
        assert loss.shape == ()
        assert torch.isfinite(loss), phase.name
        method.zero_grad(set_to_none=True)
        loss.backward()
        reached = {parameter for parameter in method.parameters() if parameter.grad is not None}
        assert reached == {parameter for network in trained for parameter in network.parameters()}, phase.name


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_target_or_a_part_of_it_is_trained_in_the_last_phase(name: str) -> None:
    method = build_any(name)
    parts = {*method.target.modules()}
    assert any(parts & {*step.trains} for step in method.phases()[-1].steps)


@pytest.mark.parametrize("name", ["lff", "jtt", "debian", "echoes", "be", "poisoner", "dpr", "xrm"])
def test_networks_are_initialised_independently(name: str) -> None:
    method = build_any(name)
    networks = [module for module in method.modules() if isinstance(module, Network)]
    assert len(networks) == {"be": 7, "xrm": 3}.get(name, 2)
    first_weights = [network.features[1].weight for network in networks]
    for i, one in enumerate(first_weights):
        assert not any(torch.equal(one, other) for other in first_weights[:i])


@pytest.mark.parametrize("name", sorted(METHODS))
def test_clean_labels_are_never_modified(name: str) -> None:
    method = build_any(name)
    for _, loss, _ in steps_through(method):
        loss.backward()
    assert method.all_targets.tolist() == TARGETS
