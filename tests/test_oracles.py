"""Nine methods compute what their authors' code computes, in float64: every loss and weight, update by update.

oracles/README.md says how the numbers were made, what was changed in the authors' code so that they can be compared,
and what the arrays are. Where that code and the suite are known to differ, the test says so and shows the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods.debian
from methods import get, losses
from methods.base import Batch, Phase, TrainingSet
from methods.debian import discovery_loss
from methods.lff import SampleAverage

ORACLES = Path(__file__).parent / "oracles"
pytestmark = pytest.mark.usefixtures("float64")


class Oracle:
    """A stored training, its arrays by name, and the suite's ``method`` where that training begins."""

    def __init__(self, name: str, **changes: float) -> None:
        with np.load(ORACLES / f"{name}.npz", allow_pickle=False) as file:
            self.arrays = {key: torch.from_numpy(file[key]) for key in file.files}
        self.targets, self.bias = self["targets"], self["bias"]
        classes, biases = int(self["num_classes"]), int(self["num_biases"])
        data = TrainingSet(self.targets, self.bias, torch.arange(classes) % biases, classes, biases)
        hyper = {key[6:]: value.item() for key, value in self.arrays.items() if key.startswith("hyper/")}
        self.method: Any = get(name.split("_")[0])(data, self._network, 1, **hyper | changes)
        initial = self.networks("initial")
        assert initial.keys() >= dict(self.method.named_parameters()).keys()
        self.method.load_state_dict(initial, strict=False)  # the method's own buffers begin as it made them

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def _network(self) -> nn.Module:
        norm = bool(self["batch_norm"])
        hidden = [nn.Linear(48, 16, bias=not norm), *[nn.BatchNorm1d(16)] * norm, nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, int(self["num_classes"])))

    def networks(self, prefix: str) -> dict[str, Tensor]:
        """Stored parameters and buffers, under their names in the method's state."""
        start = f"{prefix}/"
        return {key[len(start) :].replace("/", "."): each for key, each in self.arrays.items() if key.startswith(start)}

    def predict(self, network: nn.Module) -> Tensor:
        was_training = network.training
        with torch.no_grad():
            logits = network.eval()(self["images"].double())
        network.train(was_training)
        return logits

    def batch(self, indices: Tensor, draws: Tensor | None) -> Batch:
        bias = self.bias[indices] if self.method.uses_bias_labels else None
        return Batch(self["images"][indices].double(), self.targets[indices], indices, bias, draws)

    def train(
        self,
        phase: Phase,
        batches: Tensor,
        *watched: Callable[[], Tensor],
        epoch: int | None = None,
        draws: Tensor | None = None,
    ) -> list[Tensor]:
        """Go through a phase as the common loop does, with the batches that its steps take in ``batches`` [T, k, m],
        and the random numbers of each in ``draws`` [T, k, m, ...].

        ``end_epoch`` is called after every ``epoch`` updates. Returns the losses [T, steps], and of each of ``watched``
        what it gives after each update, [T, ...].
        """
        optimizers = [
            torch.optim.Adam([each for net in step.trains for each in net.parameters()], float(self["learning_rate"]))
            for step in phase.steps
        ]
        seen: list[list[Tensor]] = [[] for _ in (None, *watched)]
        for number, update in enumerate(batches, start=1):
            found = []
            drawn = [None] * len(update) if draws is None else draws[number - 1]
            rows = (self.batch(*row) for row in zip(update, drawn, strict=True))
            for step, samplers, optimizer in zip(phase.steps, phase.batches, optimizers, strict=True):
                self.method.eval()
                for network in step.trains:
                    network.train()
                loss = step.loss(*(next(rows) for _ in samplers))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                found.append(loss.detach())
            with torch.no_grad():
                if epoch and number % epoch == 0 and phase.end_epoch:
                    phase.end_epoch(self.predict)
                for place, value in zip(seen, (torch.stack(found), *(each().clone() for each in watched)), strict=True):
                    place.append(value)
        if phase.end:
            with torch.no_grad():
                phase.end(self.predict)
        return [torch.stack(each) for each in seen]

    def ends(self, prefix: str = "final", within: float = 1e-10) -> None:
        """All networks are now the stored ones."""
        state = self.method.state_dict()
        for name, expected in self.networks(prefix).items():
            equal(state[name], expected, within)


def equal(value: Tensor, expected: Tensor, within: float = 1e-10, relative: float = 0) -> None:
    """The same, shape included, but for an absolute difference ``within`` and one ``relative`` to what is expected."""
    torch.testing.assert_close(value, expected, rtol=relative, atol=within, check_dtype=False)


def apart(value: Tensor, expected: Tensor) -> float:
    """The largest absolute difference."""
    return (value - expected).abs().max().item()


def listen(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[tuple[Any, Tensor]]:
    """The calls of a function from now on: its arguments, and what it gave."""
    calls: list[tuple[Any, Tensor]] = []
    original = getattr(owner, name)

    def function(*arguments: Any) -> Tensor:
        value = original(*arguments)
        calls.append((arguments, value.detach().clone()))
        return value

    monkeypatch.setattr(owner, name, function)
    return calls


def of_samples(average: SampleAverage) -> Callable[[], Tensor]:
    return lambda: average.average.flatten()[average.slot]


def gce(ce: Tensor, q: Tensor) -> Tensor:
    """(1 − p^q)/q of −log p. The authors descend p^q·CE with p^q held constant: the same gradient, another value."""
    return (1 - torch.exp(-q * ce)) / q


def test_lff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to differ: 1e-8 in the denominator of the weights, which the authors have in BiasEnsemble only."""
    oracle = Oracle("lff")
    method, q = oracle.method, oracle["hyper/q"]
    (phase,) = method.phases()
    calls = listen(monkeypatch, method, "relative_difficulty")
    biased, target = method.biased_average, method.target_average
    visited = [lambda average=each: average.visited[average.slot] for each in (biased, target)]
    loss, ema_biased, ema_target, *visited = oracle.train(
        phase, oracle["batches"][:, None], of_samples(biased), of_samples(target), *visited
    )
    weights = torch.stack([given for _, given in calls])
    biased_ce, target_ce = (torch.stack([arguments[place] for arguments, _ in calls]) for place in (1, 2))
    equal(biased_ce, oracle["biased_ce"])
    equal(target_ce, oracle["target_ce"])
    equal(ema_biased, oracle["ema_biased"])
    equal(ema_target, oracle["ema_target"])
    for each in visited:
        equal(each, oracle["visited"])
    equal(weights, oracle["weights"])
    equal((weights * target_ce).mean(1), oracle["loss_target"])
    equal(loss[:, 0], gce(oracle["biased_ce"], q).mean(1) + oracle["loss_target"])
    oracle.ends()
    assert 1e-9 < apart(weights, oracle["raw/weights"]) < 1e-6


@pytest.mark.parametrize("name", ["jtt", "jtt_bn"])
def test_jtt(name: str) -> None:
    """Known to differ: the error set is that of a clean pass; the authors keep the last epoch's own predictions."""
    oracle = Oracle(name)
    method = oracle.method
    identify, train = method.phases()
    batches = oracle["identification_batches"].flatten(0, 1)
    logits: list[Tensor] = []
    hook = method.biased.register_forward_hook(lambda network, given, out: logits.append(out.detach()))
    (loss,) = oracle.train(identify, batches[:, None])
    hook.remove()
    equal(loss[:, 0], oracle["identification_loss"])
    equal(method.errors, oracle["errors_clean_pass"])
    equal(method.sample_weights, oracle["multiplicity"])

    in_training = torch.zeros_like(method.errors)
    for indices, predicted in zip(batches, logits[: len(batches)], strict=True):
        in_training[indices] = predicted.argmax(1) != oracle.targets[indices]
    equal(in_training, oracle["raw/errors_in_training"])
    assert not torch.equal(in_training, method.errors)

    (loss,) = oracle.train(train, oracle["batches"][:, None])
    equal(loss[:, 0], oracle["loss"])
    oracle.ends()


@pytest.mark.parametrize("name", ["debian", "debian_bn"])
def test_debian(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known to differ. −log(1e-6 + |gap|) makes rounding up to a million times larger."""
    oracle = Oracle(name)
    (phase,) = oracle.method.phases()
    weightings = listen(monkeypatch, methods.debian, "classifier_weights")
    discoveries = listen(monkeypatch, methods.debian, "discovery_loss")
    (loss,) = oracle.train(phase, oracle["batches"])
    violation = torch.stack([discovery_loss(*arguments[:3], balance=0).detach() for arguments, _ in discoveries])
    equal(torch.stack([given for _, given in weightings]), oracle["weights"], within=1e-9)
    equal(loss[:, 0], oracle["loss"], within=1e-9)
    equal(loss[:, 1], oracle["discovery_loss"], within=1e-9)
    equal(violation, oracle["discovery_violation"], within=1e-9)
    equal(loss[:, 1] - violation, oracle["discovery_assignment"], within=1e-9)
    oracle.ends(within=1e-9)


def replay_echoes(oracle: Oracle, phase: Phase, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to differ: where 1e-8 is added to the target's weights, after a product over classes or before.

    All of a round's weights then differ by one factor, less than 1e-8 from 1, and so does their part of the loss.
    """
    method, indices, updates = oracle.method, oracle["batches"].flatten(0, 1), oracle["batches"].shape[1]
    entropies = listen(monkeypatch, losses, "cross_entropy")
    first = method.biased_weights[None].clone(), method.target_weights[None].clone()
    loss, biased_weights, target_weights, correct = oracle.train(
        phase,
        indices[:, None],
        lambda: method.biased_weights,
        lambda: method.target_weights,
        lambda: oracle.predict(method.biased).argmax(1) == oracle.targets,
        epoch=updates,
    )
    rounds = slice(updates - 1, None, updates)
    expected = oracle[f"{prefix}target_weights"]
    equal(correct[rounds], oracle[f"{prefix}biased_correct"])
    equal(biased_weights[rounds], oracle[f"{prefix}biased_weights"])
    equal(target_weights[rounds], expected, relative=1e-8)
    maxima = target_weights[rounds].amax(1, keepdim=True), expected.amax(1, keepdim=True)
    equal(target_weights[rounds] / maxima[0], expected / maxima[1])

    biased_ce, target_ce = (torch.stack([given for _, given in entropies[role::2]]) for role in (0, 1))
    biased_weights = torch.cat((first[0], biased_weights[:-1])).gather(1, indices)
    target_weights = torch.cat((first[1], target_weights[:-1])).gather(1, indices)
    equal((biased_weights * biased_ce).mean(1), oracle[f"{prefix}loss_biased"], within=1e-9)
    equal((target_weights * target_ce).mean(1), oracle[f"{prefix}loss_target"], within=1e-9, relative=1e-8)
    equal(loss[:, 0], oracle[f"{prefix}loss"], within=1e-9, relative=1e-8)
    oracle.ends(f"{prefix}final", within=1e-9)


@pytest.mark.parametrize("name", ["echoes", "echoes_bn"])
def test_echoes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(name)
    (phase,) = oracle.method.phases()
    replay_echoes(oracle, phase, "", monkeypatch)


def test_echoes_with_the_biased_network_left_in_evaluation_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to differ: the authors do so from the second round on, the suite does not. Nothing else differs."""
    oracle = Oracle("echoes_bn")
    (phase,) = oracle.method.phases()
    biased = oracle.method.biased

    def leave_in_evaluation(predict: Callable[[nn.Module], Tensor]) -> None:
        oracle.method.reweight(predict)
        biased.eval()
        monkeypatch.setattr(biased, "train", lambda mode=True: biased)

    replay_echoes(oracle, replace(phase, end_epoch=leave_in_evaluation), "raw/", monkeypatch)
    assert apart(oracle["biased_weights"], oracle["raw/biased_weights"]) > 0.1


def test_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to differ: 1e-8 in the denominator of the target's weights, which the authors have for the biased only."""
    oracle = Oracle("be")
    method, q = oracle.method, oracle["hyper/q"]
    *auxiliary, main = method.phases()
    entropies = listen(monkeypatch, losses, "cross_entropy")
    for phase, batches, expected in zip(auxiliary, oracle["auxiliary_batches"], oracle["auxiliary_ce"], strict=True):
        entropies.clear()
        (loss,) = oracle.train(phase, batches[:, None])
        assert phase.updates == len(batches)
        equal(torch.stack([given for _, given in entropies[: len(batches)]]), expected)
        equal(loss[:, 0], gce(expected, q).mean(1))
    everyone = torch.arange(len(oracle.targets))
    sure = torch.stack([oracle.predict(each).softmax(1)[everyone, oracle.targets] for each in method.auxiliaries])
    equal(sure, oracle["label_probability"])
    equal(method.vote_count, oracle["votes"])
    equal(method.amplified, oracle["amplified"])

    calls = listen(monkeypatch, method, "relative_difficulty")
    loss, ema_biased, ema_target = oracle.train(
        main, oracle["batches"][:, None], of_samples(method.biased_average), of_samples(method.target_average)
    )
    weights = torch.stack([given for _, given in calls])
    biased_ce, target_ce = (torch.stack([arguments[place] for arguments, _ in calls]) for place in (1, 2))
    member = method.amplified[oracle["batches"]]
    equal(ema_biased, oracle["ema_biased"])
    equal(ema_target, oracle["ema_target"])
    equal(weights, oracle["weights"])
    equal((biased_ce * member).sum(1) / member.sum(1), oracle["loss_biased"])
    equal((weights * target_ce).mean(1), oracle["loss_target"])
    equal(loss[:, 0], oracle["loss"])
    oracle.ends()
    assert 1e-10 < apart(weights, oracle["raw/weights"]) < 1e-7

    for (confidence, votes), amplified in zip(oracle["settings"].tolist(), oracle["settings_amplified"], strict=True):
        other = Oracle("be", confidence=confidence, votes=int(votes))
        other.method.auxiliaries.load_state_dict(method.auxiliaries.state_dict())
        for phase in other.method.phases()[:-1]:
            phase.end(other.predict)
        # Known to differ: a class that the authors leave without a sample gets some from the suite.
        empty = torch.stack([~amplified[oracle.targets == label].any() for label in range(method.num_classes)])
        filled = empty[oracle.targets]
        equal(other.method.amplified & ~filled, amplified)
        assert (other.method.amplified & filled).any() == empty.any()


@pytest.mark.parametrize(("number", "adjustment"), [(0, 0.0), (1, 2.0)])
def test_groupdro(number: int, adjustment: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to differ: the authors' loss contains q·C/√n_g, which has no gradient."""
    oracle = Oracle("groupdro", adjustment=adjustment)
    method = oracle.method
    assert oracle["adjustments"][number] == adjustment
    (phase,) = method.phases()
    calls = listen(monkeypatch, method, "reweight")
    loss, weights = oracle.train(phase, oracle["batches"][:, None], lambda: method.group_weights)
    group_loss = torch.stack([group_loss for (group_loss,), _ in calls])
    equal(group_loss, oracle["group_loss"][number])
    equal(group_loss + method.margin, oracle["adjusted_group_loss"][number])
    equal(weights, oracle["q"][number])
    equal(loss[:, 0], oracle["loss_without_margin"][number])
    equal(loss[:, 0] + weights @ method.margin, oracle["loss"][number])
    oracle.ends(f"{number}/final")


@pytest.mark.parametrize("name", ["dpr", "dpr_bn"])
def test_dpr(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known to differ."""
    oracle = Oracle(name)
    method = oracle.method
    bias, train = method.phases()
    entropies = listen(monkeypatch, losses, "cross_entropy")
    batches = oracle["biased_batches"]
    (loss,) = oracle.train(bias, batches[:, None])
    equal(torch.stack([given for _, given in entropies[: len(batches)]]), oracle["biased_ce"])
    equal(loss[:, 0], gce(oracle["biased_ce"], oracle["hyper/q"]).mean(1))
    equal(method.sample_weights, oracle["disagreement"])
    equal(method.sample_weights / method.sample_weights.sum(), oracle["sampling_probability"])
    assert train.sampler == "weighted"
    (loss,) = oracle.train(train, oracle["batches"][:, None])
    equal(loss[:, 0], oracle["loss"])
    oracle.ends()


@pytest.mark.parametrize("name", ["xrm", "xrm_bn"])
def test_xrm(name: str) -> None:
    """Nothing is known to differ, where each class has samples of both environments."""
    oracle = Oracle(name, target_sampler="shuffled")
    method = oracle.method
    discover, train = method.phases()
    method.first_half.copy_(oracle["first_half"])
    draws = oracle["twin_draws"][:, None, :, None]
    loss, labels = oracle.train(discover, oracle["twin_batches"][:, None], lambda: method.labels, draws=draws)
    equal(loss[:, 0], oracle["twin_loss"])
    equal(labels, oracle["labels"])
    equal(method.environments, oracle["environments"])
    loss, weights = oracle.train(train, oracle["batches"][:, None], lambda: method.group_weights)
    equal(weights, oracle["q"])
    equal(loss[:, 0], oracle["loss"])
    oracle.ends()


@pytest.mark.parametrize("name", ["lisa", "lisa_bn"])
def test_lisa(name: str) -> None:
    """Nothing is known to differ, where pairs are given: the authors mix a sample of a group with one of another."""
    oracle = Oracle(name)
    method = oracle.method
    (phase,) = method.phases()
    batches, draws = oracle["batches"], oracle["draws"]
    for rows, of_rows, shares in zip(batches, draws, oracle["shares"], strict=True):
        share, partner = method.pairs(oracle.batch(rows[0], of_rows), oracle.batch(rows[1], None))
        equal(share, shares)
        equal(partner, torch.arange(len(partner)))
    (loss,) = oracle.train(phase, batches, draws=torch.stack((draws, draws), 1))
    equal(loss[:, 0], oracle["loss"])
    assert 0 < oracle["within_class"].sum() < len(batches)
    oracle.ends()
