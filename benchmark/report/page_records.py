"""What the page knows of stored runs: numbers under every rule, provenance, settings and curves, in little space.

What repeats itself, such as commits and settings, is stored once and named by its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.compare import groups, published
from benchmark.metrics import FAIRNESS, METRICS
from benchmark.plan.table import Figure, Table
from benchmark.report import style
from benchmark.report.figures import BIASED_MODELS
from benchmark.report.words import Context, hundredths
from benchmark.rules import LAST, RULES
from benchmark.store.record import NETWORKS, Network, Record
from benchmark.store.results import Results, Series

TESTED = ("avg_acc", "worst_acc", "model_bias")
TRAINED = ("bias_acc", "aligned_error", "conflicting_error", "aligned_loss", "conflicting_loss")
CURVES = (*TESTED, *TRAINED)
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
GAP = len(DIGITS) ** 2 - 1
DECADE = 400  # steps of the code between a loss and ten times as much
LEAST = -7.0  # the power of ten that the smallest loss is


class Pool:
    """Values by the order in which they came, each once."""

    def __init__(self) -> None:
        self.values: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        return self.values.setdefault(value, len(self.values))


def data(results: Results, shown: Sequence[Table]) -> Context:
    """All series and runs, in order of their ids."""
    settings, texts = Pool(), Pool()
    printed = _printed(results, shown)
    return {
        "series": [
            [
                series.id,
                series.settings["preset"],
                series.apart,
                [settings.place(f"{name}\t{value}") for name, value in _flat(series.settings)],
                _curves(series),
                printed.get(series.id, {}),
                _groups(series),
            ]
            for series in results.series.values()
            if series.records
        ],
        "runs": [
            [
                place,
                record.seed,
                [_under(record, name) for name in RULES],
                hundredths(record.bias_accuracy()),
                [texts.place(each) for each in _provenance(record)],
                [texts.place(each) for each in (*record.provenance.data_notes, *record.warnings)],
            ]
            for place, series in enumerate(each for each in results.series.values() if each.records)
            for record in series.records
        ],
        "settings": list(settings.values),
        "texts": list(texts.values),
    }


PROVENANCE = (
    "Commit", "Finished", "Seconds", "Device", "Precision", "PyTorch", "Python", "Threads", "Data", "Validation data",
    "Weights", "Seeds at once", "Stale",
)  # fmt: skip


def _provenance(record: Record) -> tuple[str, ...]:
    """What PROVENANCE names, as text; nothing for what the record does not say."""
    source = record.provenance
    return (
        f"{source.commit or 'unknown'}{' with changes that were not committed' if source.modified else ''}",
        source.finished,
        f"{source.seconds:.0f}",
        source.device,
        source.precision,
        source.torch,
        source.python,
        str(source.threads),
        source.data,
        source.validation_data,
        source.weights or "",
        str(source.seeds_at_once) if source.seeds_at_once > 1 else "",
        record.stale,
    )


def _under(record: Record, rule: str) -> list[int | None] | None:
    """The epoch that a rule chooses, the metrics of the test there in hundredths, and 1 where it collapsed."""
    epoch = record.epoch(RULES[rule])
    if epoch is None:
        return None
    fairness = record.fairness(RULES[rule])
    return [
        epoch,
        *(hundredths(fairness.get(each)) for each in FAIRNESS),
        *([1] if record.collapsed(RULES[rule]) else []),
    ]


def _groups(series: Series) -> list[list[Any]]:
    """Of each group, where these are few: class, bias, whether they are aligned, numbers of training and of test
    images, and the accuracy under every rule, in hundredths; null for what is not known.
    """
    if np.count_nonzero(series.records[0].groups.test) > groups.FEW:
        return []
    by_rule = {rule: list(groups.over_seeds(series.records, rule)) for rule in RULES.values()}
    means = [{each[:3]: hundredths(each.mean) for each in found} for found in by_rule.values()]
    return [
        [
            *each[:3],
            None if math.isnan(each.train) else round(each.train),
            round(each.test),
            [found.get(each[:3]) for found in means],
        ]
        for each in by_rule[LAST]  # an epoch that every run has
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings with the names of nested ones joined by dots; a method's own stand without a prefix."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, "" if key == "options" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _curves(series: Series) -> list[list[Any]]:
    """[network, metric, mean, deviation] of what was measured after each epoch, the deviation over several seeds.

    The network that is tested is the biased one, too, where the paper takes it for one.
    """
    has_biased = any(record.has_biased for record in series.records)
    read: dict[Network, Network] = {"target": "target"}
    if has_biased or series.method in BIASED_MODELS:
        read["biased"] = "biased" if has_biased else "target"
    return [
        [NETWORKS.index(shown), CURVES.index(metric), *_coded(values, logarithmic=metric.endswith("loss"))]
        for shown, network in read.items()
        for metric in (CURVES if shown == "target" else TRAINED)
        if (values := over_seeds(series.records, network, metric)) is not None
    ]


def over_seeds(records: Sequence[Record], network: Network, metric: str) -> np.ndarray | None:
    """A metric [seeds, epochs] in all epochs that every seed has; None where it was not measured."""
    curves = [
        np.concatenate(
            [
                own.measured.get(metric, np.full(len(phase.loss), np.nan))
                for phase in record.phases
                if (own := getattr(phase, network)) is not None
            ]
            or [np.empty(0)]
        )
        for record in records
    ]
    length = min(map(len, curves), default=0)
    values = np.array([curve[:length] for curve in curves], dtype=float)
    return values if length and np.isfinite(values).any() else None


def _coded(values: np.ndarray, logarithmic: bool) -> list[str]:
    mean = _code(values.mean(0), logarithmic)
    return [mean, _code(values.std(0, ddof=1), logarithmic)] if len(values) > 1 else [mean]


def _code(values: np.ndarray, logarithmic: bool) -> str:
    """Two letters a value: tenths of a percent, or the logarithm of a loss."""
    return "".join(
        DIGITS[code // len(DIGITS)] + DIGITS[code % len(DIGITS)]
        for value in values.tolist()
        for code in [_place(value, logarithmic)]
    )


def _place(value: float, logarithmic: bool) -> int:
    if math.isnan(value):
        return GAP
    if not logarithmic:
        return int(f"{value:.1f}".replace(".", ""))
    place = round((math.log10(value) - LEAST) * DECADE) if value > 0 else 0
    return min(max(place, 0), GAP - 1)


def _printed(results: Results, shown: Sequence[Table]) -> dict[str, dict[str, float]]:
    """The paper's numbers of a series, by the place of the metric in CURVES."""
    found: dict[str, dict[str, float]] = {}
    for table in shown:
        if isinstance(table, Figure) or table.overrides:
            continue
        for row in table.rows:
            if row.epoch is not None:
                continue
            for task in table.tasks:
                for metric in table.metrics:
                    value = published.numbers().get((table.name, row.key, task, metric))
                    if value is not None:
                        found.setdefault(results.cell(table, row, task).id, {})[str(CURVES.index(metric))] = value
    return found


def methods(results: Results) -> dict[str, list[str]]:
    """Title, marks, colour and dash of every method, those of the recipes first."""
    known = [*results.names.methods, *sorted({record.method for record in results.records} - {*results.names.methods})]
    return {
        method: [results.names.methods.get(method, method), results.mark(method), *style.look(method)]
        for method in known
    }


def curve_titles() -> list[list[str]]:
    """Title and unit of each of CURVES."""
    return [[METRICS[metric].panel, METRICS[metric].unit] for metric in CURVES]
