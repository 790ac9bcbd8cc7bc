"""Tables on a terminal: nothing cut at any width, the colours of Markdown's marks, and Markdown itself elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.terminal.output import BEST, markdown, show, sparkline

TABLES = Path(__file__).parents[2] / "results" / "tables"
TABLE2 = (TABLES / "table2.md").read_text(encoding="utf-8")


def printed(text: str, width: int, **more: object) -> str:
    console = Console(file=io.StringIO(), width=width, record=True, **more)  # type: ignore[arg-type]
    console.print(markdown(text))
    return console.export_text()


def numbers(text: str) -> list[str]:
    """All cells of the tables, without marks, sorted."""
    lines = (line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:"))
    cells = [cell.strip() for line in lines for cell in line.strip("|").split("|")]
    for mark in ("**", "<ins>", "</ins>"):
        cells = [cell.replace(mark, "") for cell in cells]
    return sorted(cells)


@pytest.mark.parametrize("width", [120, 80, 40])
@pytest.mark.parametrize("name", ["table2", "table3", "ablations"])
def test_no_number_is_lost_or_cut_at_any_width(name: str, width: int) -> None:
    text = (TABLES / f"{name}.md").read_text(encoding="utf-8")
    shown = printed(text, width)
    assert max(map(len, shown.splitlines())) <= width
    found = Counter(re.findall(r"\d+\.\d\d[°§]*(?: ± \d+\.\d)?", shown))
    for cell in numbers(text):
        if re.match(r"\d+\.\d\d", cell):
            found[cell] -= 1
    assert not +Counter({cell: -count for cell, count in found.items()})
    assert "<ins>" not in shown
    assert "**" not in shown


def test_the_papers_number_stays_beside_the_measured_one() -> None:
    for line in printed(TABLE2, 40).splitlines():
        if "↓" in line or "↑" in line:
            assert line.count("paper") == line.count("↓") + line.count("↑")


def test_marks_of_markdown_are_styles() -> None:
    text = "| A | B |  paper |\n|:--|--:|--:|\n| **1.00** ± 0.5 | <ins>2.00</ins>° | 3.00 |\n| a\\|b &lt; | | |\n"
    console = Console(file=io.StringIO(), width=80)
    segments = [each for each in console.render(markdown(text)) if each.text.strip()]
    style = {each.text.strip(): each.style for each in segments}
    assert str(style["1.00"]) == BEST
    assert style["2.00°"].underline  # type: ignore[union-attr]
    assert all(style[faint].dim for faint in ("± 0.5", "3.00"))  # type: ignore[union-attr]
    assert "a|b <" in style


def test_elsewhere_than_on_a_terminal_markdown_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(TABLE2)
    assert capsys.readouterr().out == TABLE2 + "\n"


def on_a_terminal(script: str, **environment: str) -> str:
    """What a process prints to a terminal of its own."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    subprocess.run([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=variables, check=True)
    os.close(theirs)
    found = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the end, on Linux
            part = b""
        if not part:
            os.close(ours)
            return found.decode()
        found += part


def test_a_terminal_gets_colours_and_none_with_no_color() -> None:
    script = "from benchmark.terminal.output import show; show('| A |\\n|--:|\\n| **1.00** |')"
    coloured, plain = on_a_terminal(script), on_a_terminal(script, NO_COLOR="1")
    assert "\x1b[1;32m1.00" in coloured
    assert "32m" not in plain
    assert "1.00" in plain
    assert "|" not in coloured


def test_a_sparkline_begins_and_ends_with_the_curve() -> None:
    assert sparkline([0, 50, 99.9, 100], 30) == "▁▅██"
    assert sparkline([float(each) for each in range(101)], 3) == "▁▅█"
    assert sparkline([], 30) == ""
