"""In which range a search may choose a setting: what stands under ``search`` beside the defaults in recipes.toml."""

from __future__ import annotations

import math
from typing import Any

import msgspec

DIGITS = 3  # significant ones of what a search chooses


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The values of one setting: ``uniform`` or ``log``, both [low, high], or a ``choice`` of some."""

    uniform: tuple[float, float] | None = None
    log: tuple[float, float] | None = None
    choice: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        told = [each for each in (self.uniform, self.log, self.choice) if each is not None]
        if len(told) != 1 or len(told[0]) < 2:
            raise ValueError("a range is one of uniform, log and choice, of two values or more")
        if self.choice is None and not told[0][0] < told[0][1]:
            raise ValueError("a range goes from a lower to a higher value")
        if self.log and self.log[0] <= 0:
            raise ValueError("a logarithmic range lies above 0")

    def value(self, share: float, default: Any) -> Any:
        """The value at a share in [0, 1) of the range, of the default's type, numbers to three digits."""
        if self.choice is not None:
            return self.choice[int(share * len(self.choice))]
        low, high = self.uniform or self.log or (0.0, 0.0)
        if isinstance(default, int):
            # Every whole number has the same share, or the same share as its logarithm's distance to the next.
            high += 1
        if self.uniform:
            value = low + share * (high - low)
        else:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return int(value) if isinstance(default, int) else float(f"{value:.{DIGITS}g}")
