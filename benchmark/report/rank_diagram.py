"""Critical-difference diagrams (Demšar 2006): average ranks on an axis, bars over what is level, in print size."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmark.compare.significance import LEVEL, Ranking
from benchmark.metrics import METRICS
from benchmark.report import notes
from benchmark.report.style import COLUMN, PAGE
from benchmark.report.words import COLLAPSED

# In inches, as printed.
LINE, BAR, CHARACTER = 0.15, 0.07, 0.062
LONGEST = 42  # characters of a name that leave the axis a fifth of the page


def draw(found: Sequence[Ranking], names: Sequence[Sequence[str]], title: str) -> Drawing:
    """A diagram of each ranking below the other; ``names`` are those of each one's rows."""
    names = [[name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in each] for each in names]
    margin = CHARACTER * max(len(name) for each in names for name in each) + 0.15
    width = COLUMN if margin < COLUMN / 4 else PAGE
    above, below = (textwrap.wrap(text, int(width / CHARACTER)) for text in (title, _legend(found, names)))
    heights = [0.9 + BAR * len(each.groups()) + LINE * ((len(each.rows) + 1) // 2) for each in found]
    height = sum(heights) + LINE * (len(above) + len(below)) + 0.1
    drawing = Drawing(figsize=(width, height))
    for lines, top, weight in ((above, height - 0.05, "bold"), (below, LINE * len(below) + 0.03, "normal")):
        drawing.text(0.04 / width, top / height, "\n".join(lines), va="top", weight=weight)
    top = height - LINE * len(above) - 0.05
    for ranking, own_height, own in zip(found, heights, names, strict=True):
        top -= own_height
        axes = drawing.add_axes((0, top / height, 1, own_height / height))
        axes.set(xlim=(0, width), ylim=(-own_height, 0))
        axes.axis("off")
        _diagram(axes, ranking, own, margin, width - margin)
    return drawing


def _legend(found: Sequence[Ranking], names: Sequence[Sequence[str]]) -> str:
    """What the marks mean, of those that are drawn."""
    marks = [f"1 is the best rank; bars join what Nemenyi's test does not tell apart at {LEVEL:g}."]
    marks += notes.marks("".join(name for each in names for name in each))
    marks += (
        [f"{COLLAPSED}\N{NO-BREAK SPACE}collapsed on some task."] if any(each.collapsed.any() for each in found) else []
    )
    return " ".join(marks)


def _diagram(axes: Axes, ranking: Ranking, names: Sequence[str], left: float, right: float) -> None:
    """The axis of ranks between ``left`` and ``right``, all in inches from the upper left corner."""
    rows, y = len(ranking.rows), -0.62

    def place(rank: float) -> float:
        return left + (rank - 1) / (rows - 1) * (right - left)

    def line(x: Sequence[float], y: Sequence[float], width: float = 0.8) -> None:
        axes.plot(x, y, color="black", linewidth=width, solid_capstyle="butt")

    p = ranking.friedman.f_p
    told = f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}" + ("" if p < LEVEL else ", not told apart")
    heading = f"{METRICS[ranking.metric].heading}: {len(ranking.tasks)} tasks, {told}"
    axes.text(0.04, -0.12, heading, va="center")
    length = place(1 + ranking.critical_difference) - left  # to the axis' scale, and perhaps longer than it
    end = min(left + length, axes.get_xlim()[1] - 0.05)
    line([left, end], [-0.3, -0.3], 1.2)
    for x in (left, left + length) if end == left + length else (left,):
        line([x, x], [-0.27, -0.33])
    axes.text(left - 0.05, -0.3, f"CD = {ranking.critical_difference:.2f}", va="center", ha="right")
    line([left, right], [y, y])
    for rank in range(1, rows + 1):
        line([place(rank)] * 2, [y, y + 0.05])
        if rows <= 20 or rank % 5 == 0 or rank == 1:
            axes.text(place(rank), y + 0.07, str(rank), va="bottom", ha="center")
    groups = ranking.groups()
    for number, group in enumerate(groups, 1):
        ends = [place(ranking.average[each]) for each in (group[0], group[-1])]
        line([ends[0] - 0.03, ends[1] + 0.03], [y - BAR * number] * 2, 2.2)
    # The better half on the left, the others on the right, half a line lower lest two lines look like one.
    order = np.argsort(ranking.average, kind="stable")
    half = (rows + 1) // 2
    for number, row in enumerate(order):
        better, x = number < half, place(ranking.average[row])
        height = y - BAR * (len(groups) + 1) - LINE * (number if better else rows - 0.5 - number) - 0.05
        edge, side = (left - 0.03, "right") if better else (right + 0.03, "left")
        line([x, x, edge], [y, height, height])
        mark = COLLAPSED if ranking.collapsed[:, row].any() else ""
        axes.text(edge + (-0.03 if better else 0.03), height, names[row] + mark, va="center", ha=side)
