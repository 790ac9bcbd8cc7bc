"""What a method may use beside training images and their targets, how tables mark it, and which data have it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from benchmark.errors import UserError

MARKS = {"uses_bias_labels": "*", "uses_validation_bias": "†", "uses_validation": "‡"}
"""The declarations of a method's class and of its table in the recipes, each with the mark of such a method."""
WORDS = {
    "uses_bias_labels": "bias labels",
    "uses_validation_bias": "bias labels of validation images",
    "uses_validation": "validation images",
}
OF_BIAS = {"uses_bias_labels", "uses_validation_bias"}


def told(uses: Collection[str]) -> list[str]:
    """The declarations that are to be told: who uses the bias of validation images uses the images, too."""
    implied = {"uses_validation"} if "uses_validation_bias" in uses else set()
    return [each for each in MARKS if each in uses and each not in implied]


@dataclass(frozen=True)
class Labels:
    """What a dataset has for methods that use more: of training and of validation images the bias [n], −1 if unknown.

    ``name`` is the dataset's.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray

    def lacking(self, uses: Collection[str]) -> str:
        """Why a method with these declarations cannot be trained, as a clause, or nothing."""
        if "uses_validation" in uses and len(self.validation) < 2:
            return f"{self.name} has no validation images of which it could get half"
        for use, kind, bias in (
            ("uses_bias_labels", "training", self.train),
            ("uses_validation_bias", "validation", self.validation),
        ):
            unknown = int((bias < 0).sum())
            if use in uses and unknown:
                return f"{unknown:,} {kind} images of {self.name} lack their bias"
        return ""

    def check(self, method: str, uses: Collection[str]) -> None:
        """Raises UserError where the method cannot be trained."""
        if why := self.lacking(uses):
            raise UserError(
                f"The method {method} cannot be trained, since {why}: add what is missing, or choose other methods "
                "with --methods."
            )
