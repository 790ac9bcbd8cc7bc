"""Numbers as the page prints them, and the marks that tables put behind them."""

from __future__ import annotations

from typing import Any

import pandas as pd

ONE_SEED, COLLAPSED = "°", "§"
Context = dict[str, Any]
"""What a template shows, by name."""


def number(value: float | None) -> str:
    """Two decimals, as the paper prints; nothing for a gap."""
    return "" if value is None or pd.isna(value) else f"{value:.2f}".replace("-", "−")


def signed(value: float | None) -> str:
    """The same with its sign."""
    return "" if value is None or pd.isna(value) else f"{value:+.2f}".replace("-", "−")


def lines_of(frame: pd.DataFrame) -> list[Context]:
    """The rows of a frame, by the names of their columns."""
    return [{str(key): value for key, value in line.items()} for line in frame.to_dict("records")]


def hundredths(value: float | None) -> int | None:
    """A number as ``number`` prints it, a hundred times as large, for the page's script; None for a gap."""
    return None if value is None or pd.isna(value) else int(f"{value:.2f}".replace(".", ""))
