"""XRM's twin loss, flips and environments, against a scalar reference and the properties that define them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from factories.methods import (
    TARGETS,
    assert_descends_weighted_ce,
    build,
    close,
    generator,
    gradients,
    make_batch,
    network_ce,
    number,
)
from torch import Tensor

from methods.base import Batch

N = len(TARGETS)


def twins(**overrides: Any) -> Any:
    return build("xrm", TARGETS, **overrides)


def drawing(method: Any, draws: float | Tensor, seed: int = 0) -> Batch:
    """A batch of all samples that has these random numbers."""
    batch = make_batch(method, range(N), seed=seed)
    return batch._replace(draws=torch.as_tensor(draws).expand(N)[:, None])


def test_each_sample_trains_the_twin_of_its_half_and_classes_count_alike() -> None:
    method = twins()
    method.labels.copy_(torch.tensor([0, 0, 2, 2, 2, 2] * 4))  # as if flipped: class 1 is not there any more
    batch = drawing(method, 1.0)
    labels, first = method.labels.tolist(), method.first_half.tolist()
    assert 0 < sum(first) < N
    now = batch._replace(targets=method.labels.clone())
    of_twins = (network_ce(each, now) for each in (method.biased, method.sibling))
    ce = [a if half else b for a, b, half in zip(*of_twins, first, strict=True)]
    weights = [1 / labels.count(y) for y in labels]
    loss = method.twin_loss(batch)
    assert number(loss) == close(sum(w * each for w, each in zip(weights, ce, strict=True)))
    for twin, halves in ((method.biased, first), (method.sibling, [not half for half in first])):
        assert_descends_weighted_ce(loss, twin, now, [w * half for w, half in zip(weights, halves, strict=True)])


def test_a_label_flips_to_what_the_other_twin_predicts_as_probably_as_it_is_sure() -> None:
    """(p − 1/C)·C/(C − 1): never at chance, always when certain."""
    method = twins()
    with torch.no_grad():
        first, second = method.biased(drawing(method, 0.0).images), method.sibling(drawing(method, 0.0).images)
    expected_flips = []
    for draw in (0.0, 0.2, 0.5, 0.8, 0.999):
        method = twins()
        method.twin_loss(drawing(method, draw))
        flips = 0
        for i in range(N):
            held_out = (second if method.first_half[i] else first)[i].softmax(0).tolist()
            confidence, predicted = max(held_out), held_out.index(max(held_out))
            flip = draw < (confidence - 1 / 3) * 3 / 2
            flips += flip
            assert method.labels[i] == (predicted if flip else TARGETS[i])
        expected_flips.append(flips)
    assert expected_flips[0] == N
    assert expected_flips == sorted(expected_flips, reverse=True)
    assert 0 < expected_flips[2] < N


def test_flips_stay_and_may_be_taken_back() -> None:
    method = twins()
    sure = torch.full((N, 3), -50.0)
    sure[:, 2] = 50.0
    batch = drawing(method, 0.5)
    method.flip(batch, method.labels.clone(), sure)
    assert method.labels.tolist() == [2] * N
    method.flip(batch, method.labels.clone(), torch.zeros(N, 3))
    assert method.labels.tolist() == [2] * N
    true = torch.zeros(N, 3)
    true[torch.arange(N), method.all_targets] = 50.0
    method.flip(batch, method.labels.clone(), true)
    assert method.labels.tolist() == TARGETS


def test_no_gradient_flows_through_the_held_out_predictions() -> None:
    method = twins()
    method.first_half.fill_(True)
    loss = method.twin_loss(drawing(method, 1.0))
    assert gradients(loss, method.biased).abs().max() > 0
    assert gradients(loss, method.sibling).abs().max() == 0


def test_the_halves_are_a_runs_own_chance() -> None:
    method = twins()
    assert torch.equal(method.first_half, twins().first_half)
    many = build("xrm", [0, 1] * 2000)
    share = many.first_half.float().mean().item()
    assert share == pytest.approx(0.5, abs=0.03)
    assert "first_half" in method.state_dict(), "a resumed run has the same"


def predicting(method: Any, first: list[int], second: list[int]) -> Any:
    answers = {method.biased: first, method.sibling: second}
    return lambda network: torch.nn.functional.one_hot(torch.tensor(answers[network]), 3).float()


def test_the_second_environment_is_what_either_twin_gets_wrong_by_the_true_labels() -> None:
    targets = [0, 0, 0, 0, 1, 1, 2, 2]
    method = build("xrm", targets)
    method.labels.zero_()  # flips do not count
    with pytest.warns(UserWarning, match="one environment only in 1 of 3 classes"):
        method.discover(predicting(method, [0, 1, 0, 2, 1, 1, 2, 0], [0, 0, 1, 2, 1, 1, 2, 2]))
    assert method.environments.tolist() == [0, 1, 1, 1, 0, 0, 0, 1]
    # Groups (0,0), (0,1), (1,0), (2,0), (2,1); (1,1) does not exist.
    assert method.group_weights.tolist() == close([0.2, 0.2, 0.2, 0.0, 0.2, 0.2])
    assert method.sample_weights.tolist() == close([1, 1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1, 1])
    assert method.summary()["second_environment"] == 4


def test_one_environment_warns_and_leaves_the_classes_as_groups() -> None:
    method = build("xrm", [0, 0, 1, 2])
    with pytest.warns(UserWarning, match="one environment only in 3 of 3 classes"):
        method.discover(predicting(method, [0, 0, 1, 2], [0, 0, 1, 2]))
    assert method.group_weights.tolist() == close([1 / 3, 0, 1 / 3, 0, 1 / 3, 0])


@pytest.mark.parametrize("sampler", ["shuffled", "weighted"])
def test_the_target_is_trained_by_groupdro_on_classes_and_environments(sampler: str) -> None:
    method = twins(step_size=0.3, target_sampler=sampler)
    environments = [int(i % 5 == 0) for i in range(N)]
    with torch.no_grad():
        method.environments.copy_(torch.tensor(environments))
        method.group_weights.fill_(1 / 6)
    known = build("groupdro", TARGETS, environments, step_size=0.3, adjustment=0.0)
    known.target.load_state_dict(method.target.state_dict())
    discover, train = method.phases()
    assert (discover.epochs, discover.sampler, train.epochs, train.sampler) == (2, "shuffled", 2, sampler)
    for seed in range(3):
        indices = torch.randint(N, (10,), generator=generator(seed)).tolist()
        found = train.steps[0].loss(make_batch(method, indices, seed=seed))
        assert number(found) == number(known.loss(make_batch(known, indices, environments, seed=seed)))
        assert torch.equal(method.group_weights, known.group_weights)
