"""A method's networks as they were after the epoch that a rule chooses, while training goes on and changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal, TypedDict

import numpy as np
from torch import Tensor

from benchmark.rules import Rule, lacking
from benchmark.training.checkpoint import check_tensors
from benchmark.training.progress import EpochEntry, Sizes
from methods.base import Method, Network


class Snapshot(TypedDict):
    """The state of the networks after an epoch, on the CPU, under names such as "target.classifier.bias"."""

    epoch: int
    tensors: dict[str, Tensor]


class Snapshots:
    """One snapshot for each rule that can choose among epochs: that of the best epoch so far, of equal ones the first.

    Only epochs of the last phase that trains the target are chosen from, as in records. Which phase that is need not be
    known: the first epoch of a later one takes the place of whatever was there.
    """

    def __init__(self, rules: Sequence[Rule], sizes: Sizes) -> None:
        self.sizes = sizes
        self.rules = [rule for rule in rules if not lacking(rule, sizes.validation, sizes.test)]
        self.taken: dict[str, Snapshot] = {}

    def look(self, history: Sequence[EpochEntry], method: Method) -> None:
        """To be called after each epoch while the networks are those that it measured, before any hook."""
        entry = history[-1]
        if "test" not in entry:
            return
        phase = list(takewhile(lambda each: each["phase"] == entry["phase"], reversed(history)))[::-1]
        phase = [each for each in phase if "test" in each]
        best = [rule.name for rule in self.rules if rule.choose(*self._looked_at(rule, phase)) == len(phase) - 1]
        if best:
            self.taken |= dict.fromkeys(best, Snapshot(epoch=entry["epoch"], tensors=state(method)))

    def _looked_at(self, rule: Rule, phase: Sequence[EpochEntry]) -> tuple[np.ndarray, np.ndarray]:
        """As ``Record._looked_at``: right answers [E, C, B] and numbers [C, B]."""
        total = rule.sizes(self.sizes.validation, self.sizes.test, self.sizes.scored)
        part: Literal["test", "validation"] = "test" if rule.on_test else "validation"
        answers = [entry[part] for entry in phase]
        return np.reshape(answers, (len(phase), *total.shape)), total

    def resume(self, stored: Mapping[str, Snapshot]) -> None:
        """Go on from those of a checkpoint. Where it lacks one, for nobody asked then, a better epoch may come yet."""
        self.taken = {rule.name: stored[rule.name] for rule in self.rules if rule.name in stored}


def networks(method: Method) -> dict[str, Network]:
    """The target and, where that is another one, the biased network, by role."""
    if method.biased is None or method.biased is method.target:
        return {"target": method.target}
    return {"target": method.target, "biased": method.biased}


def state(method: Method) -> dict[str, Tensor]:
    """A copy of the state of the networks, on the CPU."""
    return {
        f"{role}.{name}": tensor.detach().to("cpu", copy=True)
        for role, network in networks(method).items()
        for name, tensor in network.state_dict().items()
    }


def check(found: Any, method: Method) -> None:
    """Raises ValueError for what cannot be the snapshots of a checkpoint of that method."""
    like = state(method)
    if not isinstance(found, Mapping):
        raise ValueError("its snapshots are none")
    for each in found.values():
        if not isinstance(each, Mapping) or each.keys() != Snapshot.__annotations__.keys():
            raise ValueError("its snapshots are none")
        if type(each["epoch"]) is not int or each["epoch"] < 1:
            raise ValueError("a snapshot is of no epoch")
        check_tensors(each["tensors"], like)
