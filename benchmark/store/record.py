"""What is stored of one finished run, as a type: counts of every group, curves, and where the numbers come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from benchmark import metrics
from benchmark.plan import code
from benchmark.plan.run import Run, Settings
from benchmark.plan.uses import MARKS
from benchmark.rules import LAST, REPORTED, RULES, Rule, lacking

SCHEMA: Literal[3] = 3  # raised with every field that is added, so that older versions leave such records alone
DIGITS = 6  # significant ones, of the curves
Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
"""A whole number that a float holds exactly, which no sum or quotient of a table overflows."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A SHA-256."""
Counts = list[list[Count]]
"""Numbers of images of each group, [C, B]."""
Number = float | None
Curve = np.ndarray
"""A number an epoch, float64 [epochs], NaN where it was not measured; a list with nulls in the file."""
Network = Literal["target", "biased"]
NETWORKS: tuple[Network, ...] = ("target", "biased")
MEASURED = ("groups", "answers", "train", "phases", "summary")
"""The parts of a record that are its numbers; the others say which run it is, and where they come from."""
ByEpoch = np.ndarray
"""Right answers of each group, row by row as one, after every epoch that was tested: int64 [E, C · B]."""
Entry = dict[str, Any]
"""The metrics of one epoch of one network, by their names, and its number, "epoch"."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of a record's parts: what it does not know is an error, what is not there is not written."""


class Groups(Part, frozen=True):
    """Names and sizes of the groups, and g(y), which the labels of the split ``told_by`` tell, "" for none, so that it
    means nothing; ``scored`` are the test groups of average and worst accuracy.

    ``validation`` has one column where the bias of some validation image is unknown: its groups are the classes.
    """

    classes: list[str]
    biases: list[str]
    aligned_bias: list[Count]
    train: Counts
    test: Counts
    validation: Counts | None = None
    scored: list[list[bool]] | None = None
    told_by: Literal["train", "validation", "test", ""] = "train"


class Answers(Part, frozen=True):
    """Right answers of the target after ``epochs`` of the last phase that trains it, from which one is chosen."""

    epochs: list[Count]
    test: ByEpoch
    validation: ByEpoch | None = None


class Curves(Part, frozen=True):
    """A network's metrics by the epochs of a phase, gaps where it was not measured; of the test, the target's only."""

    bias_acc: Curve
    aligned_error: Curve
    aligned_loss: Curve
    conflicting_error: Curve
    conflicting_loss: Curve
    model_bias: Curve | None = None
    avg_acc: Curve | None = None
    worst_acc: Curve | None = None
    max_min_bias: Curve | None = None
    validation_acc: Curve | None = None

    @property
    def measured(self) -> dict[str, Curve]:
        """The curves that there are, by the names of their metrics."""
        return {name: each for name in self.__struct_fields__ if (each := getattr(self, name)) is not None}


class PhaseCurves(Part, frozen=True):
    """A phase: its mean loss of each epoch, and the curves of the networks that it trains."""

    name: str
    loss: Curve
    target: Curves | None = None
    biased: Curves | None = None


class Commit(Part, frozen=True):
    """A checkout's commit, and whether its code differed from it; both None outside of a git checkout."""

    commit: str | None
    modified: bool | None


class Provenance(Part, frozen=True):
    """Where a record comes from; ``commit`` and ``modified`` as in ``Commit``.

    ``data`` is a fingerprint of every image and label trained on and tested on, ``validation_data`` one of those that
    epochs are chosen on, ``data_notes`` what a reader must know of them. The versions are those of
    ``benchmark.plan.code``; ``network_package`` is the one that a network comes from, with its version, and ``weights``
    the SHA-256 of the pretrained weights that its features started from. ``precision`` is the one that networks
    computed in, empty in records that are older than the choice. Seconds are a seed's share where several
    trained as one. Device memory is in bytes, and of GPUs only. ``predictions`` is the SHA-256 of the file of
    predictions that belongs to the record.
    """

    commit: str | None
    modified: bool | None
    finished: str
    python: str
    torch: str
    benchmark: str
    device: str
    threads: Count
    seconds: float
    images_per_second: Whole
    data: str
    validation_data: str = ""
    precision: str = ""
    data_notes: list[str] = []
    method_version: str = ""
    loop_version: Count = 0
    network_version: str = ""
    network_package: str = ""
    weights: Digest | None = None
    seeds_at_once: Count = 1
    peak_device_memory: Whole | None = None
    submitted: Commit | None = None
    predictions: Digest | None = None

    @property
    def short_commit(self) -> str:
        """Ten digits, with a "+" where the tree was modified."""
        return "unknown" if self.commit is None else self.commit[:10] + ("+" if self.modified else "")


class Record(Part, frozen=True, dict=True):
    """One finished run. ``train`` holds, by network, the right answers of each training group at its end."""

    schema: Literal[3]
    task: str
    method: str
    seed: Whole
    preset: str
    settings: Settings
    groups: Groups
    answers: Answers
    train: dict[Network, Counts]
    phases: list[PhaseCurves]
    summary: dict[str, Whole | float | list[Whole]]
    warnings: list[str]
    provenance: Provenance
    uses_bias_labels: bool = False
    uses_validation: bool = False
    uses_validation_bias: bool = False

    @property
    def uses(self) -> frozenset[str]:
        """What the method declared to use beside training images and their targets, see ``plan.uses``."""
        return frozenset(each for each in MARKS if getattr(self, each))

    @cached_property
    def run(self) -> Run:
        return Run(self.settings, self.seed)

    @property
    def stale(self) -> str:
        """Why a new run of these settings would not be measured by the same code, or nothing."""
        source = self.provenance
        if source.loop_version != code.LOOP:
            return f"version {source.loop_version} of the common loop, which is now {code.LOOP}"
        now = code.of_method(self.method)
        if now and source.method_version != now:
            return f"version {source.method_version or 'unknown'} of the method {self.method}, which is now {now}"
        network = self.settings.get("network", "")
        now = code.of_network(network)
        if now and source.network_version != now:
            return f"version {source.network_version or 'unknown'} of the network {network}, which is now {now}"
        return ""

    @property
    def epochs(self) -> int:
        return sum(len(phase.loss) for phase in self.phases)

    @property
    def has_biased(self) -> bool:
        """Whether there is a biased network apart from the target."""
        return "biased" in self.train

    def curve(self, network: Network) -> list[Entry]:
        """An entry an epoch of a network, numbered within its phase. The biased one of plain training is the target."""
        role = network if network == "target" or self.has_biased else "target"
        return [entry for phase in self.phases for entry in _entries(getattr(phase, role))]

    def why_not(self, rule: Rule) -> str:
        """Why the rule cannot choose an epoch of this run, or nothing."""
        if rule.needs == "test" and len(self.answers.epochs) == 1 < self.answers.epochs[0]:
            return "it was tested at its end only"
        return lacking(rule, self._validation_sizes, np.asarray(self.groups.test))

    @cached_property
    def _chosen(self) -> dict[Rule, int | None]:
        """The place in ``answers`` of the epoch that each rule chooses; None where it cannot."""
        return {rule: None if self.why_not(rule) else rule.choose(*self._looked_at(rule)) for rule in RULES.values()}

    def _looked_at(self, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
        """Right answers [E, C, B] and numbers [C, B] of the images that a rule looks at, where it can choose."""
        answers = self.answers.test if rule.on_test else self.answers.validation
        assert answers is not None  # else there is a reason why not
        total = rule.sizes(self._validation_sizes, np.asarray(self.groups.test), self._scored)
        return answers.reshape(len(answers), *total.shape), total

    @property
    def _validation_sizes(self) -> np.ndarray | None:
        return None if self.groups.validation is None else np.asarray(self.groups.validation)

    @property
    def _aligned(self) -> np.ndarray | None:
        """g(y), [C], where labels tell it."""
        return np.asarray(self.groups.aligned_bias) if self.groups.told_by else None

    @property
    def _scored(self) -> np.ndarray | None:
        return None if self.groups.scored is None else np.asarray(self.groups.scored)

    def correct(self, rule: Rule = LAST) -> np.ndarray | None:
        """Right answers of each test group, [C, B], in the epoch that a rule chooses; None where it cannot."""
        place = self._chosen[rule]
        return None if place is None else self.answers.test[place].reshape(np.shape(self.groups.test))

    def epoch(self, rule: Rule = LAST) -> int | None:
        """The epoch that a rule chooses, of the last phase that trains the target; None where it cannot."""
        place = self._chosen[rule]
        return None if place is None else self.answers.epochs[place]

    def score(self, rule: Rule) -> tuple[float, ...]:
        """The rule's scores of the epoch that it chooses, in percent, what decides first; nothing where it cannot."""
        return () if self.why_not(rule) else rule.score(*self._looked_at(rule))

    def collapsed(self, rule: Rule = LAST) -> bool:
        """Whether the network in the chosen epoch is of no use, see ``metrics.collapsed``."""
        return self._collapsed[rule]

    @cached_property
    def _collapsed(self) -> dict[Rule, bool]:
        total, by_rule = np.asarray(self.groups.test), {rule: self.correct(rule) for rule in RULES.values()}
        return {
            rule: correct is not None and metrics.collapsed(correct, total, self._aligned)
            for rule, correct in by_rule.items()
        }

    @cached_property
    def _fairness(self) -> dict[Rule, dict[str, Number]]:
        total = np.asarray(self.groups.test)
        by_rule = {rule: self.correct(rule) for rule in RULES.values()}
        return {
            rule: {} if correct is None else metrics.fairness(correct, total, self._scored, self._aligned)
            for rule, correct in by_rule.items()
        }

    def fairness(self, rule: Rule = LAST) -> dict[str, Number]:
        """The metrics of Tables 1 and 2 in the epoch that a rule chooses; empty where it cannot."""
        return self._fairness[rule]

    def bias_is_capped(self, rule: Rule = LAST) -> bool:
        """Whether its model bias says no more than its average, see ``metrics.bias_is_capped``."""
        correct = self.correct(rule)
        return correct is not None and metrics.bias_is_capped(
            metrics.group_accuracy(correct, np.asarray(self.groups.test))
        )

    def fairness_in_validation(self, rule: Rule = LAST) -> dict[str, Number]:
        """The same metrics on the validation images; empty where these lack groups of the test."""
        place, answers = self._chosen[rule], self.answers.validation
        if place is None or answers is None or self.why_not(REPORTED):
            return {}
        total = np.asarray(self.groups.validation)
        return metrics.fairness(answers[place].reshape(total.shape), total, self._scored, self._aligned)

    def bias_accuracy(self, epoch: int | None = None) -> Number:
        """Bias Accuracy of the biased network on the training set, after ``epoch`` epochs or at its end (Table 3)."""
        chosen = [entry for entry in self.curve("biased") if epoch in (None, entry["epoch"])]
        return chosen[-1]["bias_acc"] if chosen else None

    def identification(self) -> dict[str, Number]:
        """Recall and precision, in percent, of calling conflicting what the biased network gets wrong in training.

        None where no training image is known to be conflicting; precision also where it gets nothing wrong.
        """
        right = self.train["biased" if self.has_biased else "target"]
        total = np.asarray(self.groups.train)
        wrong = total - np.asarray(right)
        conflicting = ~metrics.aligned_mask(wrong.shape, np.asarray(self.groups.aligned_bias))
        found = wrong[conflicting].sum()
        if not total[conflicting].sum():
            return {"recall": None, "precision": None}
        return {
            "recall": float(100 * found / total[conflicting].sum()),
            "precision": float(100 * found / wrong.sum()) if wrong.sum() else None,
        }


def _entries(curves: Curves | None) -> Iterator[Entry]:
    if curves is None:
        return
    measured = {name: numbers(each) for name, each in curves.measured.items()}
    for place, values in enumerate(zip(*measured.values(), strict=True), 1):
        if any(value is not None for value in values):
            yield {"epoch": place, **dict(zip(measured, values, strict=True))}


def epochs_of(curve: Sequence[Entry]) -> list[int]:
    """The epochs after which a network was measured, counted on through all of its phases, whose last always is."""
    found, before, last = [], 0, 0
    for entry in curve:
        if entry["epoch"] <= last:
            before += last
        last = entry["epoch"]
        found.append(before + last)
    return found


def numbers(curve: Curve) -> list[Number]:
    """The curve as plain numbers, None where it was not measured."""
    return [None if math.isnan(value) else value for value in curve.tolist()]


def curve_of(values: Iterable[Number]) -> Curve:
    """The numbers as a curve, rounded to the digits that curves are stored with."""
    return np.array([math.nan if each is None else float(f"{each:.{DIGITS}g}") for each in values])
