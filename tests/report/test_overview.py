"""The picture of measured beside published averages: every mark stands at its number."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories.records import make_results, save_seeds
from matplotlib.axes import Axes

from benchmark.compare import published
from benchmark.compare.cells import tidy
from benchmark.plan.paper import TABLES
from benchmark.report import overview
from benchmark.rules import REPORTED


def marks(axes: Axes, marker: str) -> dict[str, tuple[float, str]]:
    """Where the marks of that kind stand and what they are filled with, by the names of their rows."""
    names = [each.get_text() for each in axes.get_yticklabels()]
    return {
        names[int(line.get_ydata()[0])]: (float(line.get_xdata()[0]), line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() == marker
    }


def test_dots_are_measured_and_diamonds_published(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.50, 1: 0.70})
    save_seeds(tmp_path, "groupdro", {0: 0.60})
    results = make_results(tmp_path)
    (axes,) = overview.draw(overview.averages(results), results).axes
    lines = tidy(TABLES["2"], results)
    means = lines[(lines.task == "cmnist_99") & (lines.metric == "avg_acc") & (lines.selection == REPORTED.name)]
    expected = means.set_index("method")["mean"]
    dots, diamonds = marks(axes, "o"), marks(axes, "D")
    assert set(dots) == {"Poisoner", "GroupDRO*"}
    assert dots["Poisoner"][0] == pytest.approx(expected["poisoner"])
    assert dots["GroupDRO*"][0] == pytest.approx(expected["groupdro"])
    assert dots["GroupDRO*"][1] == "white", "of one seed"
    assert dots["Poisoner"][1] != "white"
    numbers = published.numbers()
    assert len(diamonds) == 9, "also where nothing was measured"
    assert diamonds["Poisoner"][0] == numbers["table2", "poisoner", "cmnist_99", "avg_acc"] == 82.57
    assert diamonds["Vanilla"][0] == numbers["table2", "vanilla", "cmnist_99", "avg_acc"] == 56.28


def test_only_tasks_with_records_of_full_size_are_shown(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.50}, task="cmnist_98")
    save_seeds(tmp_path, "poisoner", {0: 0.50}, task="dogs_cats", preset="reduced")
    results = make_results(tmp_path)
    assert set(overview.averages(results).task) == {"cmnist_98"}


def test_without_records_an_old_picture_goes(tmp_path: Path) -> None:
    old = tmp_path / "figures" / "overview.png"
    old.parent.mkdir()
    old.write_bytes(b"of other records")
    assert overview.write(make_results(tmp_path)) == []
    assert not old.exists()
