"""How pictures look: colours, dashes, and how they are saved."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from benchmark.store.atomic import replacing
from benchmark.store.record import Entry

plt.rcParams["text.parse_math"] = False  # a "$" in a name is a "$"
BLACK = "#000000"  # on a dark screen the page draws it as white
# Eight colours that stand out 3:1 from white and from the page's dark ground, and that stay apart from each other for
# eyes without green receptors, too: tests/report/test_style.py computes how far. Nobody tells more than these apart.
GREY, OCHRE, SKY, GREEN = "#786969", "#c3870f", "#3c96ff", "#1ea578"
PINK, VIOLET, RED, PURPLE = "#ff3cd2", "#5a3cff", "#d20f0f", "#a52db4"
DASHES = ("-", "--", "-.", ":")
# A method looks the same wherever it is drawn. Where colours come near each other, dashes differ. Later methods have
# the colour of one that they seldom stand beside, and a dash that it has not.
METHODS = {
    "vanilla": (BLACK, "-"),
    "focal": (GREY, "--"),
    "lff": (OCHRE, "--"),
    "jtt": (SKY, "-."),
    "debian": (GREEN, "-."),
    "echoes": (PINK, "--"),
    "be": (VIOLET, "-"),
    "poisoner": (RED, "-"),
    "groupdro": (PURPLE, ":"),
    "poisoner_plus": (RED, "--"),
    "gce": (GREY, "-."),
    "dpr": (OCHRE, "-"),
    "xrm": (GREEN, "-"),
    "lisa": (PINK, ":"),
    "dfr": (GREY, ":"),
    "afr": (SKY, "-"),
    "known_poisoning": (VIOLET, "--"),
    "bias_labels": (PURPLE, "-"),
}
COLOURS = (GREY, OCHRE, SKY, GREEN, PINK, VIOLET, RED, PURPLE)
DPI = 150  # of the PNGs


def look(method: str) -> tuple[str, str]:
    """The colour and dash of a method; one of one's own has a colour by its name, and dots."""
    return METHODS.get(method, (COLOURS[zlib.crc32(method.encode()) % len(COLOURS)], ":"))


def looks(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Colour and dash of the lines of one picture: of several lines of a method all but the first have other dashes.

    Where the dashes of a colour run out, lines look alike.
    """
    chosen: list[tuple[str, str]] = []
    for method in methods:
        colour, dash = look(method)
        free = ((colour, each) for each in (dash, *DASHES) if (colour, each) not in chosen)
        chosen.append(next(free, (colour, dash)))
    return chosen


def save(drawing: Drawing, stem: Path) -> list[Path]:
    """Write the drawing as ``stem``.png and .pdf, and close it."""
    written = []
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
