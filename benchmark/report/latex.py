"""Tables in LaTeX, in the arrangement of the paper's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from benchmark import quoting
from benchmark.metrics import METRICS
from benchmark.plan.table import COMPARISONS
from benchmark.report.grid import Grid
from benchmark.report.words import COLLAPSED, ONE_SEED

# In points: the width of a column of a paper's two, and of both; of a character of the 7 points that tables are set in,
# and of the gap between columns. Nothing is scaled: what is too wide gets further lines instead.
COLUMN, PAGE = 241, 505
CHARACTER, GAP = 4.0, 5.0
NARROWEST = 60  # that titles of rows are broken to


def latex(grid: Grid, notes: Sequence[str], commits: Sequence[str] = (), compare: str = COMPARISONS[0]) -> str:
    """A booktabs table in the paper's arrangement: tasks as column groups, bold for the best, * for bias labels.

    Only columns that have numbers are there. The paper's numbers stand under each row, or in a second table below,
    where it has any; standard deviations beside the means, or under them where the page is too narrow for that.
    """
    table = grid.table
    title = table.title + (f" ({table.modified})" if table.modified else "")
    own, printed = (_Latex(grid, grid.columns(values)) for values in ("measured", "paper"))
    parts = [*(f"% {note}" for note in commits), r"% Needs \usepackage{booktabs} and LaTeX of 2020 or later."]
    if not own.columns:
        unmeasured = "Nothing is measured yet."
        alone = [f"Percent, as published. {unmeasured}", *grid.marks()]
        parts.append(printed.table(title, alone, [printed.published_alone]) if printed.columns else f"% {unmeasured}")
    elif compare == "beside":
        parts.append(own.table(title, notes, [own.measured, own.spreads_below, own.published_below]))
    else:
        parts.append(own.table(title, notes, [own.measured, own.spreads_below]))
        if printed.columns:
            parts.append(printed.table(f"{table.title}, as published", grid.marks(), [printed.published_alone]))
    return "\n".join((*parts, ""))


class _Latex:
    """A table of some columns: the lines of its rows, and the frame around them."""

    def __init__(self, grid: Grid, columns: Sequence[tuple[str, str]]) -> None:
        self.grid, self.columns = grid, columns
        self.tasks = list(dict.fromkeys(task for task, _ in columns))
        self.beside = self._width(beside=True) <= PAGE
        excess = self._width(beside=self.beside) - PAGE
        self.titles_width = max(NARROWEST, self._width_of_titles() - excess) if excess > 0 else None

    def _width_of_titles(self) -> float:
        return CHARACTER * (1 + max(map(len, self.grid.titles.values())))

    def _width(self, *, beside: bool) -> float:
        """About how wide the table is, in points, with standard deviations beside the means or without."""
        grid, width = self.grid, self._width_of_titles()
        for task in self.tasks:
            under_it = sum(self._column(column, beside=beside) for column in self.columns if column[0] == task)
            width += max(under_it, CHARACTER * max(map(len, _lines(grid.results.task_title(task)))) + GAP)
        return width

    def _column(self, column: tuple[str, str], *, beside: bool) -> float:
        cells = [METRICS[column[1]].head + "↑"] if len(self.grid.table.metrics) > 1 else []
        for key in self.grid.titles:
            spread = self.grid.spread((key, *column)) if beside else ""
            cells.append(self.grid.number((key, *column), ("{}", "{}"), "--") + (f"± {spread}" if spread else ""))
        return CHARACTER * max(map(len, cells)) + GAP

    def measured(self, key: str) -> str:
        cells = []
        for column in self.columns:
            spread = self.grid.spread((key, *column)) if self.beside else ""
            number = self.grid.number((key, *column), (r"\textbf{{{}}}", r"\underline{{{}}}"), "--")
            for mark in (ONE_SEED, COLLAPSED):
                number = number.replace(mark, quoting.latex(mark))
            cells.append(number + (rf"\,$\pm$\,{spread}" if spread else ""))
        return _row(self._title(key), cells)

    def _title(self, key: str) -> str:
        """A row's title, in several lines where the page is too narrow for one."""
        title = quoting.latex(self.grid.titles[key])
        if self.titles_width is None or CHARACTER * len(self.grid.titles[key]) <= self.titles_width:
            return title
        return rf"\parbox[t]{{{self.titles_width:.0f}pt}}{{\raggedright\hangindent=1em {title}\strut}}"

    def spreads_below(self, key: str) -> str:
        spreads = [self.grid.spread((key, *column)) for column in self.columns]
        return _row(r"\quad$\pm$", spreads) if any(spreads) and not self.beside else ""

    def published_below(self, key: str) -> str:
        printed = [self.grid.paper((key, *column), "") for column in self.columns]
        cells = [rf"\textit{{{each}}}" if each else "" for each in printed]
        return _row(r"\quad\textit{paper}", cells) if any(printed) else ""

    def published_alone(self, key: str) -> str:
        return _row(self._title(key), [self.grid.paper((key, *column), "--") for column in self.columns])

    def _head(self) -> list[str]:
        """Tasks over their metrics; of a single metric it stands where the methods are named."""
        names = [_stacked(self.grid.results.task_title(task)) for task in self.tasks]
        arrows = {"lower": r"$\downarrow$", "higher": r"$\uparrow$", None: ""}
        if len(self.grid.table.metrics) == 1:
            metric = METRICS[self.grid.table.metrics[0]]
            return [_row(metric.head + arrows[metric.better], [rf"\multicolumn{{1}}{{c}}{{{name}}}" for name in names])]
        widths = [sum(column[0] == task for column in self.columns) for task in self.tasks]
        tops = [rf"\multicolumn{{{width}}}{{c}}{{{name}}}" for width, name in zip(widths, names, strict=True)]
        ends = [1 + sum(widths[: place + 1]) for place in range(len(widths))]
        rules = [rf"\cmidrule(lr){{{end - width + 1}-{end}}}" for end, width in zip(ends, widths, strict=True)]
        heads = [METRICS[metric].head + arrows[METRICS[metric].better] for _, metric in self.columns]
        return [_row("", tops), "".join(rules), _row("Method", heads)]

    def table(self, title: str, notes: Sequence[str], lines: Sequence[Callable[[str], str]]) -> str:
        """The frame around the ``lines`` of every row, notes below it; methods with bias labels stand apart."""
        grid = self.grid
        apart = {row.key for row in grid.table.rows if row.method in grid.results.use_bias_labels}
        groups = ([key for key in grid.titles if key not in apart], [key for key in grid.titles if key in apart])
        body: list[str] = []
        for group in filter(None, groups):
            body += [r"\midrule", *(text for key in group for line in lines if (text := line(key)))]
        environment = "table" if self._width(beside=self.beside) <= COLUMN else "table*"
        below = rf"\par\smallskip\parbox{{\linewidth}}{{{quoting.latex(' '.join(notes))}}}"
        return "\n".join(
            (
                rf"\begin{{{environment}}}\centering",
                r"\fontsize{7}{8.4}\selectfont\setlength{\tabcolsep}{2.5pt}",
                rf"\caption{{{quoting.latex(title)}.}}",
                rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
                r"\toprule",
                *self._head(),
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                *([below] if notes else []),
                rf"\end{{{environment}}}",
            )
        )


def _row(first: str, cells: Sequence[str]) -> str:
    return " & ".join((first, *cells)) + r" \\"


def _lines(title: str) -> list[str]:
    """A heading in lines, of which "CelebA, big nose" and "C-MNIST¹ (ρ = 0.99)" have two."""
    return re.split(r"(?<=,) | (?=\()", title)


def _stacked(title: str) -> str:
    lines = list(map(quoting.latex, _lines(title)))
    return lines[0] if len(lines) == 1 else r"\shortstack{" + r" \\ ".join(lines) + "}"
