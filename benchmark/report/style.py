"""How pictures look: sizes as printed, colours, dashes, and how they are put together and saved."""

from __future__ import annotations

import math
import re
import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from benchmark.report import font
from benchmark.store.atomic import replacing
from benchmark.store.record import Entry, epochs_of

matplotlib.rcdefaults()  # a matplotlibrc of the user's has no say
# In inches, as printed: the width of a column of a paper's two, and of both. Nothing is to be scaled afterwards.
COLUMN, PAGE = 3.4, 7.0
TEXT = 7  # points, of all text
LINE, CHARACTER, BOLD = 0.118, 0.053, 0.061  # inches that a line of it takes, and a character on average
matplotlib.rcParams.update(
    {
        "text.parse_math": False,  # a "$" in a name is a "$"
        "pdf.fonttype": 42,  # outlines that publishers take
        "font.family": font.families(),
        "font.size": TEXT,
        "axes.titlesize": TEXT,
        "axes.labelsize": TEXT,
        "xtick.labelsize": TEXT,
        "ytick.labelsize": TEXT,
        "legend.fontsize": TEXT,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "axes.titlepad": 4,
        "axes.labelpad": 2.5,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
    }
)
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
    "gce": (GREY, "-."),
    "dpr": (OCHRE, "-"),
    "xrm": (GREEN, "-"),
    "lisa": (PINK, ":"),
    "dfr": (GREY, ":"),
    "afr": (SKY, "-"),
    "rwg": (PURPLE, "--"),
    "rwy": (GREEN, "--"),
    "known_poisoning": (VIOLET, "--"),
    "bias_labels": (PURPLE, "-"),
}
COLOURS = (GREY, OCHRE, SKY, GREEN, PINK, VIOLET, RED, PURPLE)
MOST_LINES = 18  # of a picture: more cannot be told apart
DPI = 200  # of the PNGs


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
    """Write the drawing as ``stem``.png and .pdf."""
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
    return written


def remove(stem: Path) -> None:
    """Delete what ``save`` has written, of records that are no longer there."""
    for suffix in ("png", "pdf"):
        stem.with_name(f"{stem.name}.{suffix}").unlink(missing_ok=True)


def plain(axis: Axes) -> None:
    """A faint grid and no box."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def percent(axis: Axes) -> None:
    """The whole scale of percent, with room for lines that lie on its ends."""
    axis.set(ylim=(-3, 103), yticks=range(0, 101, 20))


def from_zero(axis: Axes) -> None:
    """A scale that begins at 0, with room for a line that lies there, and above the highest."""
    top = max(axis.get_ylim()[1], 1.05 * axis.dataLim.y1)
    axis.set_ylim(-0.03 * top, top)


def logarithmic(axis: Axes) -> None:
    """A logarithmic scale with plain numbers, since no text here is mathematics."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def face(seeds: int, colour: str) -> str:
    """The face of a marker: that of a single seed is hollow."""
    return colour if seeds > 1 else "white"


def plot(axis: Axes, lines: list[list[Entry]], metric: str, label: str, color: str, dash: str) -> None:
    """One method's metric after each epoch: the mean over ``lines``, one a seed, with a band of one deviation.

    A line of a single seed ends in a hollow marker; a single epoch is a marker. There are gaps in epochs in which some
    seed lacks the metric, as on other data.
    """
    length = min((len(line) for line in lines), default=0)
    values = np.array([[entry.get(metric) for entry in line[:length]] for line in lines], dtype=float)
    mean = values.mean(0) if length else values
    if not np.isfinite(mean).any():
        return
    epochs = epochs_of(lines[0][:length])
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.plot(
        epochs,
        mean,
        color=color,
        linestyle=dash,
        marker="o" if 1 in (length, len(values)) else None,
        markevery=[-1],
        markerfacecolor=face(len(values), color),
        label=label,
    )
    if len(values) > 1:
        deviation = values.std(0, ddof=1)
        # Nothing measured is below 0, which a logarithmic scale lacks: there a band ends at the least seed.
        lower = np.where(mean > deviation, mean - deviation, values.min(0))
        axis.fill_between(epochs, lower, mean + deviation, color=color, alpha=0.15, linewidth=0)


def spread(seeds: Iterable[int]) -> str:
    """What a reader must know of bands, bars and hollow markers, of those that are drawn."""
    counts = {*seeds} - {0}
    said = ["Bands and bars are one standard deviation over seeds."] if max(counts, default=0) > 1 else []
    said += ["Lines that end in a hollow marker, and hollow points, are of one seed."] if 1 in counts else []
    return " ".join(said)


def published(axis: Axes, x: float, y: float, colour: str) -> None:
    """A hollow diamond, a little to the right of what was measured, so that neither hides the other."""
    aside = ScaledTranslation(5 / 72, 0, axis.figure.dpi_scale_trans)
    axis.plot(x, y, DIAMOND, color=colour, markerfacecolor="none", transform=axis.transData + aside)


PAPER = "#555555"  # of what is the paper's, and no method's
DIAMOND = "D"
PUBLISHED = Line2D([], [], marker=DIAMOND, linestyle="", color=PAPER, markerfacecolor="none", label="as published")
"""What a legend shows for published numbers."""


def wrap(text: str, width: float, character: float = CHARACTER) -> list[str]:
    """The lines of a text of that width, in inches, none of which ends within "n = 3" or behind a mark."""
    held = re.sub(r"(?<=\b[nρ]) = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", text)
    held = re.sub(r"(?<=[*†‡]) (?=uses)", "\N{NO-BREAK SPACE}", held)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(held, int(width / character))]


def finish(drawing: Drawing, heading: str, legend: Mapping[str, Artist], note: str = "") -> None:
    """Put the heading above the panels, legend and note below them, each into room that is added for it."""
    width, panels = drawing.get_size_inches()
    columns, rows = arrange(list(legend), width)
    above, below = wrap(heading, width - 0.1, BOLD), wrap(note, width - 0.1)
    top, middle, bottom = LINE * len(above) + 0.06, ROW * rows + 0.06, LINE * len(below) + 0.04
    height = panels + top + middle + bottom
    drawing.set_size_inches(width, height)
    engine = drawing.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, (middle + bottom) / height, 1, panels / height))
    left = 0.05 / width
    drawing.text(left, 1 - 0.03 / height, "\n".join(above), va="top", weight="bold")
    drawing.text(left, bottom / height, "\n".join(below), va="top")
    anchor = (0.5, (middle + bottom - 0.03) / height)
    drawing.legend(legend.values(), legend, loc="upper center", bbox_to_anchor=anchor, ncols=columns, **LEGEND)


ROW = 0.146  # inches of a line of a legend
LEGEND: dict[str, Any] = {
    "frameon": False, "borderpad": 0, "borderaxespad": 0, "columnspacing": 1.2, "handlelength": 2.2,
}  # fmt: skip


def arrange(labels: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend of that width, in inches, with as few rows as there is room for."""
    for rows in range(1, len(labels)):
        columns = math.ceil(len(labels) / rows)
        longest = (max(map(len, part)) for part in np.array_split(labels, columns))
        if sum(CHARACTER * length + 0.45 for length in longest) <= width:
            return columns, rows
    return 1, len(labels)
