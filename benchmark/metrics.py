"""Every metric of the benchmark: what it is called, which way is better, and how it follows from per-group counts.

``correct`` and ``total`` are counts of shape [C, B] over groups (class, bias). Groups without samples are left
out. All metrics but losses are in percent, as in the paper's tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Metric:
    """How a metric is shown: ``title`` in a sentence, ``head`` over a column, ``axis`` on an axis or in a legend.

    ``colour`` is for panels that contrast metrics rather than methods.
    """

    title: str
    axis: str
    colour: str
    better: Literal["lower", "higher"] | None = None
    head: str = ""
    unit: Literal["%", "nats"] = "%"

    @property
    def arrow(self) -> str:
        """ "↓" or "↑", the better way; nothing where neither is better."""
        return {"lower": "↓", "higher": "↑", None: ""}[self.better]

    @property
    def heading(self) -> str:
        """The column's head with its arrow."""
        return f"{self.head} {self.arrow}"

    @property
    def label(self) -> str:
        """``axis`` with its unit."""
        return f"{self.axis} ({self.unit})"

    @property
    def panel(self) -> str:
        """The label as the title of a panel, with its arrow."""
        return f"{self.label[0].upper()}{self.label[1:]} {self.arrow}".rstrip()


BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
SKY, PURPLE = "#56B4E9", "#CC79A7"
METRICS = {
    "model_bias": Metric("model bias", "model bias", ORANGE, "lower", "Bias"),
    "avg_acc": Metric("average accuracy", "average group accuracy", BLUE, "higher", "Avg."),
    "worst_acc": Metric("worst-group accuracy", "worst group accuracy", GREEN, "higher", "Worst"),
    "bias_acc": Metric("Bias Accuracy", "Bias Accuracy", BLACK, "higher", "Bias Acc."),
    "aligned_error": Metric("error on aligned samples", "error on aligned", BLUE),
    "conflicting_error": Metric("error on conflicting samples", "error on conflicting", ORANGE),
    "aligned_loss": Metric("loss of aligned samples", "loss of aligned", BLUE, unit="nats"),
    "conflicting_loss": Metric("loss of conflicting samples", "loss of conflicting", ORANGE, unit="nats"),
    "recall": Metric("recall of conflicting samples", "recall of conflicting", SKY, "higher"),
    "precision": Metric("precision of conflicting samples", "precision of conflicting", PURPLE, "higher"),
}
FAIRNESS = ("model_bias", "avg_acc", "worst_acc")  # the columns of Tables 1 and 2


def group_accuracy(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Accuracy of every group in percent, [C, B]; nan for a group without samples."""
    correct, total = np.asarray(correct, float), np.asarray(total, float)
    return np.divide(100 * correct, total, out=np.full(total.shape, np.nan), where=total > 0)


def average_accuracy(accuracy: np.ndarray) -> float:
    """Unweighted mean over groups."""
    return float(np.nanmean(accuracy))


def worst_accuracy(accuracy: np.ndarray) -> float:
    """Minimum over groups."""
    return float(np.nanmin(accuracy))


def model_bias(accuracy: np.ndarray) -> float | None:
    """Equalised odds (Eq. 12) for two bias values that are tested, otherwise the mean gap of each class's worst group.

    Two values: mean over classes of |a_{y,0} − a_{y,1}|. More: mean over classes of (mean_b a − min_b a).
    None where some class has fewer than two groups.
    """
    if (np.isfinite(accuracy).sum(1) < 2).any():
        return None
    if _two_values(accuracy):
        return max_min_bias(accuracy)
    return float((np.nanmean(accuracy, 1) - np.nanmin(accuracy, 1)).mean())


def _two_values(accuracy: np.ndarray) -> bool:
    """Whether two bias values are tested, however many others only training or validation images have."""
    return int(np.isfinite(accuracy).any(0).sum()) == 2


def bias_is_capped(accuracy: np.ndarray) -> bool:
    """Whether a bias of more than two values is the average itself, since the worst group of every class is at 0.

    It could not be more, however biased the model is.
    """
    tested = accuracy[np.isfinite(accuracy).any(1)]
    return not _two_values(accuracy) and not np.nanmin(tested, 1).any()


def max_min_bias(accuracy: np.ndarray) -> float | None:
    """Mean over classes of (max_b a − min_b a): the reading that the paper's ImageNet-B column allows."""
    if (np.isfinite(accuracy).sum(1) < 2).any():
        return None
    return float((np.nanmax(accuracy, 1) - np.nanmin(accuracy, 1)).mean())


def fairness(
    correct: np.ndarray,
    total: np.ndarray,
    scored: np.ndarray | None = None,
    aligned_bias: np.ndarray | None = None,
) -> dict[str, float | None]:
    """The metrics of Tables 1 and 2, and ``max_min_bias``.

    ``scored``, bool [C, B], names the groups that average and worst accuracy are taken over, all by default. There is
    no bias where ``aligned_bias`` tells which groups are aligned, and those of some class are not tested: conflicting
    ones may be alike for being all wrong.
    """
    accuracy = group_accuracy(correct, total)
    has_bias = aligned_bias is None or np.isfinite(accuracy[aligned_mask(accuracy.shape, aligned_bias)]).all()
    counted = accuracy if scored is None else np.where(scored, accuracy, np.nan)
    return {
        "model_bias": model_bias(accuracy) if has_bias else None,
        "avg_acc": average_accuracy(counted),
        "worst_acc": worst_accuracy(counted),
        "max_min_bias": max_min_bias(accuracy) if has_bias else None,
    }


INVERTED = 20.0  # points of inversion from which a model has turned the bias round


def collapsed(correct: np.ndarray, total: np.ndarray, aligned_bias: np.ndarray | None) -> bool:
    """Whether a model tells classes apart no better than a guess, gives one answer to everything, or has turned the
    bias round, so that its numbers do not mean what they mean of others.

    A guess is right in 100/C % of every group; up to two standard errors of the classes' mean above that count as one,
    unless the model knows the bias and nothing else, the worst that a method can do and no accident: aligned groups are
    then answered more than ``INVERTED`` points better than conflicting ones of their class. Where that cannot be seen,
    since one kind is not tested or nothing tells which is which (``aligned_bias`` None), groups of a class that lie as
    far apart say it, or a mean as far below a guess as a guess may lie above. One answer is less than 1 % in all
    classes but one. For the bias see ``inversion``: above ``INVERTED`` it is turned round, which a test set of
    conflicting images alone would praise.
    """
    accuracy = group_accuracy(correct, total)
    tested = np.isfinite(accuracy).any(1)
    accuracy, counts = accuracy[tested], np.asarray(total, float)[tested]
    by_class = np.nanmean(accuracy, 1)
    chance = 1 / len(tested)
    shares = 1 / (len(accuracy) * np.isfinite(accuracy).sum(1, keepdims=True))  # of each group in the classes' mean
    variance = np.divide(shares**2, counts, out=np.zeros(counts.shape), where=counts > 0).sum()
    margin = 2 * 100 * np.sqrt(chance * (1 - chance) * variance)
    above = by_class.mean() - 100 * chance
    turned = None if aligned_bias is None else inversion(correct, total, aligned_bias)
    if turned is None:
        apart = (np.nanmax(accuracy, 1) - np.nanmin(accuracy, 1)).mean()
        knows_the_bias = apart > INVERTED or above < -margin
    else:
        knows_the_bias = -turned > INVERTED
    guesses = above <= margin and not knows_the_bias
    one_answer = (by_class >= 1).sum() <= 1 < len(accuracy) and above >= -margin
    return bool(guesses or one_answer or (turned or 0) > INVERTED)


def inversion(correct: np.ndarray, total: np.ndarray, aligned_bias: np.ndarray) -> float | None:
    """Points by which conflicting groups are answered better than aligned ones, on average over classes with both.

    Far above 0, a model has turned the bias round: it answers by it, the other way. None without such a class.
    """
    accuracy = group_accuracy(correct, total)
    aligned = aligned_mask(accuracy.shape, aligned_bias)
    both = np.isfinite(accuracy[aligned]) & np.isfinite(np.where(aligned, np.nan, accuracy)).any(1)
    if not both.any():
        return None
    conflicting = np.nanmean(np.where(aligned, np.nan, accuracy)[both], 1)
    return float((conflicting - accuracy[aligned][both]).mean())


def sample_accuracy(correct: np.ndarray | int, total: np.ndarray | int) -> float:
    """Plain accuracy over samples; needs no bias labels."""
    return float(100 * np.sum(correct) / np.sum(total))


def bias_accuracy(correct: np.ndarray, total: np.ndarray, aligned_bias: np.ndarray) -> float | None:
    """Mean of the accuracy on aligned and the error on conflicting training samples (paper §4.3), pooled.

    50 for a model that fits every label, 100 for one that knows only the bias. None without both kinds.
    """
    aligned = aligned_mask(np.shape(total), aligned_bias)
    correct, total = np.asarray(correct), np.asarray(total)
    if not total[aligned].sum() or not total[~aligned].sum():
        return None
    accuracy = correct[aligned].sum() / total[aligned].sum()
    error = 1 - correct[~aligned].sum() / total[~aligned].sum()
    return float(50 * (accuracy + error))


def precision_recall(found: np.ndarray, true: np.ndarray) -> tuple[float | None, float | None]:
    """Of what was found the share that is true, and of what is true the share that was found; bool [n] each.

    None where nothing was found, or nothing is true.
    """
    hits = int((found & true).sum())
    precision, recall = (100 * hits / int(size) if size else None for size in (found.sum(), true.sum()))
    return precision, recall


def aligned_mask(shape: tuple[int, ...], aligned_bias: np.ndarray) -> np.ndarray:
    """bool [C, B], true at (y, g(y))."""
    mask = np.zeros(shape, dtype=bool)
    mask[np.arange(shape[0]), np.asarray(aligned_bias)] = True
    return mask


def inconsistencies(correct: np.ndarray, total: np.ndarray) -> list[str]:
    """What cannot be true of measured metrics; empty for every honest result.

    Two classes and biases: worst ≤ average − EO/2. Many biases and equally many groups in each class:
    MB ≤ average and worst ≤ average − MB.
    """
    accuracy = group_accuracy(correct, total)
    average, worst, bias = average_accuracy(accuracy), worst_accuracy(accuracy), model_bias(accuracy)
    slack = 1e-9
    found = []
    if (np.asarray(correct) > np.asarray(total)).any() or (np.asarray(correct) < 0).any():
        found.append("a group has more correct answers than samples, or fewer than none")
    groups = np.isfinite(accuracy).sum(1)
    if bias is not None and (groups == groups[0]).all():
        gap = bias / 2 if _two_values(accuracy) else bias
        if gap > average + slack:
            found.append(f"model bias {bias:.2f} exceeds what average accuracy {average:.2f} allows")
        if worst > average - gap + slack:
            found.append(f"worst group {worst:.2f} exceeds average {average:.2f} less its share of the bias")
    return found
