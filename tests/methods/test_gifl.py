"""Poisoner's group-wise inverse focal loss: its factors, and where their gradient goes under each reading."""

from __future__ import annotations

import math
from itertools import product
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from factories.methods import build, close, predicting
from torch import Tensor, nn

from benchmark.plan.recipes import load
from methods import losses
from methods.base import Batch, Network, TrainingSet
from methods.poisoner import Differentiated, Poisoner, gifl_multipliers
from tests.tools.gifl_picture import READINGS as PICTURE
from tests.tools.gifl_picture import balance, pull

READINGS = get_args(Differentiated)


def kappa(fit_aligned: float, fit_conflicting: float, floor: float = 0.0, cap: float = 1e9) -> float:
    found, _ = gifl_multipliers(torch.tensor(fit_aligned), torch.tensor(fit_conflicting), 1.0, floor, cap, "neither")
    return float(found)


# ------------------------------------------------------------------------------------------ factors


@pytest.mark.parametrize(("floor", "cap"), [(0.0, 1.0), (0.25, 10.0)])
def test_kappa_is_bounded_on_both_sides(floor: float, cap: float) -> None:
    fits = (0.0, 0.3, 0.9, 0.999, 1.0)
    found = [kappa(a, c, floor, cap) for a, c in product(fits, fits)]
    assert max(found) == cap
    assert min(found) == pytest.approx(max(floor, 1e-4))
    # Between the bounds it is untouched.
    assert kappa(0.3, 0.5, floor, cap) == close((1 - 0.5) / (1 - 0.3))


def test_kappa_is_finite_and_positive_where_a_group_is_fitted_completely() -> None:
    assert kappa(1.0, 0.5) == pytest.approx(0.5 / 1e-4)
    assert kappa(0.5, 1.0) == pytest.approx(1e-4 / 0.5)


def test_the_aligned_group_loses_weight_while_the_conflicting_one_is_fitted_better() -> None:
    assert kappa(0.4, 0.8) < 1
    assert kappa(0.8, 0.4) > 1


@pytest.mark.parametrize("reading", READINGS)
def test_no_reading_changes_the_value_of_a_factor(reading: Differentiated) -> None:
    fits = torch.tensor(0.7), torch.tensor(0.4)
    assert [float(each) for each in gifl_multipliers(*fits, 2.0, 0.0, 10.0, reading)] == close([(0.6 / 0.3) ** 2, 1])


# ----------------------------------------------------------------------------------------- gradient


def loss_and_gradient(
    method: Poisoner, ce: list[float], aligned: list[bool], monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """Autograd's gradient of the second stage's loss by the cross-entropy of each sample of a batch."""
    leaf = torch.tensor(ce, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(losses, "cross_entropy", lambda logits, targets: leaf)
    rows = torch.tensor([(method.aligned == flag).nonzero()[place].item() for place, flag in _places(aligned)])
    batch = Batch(torch.zeros(len(ce), 3, 2, 2), method.all_targets[rows], rows, None)
    (gradient,) = torch.autograd.grad(method.target_loss(batch), leaf)
    return gradient


def _places(aligned: list[bool]) -> list[tuple[int, bool]]:
    """Each flag with the number of flags like it before it."""
    return [(aligned[:place].count(flag), flag) for place, flag in enumerate(aligned)]


def by_hand(
    ce: list[float],
    aligned: list[bool],
    weights: tuple[float, float],
    last: tuple[float, float],
    reading: str,
    gamma: float,
    floor: float,
    cap: float,
    momentum: float,
) -> list[float]:
    """The same gradient from the formulas: of the factors as constants, and through p̄ = mean of exp(−CE)."""
    m, p = len(ce), [2.718281828459045**-each for each in ce]
    member = {flag: [i for i in range(m) if aligned[i] == flag] for flag in (True, False)}
    mean, moves = {}, {}
    for flag, old in zip((True, False), last, strict=True):
        new = sum(p[i] for i in member[flag]) / len(member[flag]) if member[flag] else old
        mean[flag] = momentum * old + (1 - momentum) * new if member[flag] else old
        # dp̄/dp of each member, of the batch's own mean: momentum is to steady κ, not to weaken its gradient.
        moves[flag] = 1 / len(member[flag]) if member[flag] else 0.0
    gap = {flag: min(max(1 - mean[flag], 1e-4), 1.0) for flag in mean}
    free = (gap[False] / gap[True]) ** gamma
    factor = min(max(free, floor), cap)
    total = {flag: sum(weights[not flag] * ce[i] for i in member[flag]) / m for flag in mean}
    through_aligned = reading in ("aligned", "both", "all_but_beta") and floor < free < cap
    through_conflicting = reading in ("conflicting", "both") and floor < free < cap
    gradient = []
    for i in range(m):
        flag, dp = aligned[i], -p[i] * moves[aligned[i]]
        own = weights[not flag] / m * (factor if flag else 1.0)
        if flag and through_aligned:
            own += total[True] * gamma * factor / gap[True] * dp
        if not flag and through_conflicting:
            own -= total[True] * gamma * factor / gap[False] * dp
        if not flag and reading == "all_but_beta":
            own += total[False] * gamma / gap[False] * dp
        gradient.append(own)
    return gradient


BATCHES = {
    "both groups": ([0.2, 1.5, 0.7, 2.1, 0.4], [True, True, False, True, False]),
    "no conflicting sample": ([0.2, 1.5, 0.7], [True, True, True]),
    "no aligned sample": ([0.3, 0.9], [False, False]),
    "upper bound active": ([0.01, 0.02, 3.0, 2.5], [True, True, False, False]),
    "lower bound active": ([3.0, 2.5, 0.1, 0.2], [True, True, False, False]),
}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize("reading", READINGS)
def test_the_gradient_is_that_derived_by_hand(
    reading: str, case: str, momentum: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ce, aligned = BATCHES[case]
    targets = [0, 1, 2] * 4
    options = {"gamma": 1.5, "multiplier_floor": 0.3, "multiplier_cap": 4.0, "conflict_factor": 1.25}
    method = build("poisoner", targets, **options, fit_momentum=momentum, differentiated=reading)
    predicted = [(y + 1) % 3 if i in (1, 4, 8, 9) else y for i, y in enumerate(targets)]
    method.split(predicting(predicted, 3))
    method.seen.fill_(True)
    method.fit.copy_(torch.tensor([0.55, 0.45]))
    found = loss_and_gradient(method, ce, aligned, monkeypatch)
    weights = 12 / 8, 1.25 * 12 / 4
    expected = by_hand(ce, aligned, weights, (0.55, 0.45), reading, 1.5, 0.3, 4.0, momentum)
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_the_readings_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both groups are in the batch and no bound is active, no two gradients are the same."""
    ce, aligned = BATCHES["both groups"]
    gradients = []
    for reading in READINGS:
        method = build("poisoner", [0, 1, 2] * 4, differentiated=reading)
        method.split(predicting([1, 1, 2, 0, 2, 2, 0, 1, 0, 0, 1, 2], 3))
        gradients.append(loss_and_gradient(method, ce, aligned, monkeypatch))
    for i, one in enumerate(gradients):
        assert all((one - other).abs().max() > 1e-3 for other in gradients[:i])


# ------------------------------------------------------------------------------- the false minimum


def accuracy_on_a_toy(seed: int, **options: object) -> tuple[float, float]:
    """Accuracy of the target network on aligned and on conflicting samples of a task with two classes.

    95 % of 400 samples are aligned; one input shows the bias plainly and another the class with a little noise, which
    alone tells more than 97 % of all samples. The split is perfect: what goes wrong is the second stage's own doing.
    """
    source = torch.Generator().manual_seed(seed)
    targets = torch.arange(400) % 2
    conflicting = torch.rand(400, generator=source) > 0.95
    bias = torch.where(conflicting, 1 - targets, targets)
    core = (2.0 * targets - 1) + 0.5 * torch.randn(400, generator=source)
    inputs = torch.stack((3 * (2.0 * bias - 1), core), 1)
    torch.manual_seed(seed)
    method = Poisoner(
        TrainingSet(targets, None, None, 2, 2),
        lambda: Network(nn.Sequential(nn.Linear(2, 16), nn.ReLU()), nn.Linear(16, 2)),
        1,
        **load().options("poisoner") | options,
    )
    method.split(lambda network: F.one_hot(bias, 2).float())
    optimizer = torch.optim.Adam(method.target.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        method.target_loss(Batch(inputs, targets, torch.arange(400), None)).backward()
        optimizer.step()
    right = method.target(inputs).argmax(1) == targets
    return right[~conflicting].float().mean().item(), right[conflicting].float().mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_with_two_classes_the_differentiated_means_turn_the_bias_round(seed: int) -> None:
    """Right on every conflicting sample and wrong on every aligned one: κ goes to 0 there, and so does the loss."""
    aligned, conflicting = accuracy_on_a_toy(seed, differentiated="both")
    assert aligned < 0.05
    assert conflicting == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [{"gamma": 0.0}, {"differentiated": "all_but_beta"}, {"differentiated": "both", "multiplier_floor": 0.1}],
    ids=["without GIFL", "all but beta", "bounded from below"],
)
def test_these_readings_do_not(options: dict[str, object], seed: int) -> None:
    assert min(accuracy_on_a_toy(seed, **options)) > 0.9


def test_constant_means_do_not_pull_there_but_may_stay_there() -> None:
    """As constants they have the same minimum: some seeds end in it, others between."""
    aligned = [accuracy_on_a_toy(seed, differentiated="neither")[0] for seed in range(4)]
    assert min(aligned) < 0.1
    assert max(aligned) > 0.3


def test_what_docs_gifl_shows_of_networks_that_know_nothing_but_the_bias() -> None:
    """Two classes: only without GIFL there is a balance. Ten: there is always one, and differentiated it is fairest."""
    v = torch.linspace(-8, 8, 401, dtype=torch.float64)
    rests = {
        classes: [balance(v, pull(v, classes, gamma, reading)) for gamma, reading, *_ in PICTURE.values()]
        for classes in (2, 10)
    }
    assert rests[2] == [pytest.approx(-math.log(1.25), abs=0.05), None, None]
    without, constants, differentiated = rests[10]
    assert differentiated is not None
    assert without is not None
    assert constants is not None
    assert 0 < differentiated < without < constants
