"""Which epoch of a run is reported: named rules, each a reading of what one record holds of every epoch.

A rule scores every epoch by the right answers on validation images. The epoch of the best score is the one whose test
numbers are reported; of equal scores, which a worst group at 0 gives to many, the one with the best average, and then
the first. docs/selection.md says what the official codes do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmark.metrics import group_accuracy

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(correct [E, C, B], total [C, B]) -> score [E] of every epoch, from 0 to 1."""
Needs = Literal["nothing", "targets", "bias", "test"]
"""The labels of the validation images that a rule looks at: none, targets, or bias labels too; or those of the test."""


@dataclass(frozen=True)
class Rule:
    """A rule that chooses an epoch. ``title`` says which. ``scores`` decide, in that order; the last epoch has none."""

    name: str
    title: str
    needs: Needs
    scores: tuple[Score, ...] = ()

    @property
    def note(self) -> str:
        """The title, and what a reader must know of the labels that the rule looked at."""
        return (
            self.title
            + {
                "nothing": "",
                "targets": "",
                "bias": ", which uses bias labels of validation images, for all methods alike",
                "test": ", AN ORACLE: chosen on the very images whose numbers it reports",
            }[self.needs]
        )

    @property
    def on_test(self) -> bool:
        """Whether it is applied to the answers on test images, not on validation images."""
        return self.needs in ("nothing", "test")

    def sizes(self, validation: np.ndarray | None, test: np.ndarray, scored: np.ndarray | None = None) -> np.ndarray:
        """Numbers of the images that it looks at, [C, B] or [C, 1], 0 for groups that do not count.

        In testing these are the groups that average accuracy leaves out, all but ``scored``, bool [C, B]. In validation
        all count, also what is not tested or not scored, so that no model is chosen which has turned the bias round.
        To be asked where the rule is not ``lacking`` anything.
        """
        if self.on_test:
            return test if scored is None else np.where(scored, test, 0)
        assert validation is not None
        return validation

    def choose(self, correct: np.ndarray, total: np.ndarray) -> int:
        """The place, from 0, of the chosen epoch among those of ``correct`` [E, C, B]: the first of the best."""
        if not self.scores:
            return len(correct) - 1
        keys = [score(correct, total) for score in self.scores]
        return int(np.lexsort((-np.arange(len(correct)), *reversed(keys)))[-1])

    def score(self, correct: np.ndarray, total: np.ndarray) -> tuple[float, ...]:
        """What the chosen epoch scores, in percent: what decides comes first."""
        place = self.choose(correct, total)
        return tuple(float(100 * score(correct, total)[place]) for score in self.scores)


def lacking(rule: Rule, validation: np.ndarray | None, test: np.ndarray) -> str:
    """Why a rule cannot look at validation images of these sizes, [C, B], [C, 1] or None for none, or nothing.

    ``test`` are the sizes of the test's groups, [C, B]: a group that is tested must be there to be looked at, or its
    class where a rule looks at targets only.
    """
    if rule.needs not in ("targets", "bias"):
        return ""
    if validation is None:
        return "there are no validation images, or they were not counted"
    if rule.needs == "targets":
        missing = int(((validation.sum(1) == 0) & (test.sum(1) > 0)).sum())
        have = "has" if missing == 1 else "have"
        return f"{missing} of the tested classes {have} no validation image" if missing else ""
    if validation.shape != test.shape:
        return "some validation images have no bias label"
    missing = int(((validation == 0) & (test > 0)).sum())
    have = "has" if missing == 1 else "have"
    return f"{missing} of the tested groups {have} no validation image" if missing else ""


def _plain(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    return correct.sum((1, 2)) / total.sum()


def _worst_class(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    present = total.sum(1) > 0
    return (correct.sum(2)[:, present] / total.sum(1)[present]).min(1)


def _average(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.nanmean(_by_group(correct, total), (1, 2)) / 100


def _worst_group(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.nanmin(_by_group(correct, total), (1, 2)) / 100


def _by_group(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    return group_accuracy(correct, np.broadcast_to(total, correct.shape))


LAST = Rule("last", "last epoch", "nothing")
RULES = {
    rule.name: rule
    for rule in (
        LAST,
        Rule("validation", "epoch of the best plain validation accuracy", "targets", (_plain,)),
        Rule(
            "validation_class",
            "epoch of the best validation accuracy of the worst class",
            "targets",
            (_worst_class, _plain),
        ),
        Rule("validation_average", "epoch of the best average group accuracy in validation", "bias", (_average,)),
        Rule(
            "validation_worst", "epoch of the best worst-group accuracy in validation", "bias", (_worst_group, _average)
        ),
        Rule("test_average", "epoch of the best average group accuracy in testing", "test", (_average,)),
    )
}
REPORTED = RULES["validation_average"]
"""The rule of whatever does not ask for another. docs/selection.md says why it is this one."""
