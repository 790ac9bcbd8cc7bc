"""What the page ``report.html`` says of stored runs: their settings, provenance and curves, and which go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark import recipes, tables
from benchmark.errors import UserError
from benchmark.records import Record, run_of

Context = dict[str, Any]
CURVES = {
    "bias_acc": "Bias Accuracy (%)",
    "aligned_error": "Error on aligned training samples (%)",
    "conflicting_error": "Error on conflicting training samples (%)",
    "aligned_loss": "Loss of aligned training samples",
    "conflicting_loss": "Loss of conflicting training samples",
    "avg_acc": "Average group accuracy (%) ↑",
    "worst_acc": "Worst group accuracy (%) ↑",
    "model_bias": "Model bias (%) ↓",
}


def details(record: Record) -> Context:
    """What the page says of a record on demand, and its curves."""
    return {
        **summary(record),
        "path": f"runs/{run_of(record).id}.json",
        "settings": dict(_flat(record["settings"])),
        "provenance": record["provenance"],
        "warnings": record["warnings"],
        "curves": {
            network: _curve(record["curves"], network)
            for network in ("target", "biased")
            if any(network in entry for entry in record["curves"])
        },
    }


def _curve(entries: Sequence[Mapping[str, Any]], network: str) -> dict[str, list[float | None]]:
    """The network's metrics after each of its epochs, rounded to what a picture shows."""
    own = [entry[network] for entry in entries if network in entry]
    return {
        metric: [None if (value := each.get(metric)) is None else float(f"{value:.4g}") for each in own]
        for metric in CURVES
        if any(each.get(metric) is not None for each in own)
    }


def summary(record: Record) -> Context:
    tasks, methods = recipes.tables()
    task, method = record["task"], record["method"]
    return {
        "task": tasks[task]["title"] if task in tasks else task,
        "method": methods[method]["title"] if method in methods else method,
        "preset": record["preset"],
        "changes": _changes(record),
        "seed": record["seed"],
        "commit": tables.commit(record),
        "finished": (record["provenance"].get("finished") or "")[:10],
    }


def _changes(record: Record) -> list[str]:
    """What the record's settings have apart from the recipe of its task and preset, or nothing if there is none."""
    try:
        return [str(change) for change in recipes.changes(record["settings"])]
    except UserError:  # a task or method of somebody's own
        return []


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings with the names of nested ones joined by dots; a method's own stand without a prefix."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, "" if key == "options" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def choices(stored: Mapping[str, Record]) -> list[Context]:
    """The runs whose curves can be shown together: those of one task and preset. Most runs first."""
    found = list(stored.values())
    groups: dict[tuple[str, str], list[int]] = {}
    for number, record in enumerate(found):
        groups.setdefault((record["task"], record["preset"]), []).append(number)
    known = list(recipes.tables()[1])
    order = {method: position for position, method in enumerate(known)}
    return [
        {
            "title": f"{tables.title(task) if task in recipes.tables()[0] else task}{_preset_note(preset)}",
            "runs": sorted(numbers, key=lambda number: _place(found[number], order)),
        }
        for (task, preset), numbers in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _place(record: Record, order: Mapping[str, int]) -> tuple[Any, ...]:
    changes = _changes(record)
    return order.get(record["method"], len(order)), record["method"], len(changes), changes, record["seed"]


def _preset_note(preset: str) -> str:
    return "" if preset == recipes.PAPER else f" ({preset} preset)"
