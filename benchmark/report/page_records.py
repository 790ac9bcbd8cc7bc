"""What the page says of stored runs: their settings, provenance and curves, and which go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import markupsafe
import msgspec

from benchmark.metrics import METRICS
from benchmark.plan.run import PAPER
from benchmark.report.words import Context
from benchmark.store.record import NETWORKS, Record, numbers
from benchmark.store.results import Results, Series

CURVES = {
    "bias_acc": f"{METRICS['bias_acc'].label}",
    **{
        name: f"{METRICS[name].panel}, training samples"
        for name in ("aligned_error", "conflicting_error", "aligned_loss", "conflicting_loss")
    },
    **{name: METRICS[name].panel for name in ("avg_acc", "worst_acc", "model_bias")},
}


def data(cells: Sequence[Context], results: Results) -> Iterator[markupsafe.Markup]:
    """What the page's script knows, as JSON that may stand inside of HTML, a piece for each record.

    All at once would take several times the space of the records.
    """
    yield from _json('{"cells":', cells)
    separator = ',"records":['
    for series in results.series.values():
        for record in series.records:
            yield from _json(separator, _details(record, series, results))
            separator = ","
    yield from _json('],"metrics":' if results.records else ',"records":[],"metrics":', CURVES)
    yield from _json(',"curves":', _choices(results), "}")


def _json(before: str, value: Any, after: str = "") -> Iterator[markupsafe.Markup]:
    text = msgspec.json.encode(value).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    yield markupsafe.Markup(f"{before}{text}{after}")


def _details(record: Record, series: Series, results: Results) -> Context:
    """What the page says of a record on demand, and its curves."""
    return {
        **summary(record, series, results),
        "path": f"runs/{record.run.id}.json",
        "settings": dict(_flat(record.settings)),
        "provenance": record.provenance,
        "warnings": record.warnings,
        "curves": {
            network: _curve(record, network)
            for network in NETWORKS
            if any(getattr(phase, network) for phase in record.phases)
        },
    }


def _curve(record: Record, network: str) -> dict[str, list[float | None]]:
    """The network's metrics after each of its epochs, rounded to what a picture shows."""
    own = [curves.measured for phase in record.phases if (curves := getattr(phase, network))]
    found: dict[str, list[float | None]] = {}
    for metric in CURVES:
        values = [value for measured in own if metric in measured for value in numbers(measured[metric])]
        if any(value is not None for value in values):
            found[metric] = [None if value is None else float(f"{value:.4g}") for value in values]
    return found


def summary(record: Record, series: Series, results: Results) -> Context:
    return {
        "task": results.task_title(record.task),
        "method": results.names.methods.get(record.method, record.method),
        "preset": record.preset,
        "changes": list(map(str, series.changes or ())),
        "seed": record.seed,
        "commit": record.provenance.short_commit,
        "finished": record.provenance.finished[:10],
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings with the names of nested ones joined by dots; a method's own stand without a prefix."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, "" if key == "options" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _choices(results: Results) -> list[Context]:
    """The runs whose curves can be shown together: those of one task and preset. Most runs first."""
    order = {method: place for place, method in enumerate(results.names.methods)}
    groups: dict[tuple[str, str], list[tuple[tuple[Any, ...], int]]] = {}
    place = 0
    for series in results.series.values():
        changes = list(map(str, series.changes or ()))
        for record in series.records:
            method = record.method
            rank = (order.get(method, len(order)), method, len(changes), changes, record.seed)
            groups.setdefault((record.task, record.preset), []).append((rank, place))
            place += 1
    return [
        {
            "title": f"{results.task_title(task)}{'' if preset == PAPER else f' ({preset} preset)'}",
            "runs": [number for _, number in sorted(members)],
        }
        for (task, preset), members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
