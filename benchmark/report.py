"""The page ``report.html``: every number beside the paper's, where it comes from, and what is missing, in one file.

The look of it stands in report.html, report.css and report.js beside this module.
"""

from __future__ import annotations

import base64
import re
import shlex
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from benchmark import errata, fidelity, figures, findings, plan, readings, recipes, report_records, tables
from benchmark.plan import Figure, Row, Table
from benchmark.records import Store, run_of, write_atomically
from benchmark.statements import CLAIMS, METRIC_TITLES
from benchmark.tables import Columns, Found

Context = dict[str, Any]

# Points from the paper's number at which the shade of a difference becomes darker.
SHADES = (2, 5, 10, 20)


def write(store: Store, compared: pd.DataFrame, claims: pd.DataFrame, left_open: pd.DataFrame) -> Path:
    """Write report.html into the store's folder, from all of its records; the same folder gives the same bytes.

    ``compared`` are the cells of ``fidelity.cells``, ``claims`` the lines of ``findings.evaluate``, ``left_open`` those
    of ``readings.evaluate``. Pictures are those in figures/, drawn where there are none yet.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmark", "."),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    path = store.folder / "report.html"
    write_atomically(path, environment.get_template("report.html").render(page(store, compared, claims, left_open)))
    return path


def page(store: Store, compared: pd.DataFrame, claims: pd.DataFrame, left_open: pd.DataFrame) -> Context:
    """Everything that the template shows."""
    stored = {run_of(record).id: record for record in store.everything()}
    numbers = {run: number for number, run in enumerate(stored)}
    shown = list(_shown(store))
    cells: list[Context] = []
    near = fidelity.overall(compared)
    records = [report_records.summary(record) for record in stored.values()]
    grids = [_table(table, found, store, numbers, cells) for table, found in shown if not isinstance(table, Figure)]
    return {
        "tables": grids,
        "figures": [each for table, found in shown for each in _figures(table, found, store.folder / "figures")],
        "findings": _findings([table for table, _ in shown], fidelity.compared(compared), _rows(near)),
        "missing": [each for table, found in shown for each in _missing(table, found)],
        "claims": _claims(claims),
        "verdicts": findings.count(claims[(claims.preset == recipes.PAPER) & (claims.scope == "paper")]),
        "fidelity": _fidelity(near, fidelity.columns(compared), readings.summary(left_open)),
        "records": records,
        "published": near.published[near.preset == recipes.PAPER].sum(),
        "measured": near.measured[near.preset == recipes.PAPER].sum(),
        "newest": max((record["finished"] for record in records), default=""),
        "commits": sorted({tables.commit(record) for record in stored.values()}),
        "data": {
            "cells": cells,
            "records": [report_records.details(record) for record in stored.values()],
            "metrics": report_records.CURVES,
            "curves": report_records.choices(stored),
        },
    }


def _shown(store: Store) -> Iterator[tuple[Table, Found]]:
    """The paper's tables and figures, then our own and other presets and tasks where records give them."""
    for table in (*plan.TABLES.values(), *plan.FIGURES.values()):
        yield table, tables.collect(table, store)
    found = tables.collect(plan.QUICK, store)
    if any(found.values()):
        yield plan.QUICK, found
    yield from tables.stored_variants(store)


# Tables


def _table(table: Table, found: Found, store: Store, numbers: Mapping[str, int], cells: list[Context]) -> Context:
    """A table as grids of cells; what a cell tells on demand is added to ``cells``."""
    lines = tables.tidy(table, found)
    lines = lines[lines.selection == "last"]
    ranks = tables.ranks(lines)
    by_key: dict[Any, Context] = {(line["method"], line["task"], line["metric"]): line for line in _rows(lines)}
    failures = list(tables.failures(table, store))
    tasks = _tasks(table, found)
    parts: list[tuple[str, Columns]]
    if len(table.metrics) == 1:
        metric = table.metrics[0]
        parts = [("", [(task, metric, f"{tables.title(task)} {tables.arrow(metric)}") for task in tasks])]
    else:
        heads = {metric: f"{tables.METRIC_TITLES[metric][0]} {tables.arrow(metric)}" for metric in table.metrics}
        parts = [(task, [(task, metric, head) for metric, head in heads.items()]) for task in tasks]

    def cell(row: Row, task: str, metric: str) -> Context:
        line = by_key[row.key, task, metric]
        where = table.tasks if task == table.average else (task,)
        seeds = [
            [numbers[run_of(record).id], _number(tables.value(record, row, metric))]
            for part in where
            for record in found[row.key, part]
        ]
        metric_title = tables.METRIC_TITLES[metric][0]
        doubts = errata.of_cell(table.name, row.key, task, metric) if _number(line["paper"]) else []
        cells.append(
            {
                "title": f"{table.heading}: {tables.row_title(row)}, {tables.title(task)}, {metric_title}",
                "measured": _measured(line),
                "paper": _number(line["paper"]),
                "delta": _signed(line["delta"]),
                "records": seeds,
                "errata": [f"{each['note']} ({each['kind']})" for each in doubts],
                "command": "" if line["n"] else _command(table, where, [row.method]),
                "failures": [each for each in failures if any(each.startswith(f"{t}/{row.method} ") for t in where)],
            }
        )
        return {
            **cells[-1],
            "number": len(cells) - 1,
            "row": row.key,
            "task": task,
            "metric": metric,
            "rank": ranks.get((row.key, task, metric)),
            "mean": _number(line["mean"]),
            "spread": "" if pd.isna(line["std"]) else f"± {line['std']:.1f}",
            "shade": _shade(line["delta"], metric),
        }

    def part(task: str, columns: Columns) -> Context:
        rows: list[Context] = [
            {"title": tables.row_title(row), "cells": [cell(row, *column[:2]) for column in columns]}
            for row in table.rows
        ]
        every = [each for row in rows for each in row["cells"]]
        return {
            "title": tables.title(task) if task else "",
            "columns": [heading for *_, heading in columns],
            "rows": rows,
            "compared": any(each["paper"] for each in every),
            "measured": sum(bool(each["mean"]) for each in every),
            "errata": _grouped(every),
            "command": _command(table, table.tasks if task == table.average else (task,), []) if task else "",
        }

    return {
        "id": _anchor(table.stem),
        "heading": table.heading,
        "title": table.title,
        "modified": table.modified,
        "parts": [part(*each) for each in parts],
        "notes": tables.footer(table, found, failures),
    }


def _grouped(cells: Sequence[Context]) -> list[tuple[str, str]]:
    """Each erratum of the cells once, after the cells that it concerns; one about all of them says so."""
    concerned: dict[str, list[str]] = {}
    for cell in cells:
        for note in cell["errata"]:
            concerned.setdefault(note, []).append(cell["title"].partition(": ")[2])
    published = sum(bool(cell["paper"]) for cell in cells)
    return [("All" if len(names) == published else "; ".join(names), note) for note, names in concerned.items()]


def _tasks(table: Table, found: Found) -> list[str]:
    """The columns to show: all of the paper's, and in other presets those with records."""
    if table.preset == recipes.PAPER:
        return list(table.columns)
    return [task for task in table.tasks if any(found[row.key, task] for row in table.rows)]


def _rows(lines: pd.DataFrame) -> list[Context]:
    return [{str(key): value for key, value in line.items()} for line in lines.to_dict("records")]


def _number(value: float | None) -> str:
    """Two decimals, as the paper prints; nothing for a gap."""
    return "" if value is None or pd.isna(value) else f"{value:.2f}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:+.2f}".replace("-", "−")


def _measured(line: Mapping[str, Any]) -> str:
    spread = "" if pd.isna(line["std"]) else f" ± {line['std']:.2f}"
    return _number(line["mean"]) + spread


def _shade(delta: float | None, metric: str) -> str:
    """ "better" or "worse" than the paper, with how dark, or nothing where one of the numbers is missing."""
    if delta is None or pd.isna(delta):
        return ""
    level = sum(abs(delta) >= each for each in SHADES)
    better = (delta < 0) == (tables.METRIC_TITLES[metric][1] == "lower")
    return f"{'better' if better else 'worse'}-{level}" if level else "level"


def _anchor(stem: str) -> str:
    return re.sub(r"[^\w-]", "-", stem)


def _findings(shown: Sequence[Table], compared: pd.DataFrame, near: Sequence[Context]) -> Iterator[Context]:
    """Of each table: how far the measured numbers are from the paper's, and where another method is the best."""
    for table in shown:
        for line in near:
            if (line["table"], line["preset"]) == (table.name, tables.preset(table)) and line["measured"]:
                own = compared[(compared.table == table.name) & (compared.preset == table.preset)]
                columns, others = _best_methods(table, own[own.task != table.average])
                yield {
                    **line,
                    "heading": f"{table.heading}: {table.title}",
                    "modified": table.modified,
                    "id": _anchor(table.stem),
                    "distance": _number(line["difference"]),
                    "correlation": _number(line["rank_correlation"]),
                    "all_columns": columns,
                    "same": columns - sum(map(len, others.values())),
                    "others": [(*pair, names) for pair, names in others.items()],
                }


def _best_methods(table: Table, compared: pd.DataFrame) -> tuple[int, dict[tuple[str, str], list[str]]]:
    """The number of columns with a best method, and those where it is another one than the paper's.

    The latter by (measured, published) methods; only methods without bias labels compete.
    """
    titles = {row.key: row.title for row in table.rows}
    fair = compared[~compared.method.map(tables.uses_bias_labels).astype(bool)]
    columns, others = 0, dict[tuple[str, str], list[str]]()
    for (task, metric), column in fair.groupby(["task", "metric"], sort=False):
        if len(column) < 2:
            continue
        columns += 1
        measured, printed = (_best(column.set_index("method")[values], str(metric)) for values in ("mean", "paper"))
        if not set(measured) & set(printed):
            pair = (" and ".join(titles[key] for key in measured), " and ".join(titles[key] for key in printed))
            name = f"{tables.METRIC_TITLES[str(metric)][0]} on {tables.title(str(task))}"
            others.setdefault(pair, []).append(name)
    return columns, others


def _best(values: pd.Series, metric: str) -> list[str]:
    values = values.astype(float).round(2)
    return list(values.index[values == (values.min() if tables.METRIC_TITLES[metric][1] == "lower" else values.max())])


# Claims and fidelity


def _claims(lines: pd.DataFrame) -> list[Context]:
    """The paper's claims, each with its verdicts on measured tasks and the tasks that are not measured."""
    return [
        {
            "number": number,
            "sentence": claim.sentence,
            "where": claim.where,
            "verdicts": [_verdict(line) for line in _rows(own[own.verdict != findings.MISSING])],
            "missing": [tables.title(task) for task in own.task[own.verdict == findings.MISSING]],
        }
        for number, claim in enumerate(CLAIMS, 1)
        for own in [lines[lines.claim == claim.id]]
    ]


def _verdict(line: Context) -> Context:
    where = "" if line["scope"] == "paper" else ", where the paper does not make the claim"
    return {
        **line,
        "kind": line["verdict"].removesuffix(findings.ONE_SEED).replace(" ", "-"),
        "hint": line["verdict"].endswith(findings.ONE_SEED),
        "symbol": findings.SYMBOLS[line["verdict"]],
        "task": f"{tables.title(line['task'])}{findings.preset_note(line['preset'])}",
        "elsewhere": where,
        "difference": _signed(line["difference"]),
        "interval": "–" if pd.isna(line["low"]) else f"{_signed(line['low'])} to {_signed(line['high'])}",
        "paper": _signed(line["paper"]) or "–",
    }


def _fidelity(near: pd.DataFrame, columns: pd.DataFrame, left_open: pd.DataFrame) -> Context:
    """Lines of the tables of fidelity: of each table of the paper, each of its columns, and each reading."""
    last_epoch = {name: title for name, title in readings.DIFFERENCES.items() if name not in readings.RULES}
    return {
        "tables": [
            [
                fidelity.HEADINGS[line["table"]] + findings.preset_note(line["preset"]),
                f"{line['measured']} of {line['published']}",
                _number(line["difference"]) or "–",
                _number(line["rank_correlation"]) or "–",
            ]
            for line in _rows(near)
        ],
        "columns": [
            [
                fidelity.HEADINGS[line["table"]] + findings.preset_note(line["preset"]),
                f"{tables.title(line['task'])}: {METRIC_TITLES[line['metric']]}",
                f"{line['methods']} of {line['published']}",
                _number(line["difference"]),
                _number(line["rank_correlation"]) or "–",
            ]
            for line in _rows(columns[columns.methods > 0])
        ],
        "readings_head": ["Task", "Reading", "Methods", *last_epoch.values(), "Rank correlation"],
        "readings": [
            [
                tables.title(line["task"]),
                line["reading"],
                f"{line['methods']} ({line['runs']} runs)",
                *(number.replace("-", "−") for number in readings.numbers(line, last_epoch)),
            ]
            for line in _rows(left_open)
        ],
    }


# What is missing


def _command(table: Table, tasks: Sequence[str], methods: Sequence[str]) -> str:
    """The command that measures the given tasks of a table or figure; all methods if none is given."""
    number = table.name.removeprefix("table").removeprefix("figure")
    if table.name == plan.QUICK.name:
        words = ["--quick"]
    elif isinstance(table, Figure):
        words = ["--figure", number, *(["--task", *tasks] if table.stand_in else [])]
    else:
        words = ["--table", number, *(["--tasks", *tasks] if set(tasks) != set(table.tasks) else [])]
    words += ["--methods", *methods] if methods else []
    words += ["--preset", table.preset] if table.preset != recipes.PAPER else []
    return shlex.join(["python", "-m", "benchmark.run", *words])


def _missing(table: Table, found: Found) -> Iterator[Context]:
    """The gaps of a table or figure, tasks that lack the same methods together, each with its command."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for task in _tasks(table, found):
        if task == table.average:
            continue
        rows = [row for row in table.rows if not found[row.key, task]]
        if rows:
            whole = {row.method for row in rows} == {row.method for row in table.rows}
            methods = () if whole else tuple(dict.fromkeys(row.method for row in rows))
            lacking.setdefault(methods, []).append(task)
    for methods, tasks in lacking.items():
        runs = {table.run(row, task, 0).id for task in tasks for row in table.rows if not found[row.key, task]}
        yield {
            "heading": f"{table.heading}{f' ({table.modified})' if table.modified else ''}",
            "tasks": [tables.title(task) for task in tasks],
            "methods": [recipes.method_title(method) for method in methods],
            "runs": len(runs),
            "command": _command(table, tasks, methods),
        }


# Figures


def _figures(table: Table, found: Found, folder: Path) -> Iterator[Context]:
    """The pictures of a figure, or of a table's curves; a gap with its command where there are no records."""
    modified = f" ({table.modified})" if table.modified else ""
    if isinstance(table, Figure):
        panels = "; ".join(filter(None, (panel.title for panel in table.panels)))
        yield {
            "id": _anchor(table.stem),
            "heading": f"{table.heading}: {table.title}{modified}",
            "caption": figures.caption(table, found),
            "image": _image(folder / f"{table.stem}.png", lambda: figures.write_figure(table, found, folder))
            if any(found.values())
            else None,
            "alt": f"Chart of {panels or table.title}. The caption says what is drawn.",
            "command": "" if all(found.values()) else _command(table, table.tasks, []),
        }
    elif figures.has_curves(table):
        for task in table.available_tasks:
            drawn = [row.title for row in table.rows if found[row.key, task]]
            if not drawn:
                continue
            yield {
                "id": _anchor(f"curves-{table.stem}-{task}"),
                "heading": f"Curves of {table.heading}, {tables.title(task)}{modified}",
                "caption": "Average group accuracy and model bias on the test images, and Bias Accuracy of the biased "
                "model on the training images, after each epoch; bands are one standard deviation over seeds.",
                "image": _image(
                    folder / f"{table.stem}-{task}.png", lambda: figures.write_curves(table, found, folder)
                ),
                "alt": f"Three line charts over the epochs, of average accuracy, model bias and Bias Accuracy on "
                f"{tables.title(task)}; one line each for {', '.join(drawn)}. The same curves can be read as numbers "
                "under Curves.",
                "command": "",
            }


def _image(path: Path, draw: Callable[[], object]) -> Context:
    """A picture for the page: its content, and its width and height in CSS pixels."""
    if not path.exists():
        draw()
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # where a PNG has them
    return {
        "source": "data:image/png;base64," + base64.b64encode(content).decode("ascii"),
        "width": round(width * 96 / figures.DPI),
        "height": round(height * 96 / figures.DPI),
    }
