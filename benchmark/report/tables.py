"""Tables as pure functions of records and published numbers: tidy CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmark import quoting
from benchmark.compare import cells
from benchmark.metrics import METRICS
from benchmark.plan.table import COMPARISONS, Table
from benchmark.report.grid import Grid, Key
from benchmark.report.latex import latex
from benchmark.report.notes import commits_note, footer
from benchmark.store.atomic import write_atomically
from benchmark.store.results import Results

Columns = Sequence[tuple[str, str, str]]
"""(task, metric, heading) of each column."""


def write(table: Table, results: Results, compare: str = COMPARISONS[0], said: Sequence[str] = ()) -> str:
    """Write tables/<stem>.csv, .md and .tex to the folder of results; returns the Markdown.

    ``compare`` puts the paper's numbers "beside" the measured ones, or "apart" in a table of their own. What is
    ``said`` stands before the other notes.
    """
    lines = cells.tidy(table, results)
    grid = Grid(table, lines, results)
    notes, commits = [*said, *footer(table, results), *grid.left_out()], commits_note(table, results)
    text = markdown(grid, [*notes, *commits], compare)
    folder, name = results.folder / "tables", results.name(table.stem)
    write_atomically(folder / f"{name}.csv", quoting.csv(lines))
    write_atomically(folder / f"{name}.md", text)
    write_atomically(folder / f"{name}.tex", latex(grid, notes, commits, compare))
    return text


def markdown(grid: Grid, notes: Sequence[str], compare: str = COMPARISONS[0]) -> str:
    """A section per measured task with each metric; one grid for a single metric."""
    table = grid.table
    parts = [f"# {quoting.markdown(table.full_title)}"]
    if compare == "beside":
        parts += _sections(grid, "measured", _beside)
    else:
        parts += _sections(grid, "measured", _measured)
        if grid.columns("paper"):
            parts += ["# As published", *_sections(grid, "paper", _published)]
    return "\n\n".join((*parts, quoting.points(notes))) + "\n"


def _sections(grid: Grid, values: str, section: Callable[[Grid, Columns], str]) -> Iterator[str]:
    """Headings and grids of the tasks that have any of the values."""
    metrics, title = grid.table.metrics, grid.results.task_title
    columns = grid.columns(values)
    tasks = list(dict.fromkeys(task for task, _ in columns))
    if len(metrics) == 1:
        if tasks:
            arrow = METRICS[metrics[0]].arrow
            yield section(grid, [(task, metrics[0], f"{quoting.markdown(title(task))} {arrow}") for task in tasks])
        return
    for task in tasks:
        yield f"## {quoting.markdown(title(task))}"
        yield section(
            grid, [(task, metric, METRICS[metric].heading) for metric in metrics if (task, metric) in columns]
        )


def _beside(grid: Grid, columns: Columns) -> str:
    """Measured columns, each followed by the paper's where it has any."""
    published_too = grid.columns("paper")
    head, body = ["Method"], [[quoting.markdown(title)] for title in grid.titles.values()]
    for task, metric, heading in columns:
        head += [heading, "paper"] if (task, metric) in published_too else [heading]
        for key, line in zip(grid.titles, body, strict=True):
            line.append(_markdown_cell(grid, (key, task, metric)))
            if (task, metric) in published_too:
                line.append(grid.paper((key, task, metric), "–"))
    return quoting.grid(body, head)


def _measured(grid: Grid, columns: Columns) -> str:
    return _plain(grid, columns, lambda key: _markdown_cell(grid, key))


def _published(grid: Grid, columns: Columns) -> str:
    return _plain(grid, columns, lambda key: grid.paper(key, "–"))


def _plain(grid: Grid, columns: Columns, cell: Callable[[Key], str]) -> str:
    body = [
        [quoting.markdown(title), *(cell((key, task, metric)) for task, metric, _ in columns)]
        for key, title in grid.titles.items()
    ]
    return quoting.grid(body, ["Method", *(heading for *_, heading in columns)])


def _markdown_cell(grid: Grid, key: Key) -> str:
    spread = grid.spread(key)
    return grid.number(key, ("**{}**", "<ins>{}</ins>"), "–") + (f" ± {spread}" if spread else "")
