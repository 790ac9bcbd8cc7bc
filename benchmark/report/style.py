"""How pictures look: colours, dashes, and how they are saved."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from benchmark.plan.paper import COMPARED
from benchmark.store.atomic import replacing
from benchmark.store.record import Entry

matplotlib.rcdefaults()  # a matplotlibrc of the user's has no say
plt.rcParams["text.parse_math"] = False  # a "$" in a name is a "$"
# Okabe and Ito's colours, which the colour-blind can tell apart, and dashes for what is printed in grey.
STYLES = [
    ("#000000", "-"),
    ("#E69F00", "-"),
    ("#56B4E9", "-"),
    ("#009E73", "-"),
    ("#CC79A7", "-"),
    ("#0072B2", "--"),
    ("#D55E00", "--"),
    ("#B22222", "-"),
    ("#777777", ":"),
]
# A method looks the same wherever it is drawn.
METHODS = {row.method: style for row, style in zip(COMPARED, STYLES, strict=True)} | {"gce": ("#777777", "-.")}
DPI = 150  # of the PNGs


def save(drawing: Drawing, stem: Path) -> list[Path]:
    """Write the drawing as ``stem``.png and .pdf, and close it."""
    written = []
    drawing.dpi = DPI
    if layout := drawing.get_layout_engine():  # laid out once for both files
        layout.execute(drawing)
        drawing.set_layout_engine("none")
    for suffix in ("png", "pdf"):
        written.append(stem.with_name(f"{stem.name}.{suffix}"))
        with replacing(written[-1]) as temporary:
            # Without a date a figure of the same records is the same file.
            metadata = {"CreationDate": None} if suffix == "pdf" else None
            drawing.savefig(temporary, format=suffix, dpi=DPI, metadata=metadata)
    plt.close(drawing)
    return written


def plain(axis: Axes) -> None:
    """A faint grid and no box."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def plot(axis: Axes, lines: list[list[Entry]], metric: str, label: str, color: str, dash: str) -> None:
    """One method's metric after each epoch: the mean over ``lines``, one a seed, with a band of one deviation."""
    length = min((len(line) for line in lines), default=0)
    if not length or lines[0][0].get(metric) is None:
        return
    epochs = np.arange(1, length + 1)
    values = np.array([[entry[metric] for entry in line[:length]] for line in lines])
    mean = values.mean(0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    dot = "o" if length == 1 else None  # one epoch makes no line
    axis.plot(epochs, mean, color=color, linestyle=dash, linewidth=1.6, marker=dot, markersize=5, label=label)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        axis.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
