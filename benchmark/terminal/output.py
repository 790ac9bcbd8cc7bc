"""What is printed for people: with colours on a terminal, plain text elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmark import quoting

BLOCKS = "▁▂▃▄▅▆▇█"
GAP = 2  # between columns
BEST, SECOND, FAINT = "bold green", "underline", "dim"


class Output(Console):
    """Standard output; of what is printed nothing is read as markup. Colours end with the terminal, or by NO_COLOR."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Without the spaces that fill lines up to the terminal's width, where there is no terminal."""
        if self.is_terminal:
            return super().print(*objects, **options)
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError, of which ``errors.exit_code`` knows what it means."""
        raise


@dataclass(frozen=True)
class Column:
    """A column of a ``Grid``; one that ``stays`` is never parted from the one before it."""

    head: Text
    cells: Sequence[Text]
    right: bool = True
    stays: bool = False

    @property
    def width(self) -> int:
        return max(line.cell_len for text in (self.head, *self.cells) for line in text.split() or [Text()])


@dataclass(frozen=True)
class Grid:
    """A table that goes on below where it is too wide, with its first column again; none is cut.

    Lines are folded only where not even two columns have room.
    """

    columns: Sequence[Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for place, part in enumerate(self._parts(options.max_width)):
            table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
            fits = sum(GAP + each.width for each in part) - GAP <= options.max_width
            for column in part:
                justify: Literal["left", "right"] = "right" if column.right else "left"
                table.add_column(column.head, justify=justify, no_wrap=fits, overflow="fold")
            for cells in zip(*(column.cells for column in part), strict=True):
                table.add_row(*cells)
            yield Padding(table, (1 if place else 0, 0, 0, 0))

    def _parts(self, width: int) -> Iterator[list[Column]]:
        first, *others = self.columns
        part, used = [first], first.width
        for place, column in enumerate(others):
            staying = takewhile(lambda each: each.stays, others[place + 1 :])
            needed = sum(GAP + each.width for each in (column, *staying))
            if len(part) > 1 and not column.stays and used + needed > width:
                yield part
                part, used = [first], first.width
            part.append(column)
            used += GAP + column.width
        yield part


def sparkline(values: Sequence[float], width: int) -> str:
    """Percentages as at most ``width`` block characters, 0 the lowest and 100 the highest."""
    count = min(width, len(values))
    chosen = [values[round(place * (len(values) - 1) / max(1, count - 1))] for place in range(count)]
    return "".join(BLOCKS[min(len(BLOCKS) - 1, max(0, int(value / 100 * len(BLOCKS))))] for value in chosen)


def show(text: str) -> None:
    """Print Markdown of ours: as it is, or for a terminal with its tables aligned and in colours."""
    if sys.stdout.isatty():
        Output().print(markdown(text))
    else:
        print(text)


def markdown(text: str) -> Group:
    """Headings, tables, lists and paragraphs, a line each, as ``report.tables`` writes them."""
    parts: list[RenderableType] = []
    lines = text.splitlines()
    while lines:
        if table := list(takewhile(lambda line: line.startswith("|"), lines)):
            parts.append(_grid(table))
            lines = lines[len(table) :]
        else:
            parts.append(_line(lines.pop(0)))
    return Group(*parts)


def _line(line: str) -> RenderableType:
    if heading := re.match(r"#+ ", line):
        return Text(quoting.plain(line[heading.end() :]), "bold" if heading.end() > 2 else "bold underline")
    if line.startswith("- "):
        return hanging(Text("•"), Text(quoting.plain(line[2:])), gap=1)
    return Text(quoting.plain(line))


def hanging(mark: Text, text: Text, gap: int = GAP) -> Table:
    """The text, folded beside its mark."""
    grid = Table.grid(padding=(0, gap, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(mark, text)
    return grid


def _grid(lines: Sequence[str]) -> Grid:
    head, align, *body = (re.findall(r"((?:\\.|[^\\|])*)\|", line[1:]) for line in lines)
    columns: Iterable[tuple[str, ...]] = zip(head, align, *body, strict=True)
    return Grid([_column(quoting.plain(name.strip()), side, cells) for name, side, *cells in columns])


def _column(name: str, side: str, cells: Sequence[str]) -> Column:
    of_paper = name == "paper"
    found = [Text(cell.plain, FAINT) if of_paper else cell for cell in map(_cell, cells)]
    return Column(Text(name, FAINT if of_paper else ""), found, right=side.endswith(":"), stays=of_paper)


def _cell(text: str) -> Text:
    """A cell: the best in bold, the second underlined, and faint what stands behind a number."""
    number, spread = re.fullmatch(r"(.*?)( ± .*)?", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    style = ""
    for mark, look in ((r"\*\*(.+?)\*\*", BEST), (r"<ins>(.+?)</ins>", SECOND)):
        if found := re.match(mark, number):
            number, style = found[1] + number[found.end() :], look
    return Text.assemble((quoting.plain(number), style), (spread or "", FAINT))
