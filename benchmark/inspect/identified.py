"""What a biased model identified as conflicting in its training set, and how right it was where the bias is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from tabulate import tabulate

from benchmark import metrics
from datasets import BiasedDataset


@dataclass(frozen=True)
class Identified:
    """What a biased model says of the training set: its predictions, int64 [n], and scores, float [n].

    The score is the probability of the image's own label: the lower, the more conflicting.
    """

    dataset: BiasedDataset
    predicted: np.ndarray
    score: np.ndarray

    @cached_property
    def found(self) -> np.ndarray:
        """bool [n], true for what is found conflicting."""
        return self.predicted != self.dataset.train.targets

    @cached_property
    def known(self) -> np.ndarray:
        """bool [n], true where the bias label is known."""
        return self.dataset.train.bias >= 0

    @cached_property
    def conflicting(self) -> np.ndarray:
        """bool [n], true for what is conflicting, as far as that is known."""
        train = self.dataset.train
        return self.known & (train.bias != np.asarray(self.dataset.aligned_bias)[train.targets])

    @cached_property
    def files(self) -> np.ndarray:
        """The images' names, [n]: their files, or their places where they come from no files of their own."""
        train = self.dataset.train
        return np.array(train.files or [f"train/{number:05}" for number in range(len(train))])

    def members(self, c: int | None) -> np.ndarray:
        """bool [n], true for the images of class ``c``, or of all."""
        return np.ones(len(self.found), bool) if c is None else self.dataset.train.targets == c

    def precision_recall(self, c: int | None = None) -> tuple[float | None, float | None]:
        """In percent, over the images of class ``c`` whose bias is known; None where nothing tells what conflicts."""
        if not self.dataset.told_by:
            return None, None
        judged = self.members(c) & self.known
        return metrics.precision_recall(self.found[judged], self.conflicting[judged])

    def ranked(self, chosen: np.ndarray, *, best_first: bool = False) -> np.ndarray:
        """Positions of the chosen images by score, the lowest first; equal ones in the order of the data."""
        positions = np.flatnonzero(chosen)
        score = self.score[positions]
        return positions[np.argsort(-score if best_first else score, kind="stable")]

    def table(self) -> pd.DataFrame:
        """The images found, the most conflicting first: file, target, predicted, score and, where known, bias."""
        order = self.ranked(self.found)
        train, classes = self.dataset.train, np.array(self.dataset.class_names)
        columns = {
            "file": self.files[order],
            "target": classes[train.targets[order]],
            "predicted": classes[self.predicted[order]],
            "score": self.score[order],
        }
        if self.known.any():
            # An unknown bias, −1, is the empty name put last.
            columns["bias"] = np.array([*self.dataset.bias_names, ""])[train.bias[order]]
        return pd.DataFrame(columns)

    def report(self) -> str:
        """Counts, precision and recall of all classes, for the terminal."""
        rows = [self._row(c, name) for c, name in enumerate(self.dataset.class_names)]
        head = ["Class", "Images", "Found", "Conflicting", "Precision", "Recall"]
        body = [*rows, self._row(None, "all")]
        if not self.known.any():
            head, body = head[:3], [row[:3] for row in body]
        table = tabulate(
            body, head, tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1))
        )
        return f"{table}\n\n{self._verdict()}"

    def _row(self, c: int | None, name: str) -> list[str]:
        members = self.members(c)
        counts = (int((members & each).sum()) for each in (members, self.found, self.conflicting))
        return [name, *(f"{count:,}" for count in counts), *(percent(each) for each in self.precision_recall(c))]

    def _verdict(self) -> str:
        if not self.known.any():
            return "Bias labels unknown: how many of the found images are truly conflicting cannot be said."
        if not self.dataset.told_by:
            return "Which bias goes with which target cannot be told: nothing is said of what is truly conflicting."
        if not self.found.any():
            return "Nothing was found: the network fits the label of every training image."
        hits = int((self.found & self.conflicting).sum())
        judged = int((self.found & self.known).sum())
        precision, recall = (percent(each) for each in self.precision_recall())
        unknown = int((~self.known).sum())
        left_out = f" {unknown:,} images of unknown bias are left out of both." if unknown else ""
        return (
            f"Precision {precision}: {hits:,} of {judged:,} found images are conflicting. "
            f"Recall {recall}: {hits:,} of {int(self.conflicting.sum()):,} conflicting images are found.{left_out}"
        )


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"
