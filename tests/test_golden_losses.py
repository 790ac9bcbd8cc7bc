"""The losses of every method's first updates are those stored in golden/losses.json.

They prove that a refactoring or a faster way changes no number. A change of the losses that is meant is stored with
``--update-golden``; the difference in the file then shows which phases it touches.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_settings
from torch import Tensor

from benchmark import plan, recipes
from benchmark.training import Training
from datasets import BiasedDataset, Split
from methods import METHODS
from methods.base import Batch, Phase, Step

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
UPDATES = 50
# Other CPUs and BLAS add up in another order. Each update builds on the one before, and Adam's first ones turn the
# sign of a gradient into a full step, so that losses which start 1e-7 apart grow apart; a small learning rate slows
# that. With the instruction sets of other CPUs (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA, MKL_CBWR) they came to differ
# by 4e-5 (MLP) and 6e-4 (ResNet), and by 1.4e-2 for DebiAN, whose discoverer descends the logarithm of a difference
# that is nearly zero.
TOLERANCES = {"mlp": 1e-4, "resnet18": 2e-3, "mlp/debian": 5e-2}
LEARNING_RATES = {"mlp": 1e-4, "resnet18": 1e-5}
Losses = dict[str, list[float]]


def recorded(training: Training, updates: int) -> Losses:
    """Train to the end; returns the losses of each phase's first updates, step by step, to seven digits."""
    losses: dict[str, list[Tensor]] = {phase.name: [] for phase in training.phases}

    def listen(phase: Phase) -> Phase:
        def loss(batch: Batch, original: Callable[[Batch], Tensor]) -> Tensor:
            value = original(batch)
            losses[phase.name].append(value.detach())
            return value

        steps = tuple(
            Step(lambda batch, original=step.loss: loss(batch, original), step.trains)  # type: ignore[misc]
            for step in phase.steps
        )
        return replace(phase, steps=steps)

    training.phases = tuple(listen(phase) for phase in training.phases)
    training.run()
    return {
        phase.name: [float(f"{float(each):.7g}") for each in losses[phase.name][: updates * len(phase.steps)]]
        for phase in training.phases
    }


def compare(key: str, losses: Losses, request: pytest.FixtureRequest) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if request.config.getoption("--update-golden"):
        write(golden | {key: losses})
        return
    if key not in golden:
        pytest.skip(f"no losses of {key} are stored: run with --update-golden")
    assert list(losses) == list(golden[key])
    tolerance = TOLERANCES.get(key, TOLERANCES[key.split("/")[0]])
    for phase, expected in golden[key].items():
        np.testing.assert_allclose(losses[phase], expected, rtol=tolerance, err_msg=f"{key}, phase '{phase}'")


def write(golden: dict[str, Losses]) -> None:
    """A line for each phase, in order of their names."""
    blocks = []
    for key in sorted(golden):
        lines = ",\n".join(f"  {json.dumps(phase)}: {json.dumps(each)}" for phase, each in golden[key].items())
        blocks.append(f" {json.dumps(key)}: {{\n{lines}\n }}")
    GOLDEN.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_losses_of_the_mlp(tiny: BiasedDataset, method: str, request: pytest.FixtureRequest) -> None:
    """203 images at 64 are 4 updates an epoch, hence 13 epochs."""
    changes = {"auxiliary_updates": UPDATES} if method == "be" else {}
    settings = tiny_settings(method, epochs=13, learning_rate=LEARNING_RATES["mlp"], **changes)
    training = Training(tiny, settings, seed=0)
    compare(f"mlp/{method}", recorded(training, UPDATES), request)


@pytest.mark.parametrize("method", ["vanilla", "lff", "poisoner"])
def test_losses_of_a_resnet(method: str, request: pytest.FixtureRequest) -> None:
    """Convolutions, batch normalisation, channels-last, flips and crops: what the MLP does not have."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        targets = np.arange(n) % 2
        bias = np.where(rng.random(n) < 0.8, targets, 1 - targets)
        images = rng.integers(0, 100, (n, 3, 32, 32), dtype=np.uint8)
        images[:, 0] += (60 * targets).astype(np.uint8)[:, None, None]
        images[:, 1] += (150 * bias).astype(np.uint8)[:, None, None]
        return Split(images, targets, bias)

    dataset = BiasedDataset("tiny", ("a", "b"), ("a", "b"), np.arange(2), split(32), split(8), split(8))
    settings = recipes.resolve("dogs_cats", method, (), "cpu")
    settings |= {"epochs": 2, "batch_size": 16, "learning_rate": LEARNING_RATES["resnet18"]}
    compare(f"resnet18/{method}", recorded(Training(dataset, settings, seed=0), UPDATES), request)


def test_the_compared_methods_have_stored_losses() -> None:
    assert {f"mlp/{row.method}" for row in plan.COMPARED} <= json.loads(GOLDEN.read_text(encoding="utf-8")).keys()
