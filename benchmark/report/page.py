"""The page ``report.html``: what holds, which method is best, every number beside the paper's, in one file.

The look of it stands in page.html, page.css and page.js beside this module; its charts are drawn with d3.min.js.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jinja2
import markupsafe
import msgspec
import pandas as pd

from benchmark import quoting
from benchmark.compare import readings
from benchmark.compare.claims import CELEBA_MEAN
from benchmark.compare.doubts import doubts
from benchmark.metrics import INVERTED, METRICS
from benchmark.plan.ours import QUICK
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.run import PAPER
from benchmark.plan.table import Figure, Table
from benchmark.report import page_answers, page_figures, page_records, page_tables
from benchmark.report.words import Context, lines_of, number
from benchmark.rules import RULES
from benchmark.store.atomic import write_atomically
from benchmark.store.record import Record
from benchmark.store.results import Results


def write(
    results: Results,
    variants: Iterable[Table],
    compared: pd.DataFrame,
    judged: pd.DataFrame,
    left_open: pd.DataFrame,
) -> Path:
    """Write report.html into the folder of results, from all of its records; the same folder gives the same bytes.

    ``variants`` are the tables and figures to show beside the paper's own, ``compared`` the cells of
    ``fidelity.cells``, ``judged`` the lines of ``verdicts.evaluate``, ``left_open`` those of ``readings.evaluate``.
    What the other rules give is computed here.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmark.report", "."),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = results.folder / f"{results.name('report')}.html"
    context = page(results, variants, compared, judged, left_open)
    write_atomically(path, environment.get_template("page.html").generate(context))
    return path


def _records(preset: str, shown: Iterable[Table], results: Results) -> Iterator[Record]:
    """Those of a preset that any table or figure of the page shows."""
    for table in shown:
        if table.preset == preset:
            yield from results.records_of(table, table.tasks)


def page(
    results: Results,
    variants: Iterable[Table],
    compared: pd.DataFrame,
    judged: pd.DataFrame,
    left_open: pd.DataFrame,
) -> Context:
    """Everything that the template shows."""
    names = [results.rule.name, *(name for name in RULES if name != results.rule.name)]
    under = {name: results if name == results.rule.name else replace(results, rule=RULES[name]) for name in names}
    quick = [QUICK] if any(results.measured(QUICK, task) for task in QUICK.tasks) else []
    compared_too = map(results.with_own_methods, (*TABLES.values(), *quick))
    shown: list[Table] = [*compared_too, *FIGURES.values(), *variants]
    series = {key: place for place, key in enumerate(key for key, each in results.series.items() if each.records)}
    verdicts = page_answers.judged_under(under, judged)
    presets = list(page_answers.presets(results))
    grids = [page_tables.grid(table, under, series) for table in shown if not isinstance(table, Figure)]
    drawn = list(page_figures.drawn(shown, under, series))
    views = [
        {
            "preset": preset,
            "note": page_answers.preset_note(preset),
            "claims": page_answers.claims(preset, verdicts, results),
            "doubts": doubts(_records(preset, shown, results), results),
            "best": page_answers.best(preset, shown, under),
            "tables": [grid for grid in grids if grid["preset"] == preset],
            "missing": [
                gap for table in shown for gap in page_tables.missing(table, results) if table.preset == preset
            ],
            "readings": _readings(left_open[left_open.preset == preset], results),
            "runs": sum(record.preset == preset for record in results.records),
        }
        for preset in presets
    ]
    data = {
        "rule": results.rule.name,
        "paper": PAPER,
        "decade": page_records.DECADE,
        "least": page_records.LEAST,
        "rules": {name: rule.note for name, rule in RULES.items()},
        "metrics": {name: [each.title, each.heading, each.better] for name, each in METRICS.items()},
        "tasks": {record.task: results.task_title(record.task) for record in results.records}
        | {task: results.task_title(task) for grid in grids for task, _ in grid["columns"]},
        "methods": page_records.methods(results),
        "provenance": page_records.PROVENANCE,
        "curves": page_records.curve_titles(),
        "tables": grids,
        "figures": drawn,
        "views": [{key: view[key] for key in ("preset", "note", "claims", "best")} for view in views],
        **page_records.data(results, shown),
    }
    own = compared[(compared.preset == PAPER) & (compared.task != CELEBA_MEAN)]  # which follows from others
    files = {name: _file(name) for name in ("page.css", "page.js", "d3.min.js")}
    return {
        "views": views,
        "rules": [RULES[name] for name in RULES],
        "rule": results.rule,
        "metrics": METRICS,
        "inverted": f"{INVERTED:.0f}",
        "runs": len(results.records),
        "measured": int((own.n > 0).sum()),
        "published": len(own),
        "titles": data["tasks"],
        "paper": PAPER,
        "newest": max((record.provenance.finished[:10] for record in results.records), default=""),
        "commits": sorted({record.provenance.short_commit for record in results.records}),
        "files": {name: markupsafe.Markup(text) for name, text in files.items()},
        "hashes": {name: _hash(text) for name, text in files.items()},
        "data": _json(data),
        "number": _hundredths,
    }


def _file(name: str) -> str:
    """A file beside this module, as it stands between the tags of the page."""
    return "\n" + (resources.files("benchmark.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls an inline script or style by."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") + "'"


def _json(value: Context) -> markupsafe.Markup:
    """JSON that may stand inside of HTML."""
    text = msgspec.json.encode(value).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return markupsafe.Markup(text)


def _hundredths(value: int | None) -> str:
    return number(None if value is None else value / 100)


def _readings(left_open: pd.DataFrame, results: Results) -> Sequence[Sequence[str]]:
    """Head and lines of what other readings would change."""
    lines = [
        [
            f"{results.task_title(line['task'])}: {line['subject']}",
            line["reading"],
            f"{line['methods']} ({quoting.counted(line['runs'], 'run')}"
            + (f", {line['collapsed']} collapsed)" if line["collapsed"] else ")"),
            *(each.replace("-", "−") for each in readings.numbers(line, readings.DIFFERENCES)),
        ]
        for line in lines_of(readings.summary(left_open, results.rule))
    ]
    return [["Task", "Reading", "Methods", *readings.DIFFERENCES.values(), "Rank correlation"], *lines] if lines else []
