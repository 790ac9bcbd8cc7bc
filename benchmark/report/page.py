"""The page ``report.html``: every number beside the paper's, where it comes from, and what is missing, in one file.

The look of it stands in page.html, page.css and page.js beside this module.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import jinja2
import pandas as pd

from benchmark.compare import fidelity, readings, verdicts
from benchmark.compare.claims import CLAIMS, Claim
from benchmark.metrics import METRICS
from benchmark.plan.ours import QUICK
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.run import PAPER
from benchmark.plan.table import Figure, Table
from benchmark.report import figures, page_records, style
from benchmark.report.page_tables import PageTable, anchor, command, missing, number_cells
from benchmark.report.words import Context, lines_of, number, signed
from benchmark.store.atomic import write_atomically
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
    Pictures are those in figures/, drawn where there are none yet.
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


def page(
    results: Results,
    variants: Iterable[Table],
    compared: pd.DataFrame,
    judged: pd.DataFrame,
    left_open: pd.DataFrame,
) -> Context:
    """Everything that the template shows."""
    numbers = {record.run.id: place for place, record in enumerate(results.records)}
    quick = [QUICK] if any(results.measured(QUICK, task) for task in QUICK.tasks) else []
    shown: list[Table] = [*TABLES.values(), *FIGURES.values(), *quick, *variants]
    near = fidelity.overall(compared)
    records = [
        page_records.summary(record, series, results) for series in results.series.values() for record in series.records
    ]
    grids = [PageTable.of(table, results, numbers).context() for table in shown if not isinstance(table, Figure)]
    own = near[near.preset == PAPER]
    return {
        "tables": grids,
        "figures": [each for table in shown for each in _figures(table, results)],
        "findings": list(_findings(shown, fidelity.compared(compared), lines_of(near), results)),
        "missing": [each for table in shown for each in missing(table, results)],
        "claims": _claims(judged, results),
        "verdicts": verdicts.count(judged[(judged.preset == PAPER) & (judged.scope == "paper")]),
        "fidelity": _fidelity(near, fidelity.columns(compared), readings.summary(left_open, results.rule), results),
        "records": records,
        "rule": results.rule.note,
        "published": own.published.sum(),
        "measured": own.measured.sum(),
        "newest": max((record["finished"] for record in records), default=""),
        "commits": sorted({record.provenance.short_commit for record in results.records}),
        "data": page_records.data(number_cells(grids), results),
    }


def _findings(
    shown: Sequence[Table], compared: pd.DataFrame, near: Sequence[Context], results: Results
) -> Iterator[Context]:
    """Of each table: how far the measured numbers are from the paper's, and where another method is the best."""
    for table in shown:
        for line in near:
            if (
                (line["table"], line["preset"]) == (table.name, table.preset)
                and not table.overrides
                and line["measured"]
            ):
                own = compared[(compared.table == table.name) & (compared.preset == table.preset)]
                columns, others = _best_methods(table, own[own.task != table.average], results)
                yield {
                    **line,
                    "heading": f"{table.heading}: {table.title}",
                    "modified": table.modified,
                    "id": anchor(table.stem),
                    "distance": number(line["difference"]),
                    "correlation": number(line["rank_correlation"]),
                    "all_columns": columns,
                    "same": columns - sum(map(len, others.values())),
                    "others": [(*pair, names) for pair, names in others.items()],
                }


def _best_methods(
    table: Table, compared: pd.DataFrame, results: Results
) -> tuple[int, dict[tuple[str, str], list[str]]]:
    """The number of columns with a best method, and those where it is another one than the paper's.

    The latter by (measured, published) methods; only methods without bias labels compete.
    """
    titles = {row.key: results.row_title(row) for row in table.rows}
    fair = compared[~compared.method.isin(results.use_bias_labels) & (compared.collapsed == 0)]
    columns, others = 0, dict[tuple[str, str], list[str]]()
    for (task, metric), column in fair.groupby(["task", "metric"], sort=False):
        if len(column) < 2:
            continue
        columns += 1
        measured, printed = (_best(column.set_index("method")[values], str(metric)) for values in ("mean", "paper"))
        if not set(measured) & set(printed):
            pair = (" and ".join(titles[key] for key in measured), " and ".join(titles[key] for key in printed))
            name = f"{METRICS[str(metric)].head} on {results.task_title(str(task))}"
            others.setdefault(pair, []).append(name)
    return columns, others


def _best(values: pd.Series, metric: str) -> list[str]:
    values = values.astype(float).round(2)
    return list(values.index[values == (values.min() if METRICS[metric].better == "lower" else values.max())])


def _claims(judged: pd.DataFrame, results: Results) -> list[Context]:
    """The paper's claims, each with its verdicts on measured tasks and the tasks that are not measured."""
    return [_claim(place, claim, judged[judged.claim == claim.id], results) for place, claim in enumerate(CLAIMS, 1)]


def _claim(place: int, claim: Claim, lines: pd.DataFrame, results: Results) -> Context:
    return {
        "number": place,
        "sentence": claim.sentence,
        "where": claim.where,
        "verdicts": [_verdict(line, results) for line in lines_of(lines[lines.verdict != verdicts.MISSING])],
        "missing": [results.task_title(task) for task in lines.task[lines.verdict == verdicts.MISSING]],
    }


def _verdict(line: Context, results: Results) -> Context:
    where = "" if line["scope"] == "paper" else ", where the paper does not make the claim"
    return {
        **line,
        "kind": line["verdict"].removesuffix(verdicts.ONE_SEED).replace(" ", "-"),
        "hint": line["verdict"].endswith(verdicts.ONE_SEED),
        "symbol": verdicts.SYMBOLS[line["verdict"]],
        "task": f"{results.task_title(line['task'])}{verdicts.preset_note(line['preset'])}",
        "elsewhere": where,
        "difference": signed(line["difference"]),
        "interval": "–" if pd.isna(line["low"]) else f"{signed(line['low'])} to {signed(line['high'])}",
        "paper": signed(line["paper"]) or "–",
    }


def _fidelity(near: pd.DataFrame, columns: pd.DataFrame, left_open: pd.DataFrame, results: Results) -> Context:
    """Lines of the tables of fidelity: of each table of the paper, each of its columns, and each reading."""
    return {
        "tables": [
            [
                fidelity.HEADINGS[line["table"]] + verdicts.preset_note(line["preset"]),
                f"{line['measured']} of {line['published']}",
                number(line["difference"]) or "–",
                number(line["rank_correlation"]) or "–",
            ]
            for line in lines_of(near)
        ],
        "columns": [
            [
                fidelity.HEADINGS[line["table"]] + verdicts.preset_note(line["preset"]),
                f"{results.task_title(line['task'])}: {METRICS[line['metric']].title}",
                f"{line['methods']} of {line['published']}",
                number(line["difference"]),
                number(line["rank_correlation"]) or "–",
            ]
            for line in lines_of(columns[columns.methods > 0])
        ],
        "readings_head": ["Task", "Reading", "Methods", *readings.DIFFERENCES.values(), "Rank correlation"],
        "readings": [
            [
                results.task_title(line["task"]),
                line["reading"],
                f"{line['methods']} ({line['runs']} runs)",
                *(each.replace("-", "−") for each in readings.numbers(line, readings.DIFFERENCES)),
            ]
            for line in lines_of(left_open)
        ],
    }


def _figures(table: Table, results: Results) -> Iterator[Context]:
    """The pictures of a figure, or of a table's curves; a gap with its command where there are no records."""
    modified = f" ({table.modified})" if table.modified else ""
    folder = results.folder / "figures"
    if isinstance(table, Figure):
        found = [results.cell(table, row, task) for task in table.tasks for row in table.rows]
        panels = "; ".join(filter(None, (panel.title for panel in table.panels)))
        yield {
            "id": anchor(table.stem),
            "heading": table.full_title,
            "caption": figures.caption(table, results),
            "image": _image(folder / f"{results.name(table.stem)}.png", lambda: figures.write_figure(table, results))
            if figures.has_panels(table, results)
            else None,
            "alt": f"Chart of {panels or table.title}. The caption says what is drawn.",
            "command": "" if all(map(len, found)) else command(table, table.tasks, [], results),
        }
    elif figures.has_curves(table):
        for task in table.tasks:
            drawn = [results.row_title(row) for row in table.rows if len(results.cell(table, row, task))]
            if not drawn:
                continue
            yield {
                "id": anchor(f"curves-{table.stem}-{task}"),
                "heading": f"Curves of {table.heading}, {results.task_title(task)}{modified}",
                "caption": "Average group accuracy and model bias on the test images, and Bias Accuracy of the biased "
                "model on the training images, after each epoch; bands are one standard deviation over seeds.",
                "image": _image(folder / f"{table.stem}-{task}.png", lambda: figures.write_curves(table, results)),
                "alt": f"Three line charts over the epochs, of average accuracy, model bias and Bias Accuracy on "
                f"{results.task_title(task)}; one line each for {', '.join(drawn)}. The same curves can be read as "
                "numbers under Curves.",
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
        "width": round(width * 96 / style.DPI),
        "height": round(height * 96 / style.DPI),
    }
