"""A record as its file: read and written, found to contradict itself, and compared with another of the same run.

The file is JSON, one curve and one row of counts a line, so that a difference between two can be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from benchmark import metrics
from benchmark.store.record import MEASURED, NETWORKS, Answers, Counts, Groups, Number, PhaseCurves, Record, numbers

LARGEST = float(np.finfo(np.float32).max)  # no loss that is measured is larger
SETTINGS: dict[str, type | tuple[type, ...]] = {
    "dataset": str, "network": str, "balance": (int, float), "epochs": int, "data": dict, "options": dict,
}  # fmt: skip
"""Without which no reader of records can do, and their types; of others those of older versions may differ."""
ROUNDING = 1e-9  # by which a mean of percentages may miss its bounds


def faults(record: Record) -> Iterator[str]:
    """What contradicts itself: lengths, shapes and counts that cannot be (methods' consistency relations)."""
    if any(record.settings.get(key) != getattr(record, key) for key in ("task", "method", "preset")):
        yield "its settings are not those of its task, method and preset"
    lacking = [key for key, kind in SETTINGS.items() if not isinstance(record.settings.get(key), kind)]
    if lacking:
        yield f"its settings lack {', '.join(lacking)}, or have them of another kind"
        return
    if record.settings["dataset"] == "folder" and not isinstance(record.settings["data"].get("folder"), str):
        yield "its settings do not name the folder of its images"
    for phase in record.phases:
        if phase.loss.ndim != 1:
            yield f"the loss of phase '{phase.name}' is no curve"
        for network in NETWORKS:
            curves = getattr(phase, network)
            if curves and any(each.shape != phase.loss.shape for each in curves.measured.values()):
                yield f"the curves of phase '{phase.name}' are not of one length"
                return
    shape = len(record.groups.classes), len(record.groups.biases)
    counts = {"groups.train": record.groups.train, "groups.test": record.groups.test}
    counts |= {f"train.{network}": each for network, each in record.train.items()}
    for name, each in counts.items():
        if len(each) != shape[0] or {*map(len, each)} != {shape[1]}:
            yield f"the counts of {name} do not have shape {shape}"
            return
    if len(record.groups.aligned_bias) != shape[0] or max(record.groups.aligned_bias, default=0) >= shape[1]:
        yield "its classes do not have a bias value each that they go with"
        return
    scored = record.groups.scored
    if scored is not None and (len(scored) != shape[0] or {*map(len, scored)} != {shape[1]}):
        yield f"groups.scored does not have shape {shape}"
        return
    if not np.asarray(record.groups.test)[... if scored is None else np.asarray(scored)].any():
        yield "it has no test image of the groups that accuracy is taken over"
        return
    if not record.train:
        yield "it lacks the counts of the training set"
    for network, each in record.train.items():
        if (np.asarray(each) > np.asarray(record.groups.train)).any():
            yield f"train.{network}: a group has more correct answers than samples"
    yield from _faults_of_tests(record.answers, record.groups)
    gaps = _gaps(record.groups)
    for phase in record.phases:
        yield from _faults_of_curves(phase, gaps)


def _faults_of_tests(answers: Answers, groups: Groups) -> Iterator[str]:
    epochs = answers.epochs
    if not epochs or epochs != sorted(set(epochs)) or epochs[0] < 1:
        yield "answers.epochs are not epochs in their order"
        return
    if (answers.validation is None) != (groups.validation is None):
        yield "validation images were counted without a size of their groups, or the other way round"
        return
    for name, right, sizes in (
        ("test", answers.test, groups.test),
        ("validation", answers.validation, groups.validation),
    ):
        if right is None or sizes is None:
            continue
        if len(sizes) != len(groups.classes) or {*map(len, sizes)} not in ({1}, {len(groups.biases)}):
            yield f"the sizes of groups.{name} are not those of its classes"
            return
        total = np.asarray(sizes).ravel()
        if right.shape != (len(epochs), len(total)):
            yield f"answers.{name} does not have shape {(len(epochs), len(total))}"
            return
        if (right > total).any() or (right < 0).any():
            yield f"answers.{name}: a group has more correct answers than samples, or fewer than none"
    total = np.asarray(groups.test)
    correct = answers.test[-1].reshape(total.shape)
    yield from (f"answers.test: {fault}" for fault in metrics.inconsistencies(correct, total))


def _faults_of_curves(phase: PhaseCurves, gaps: set[str]) -> Iterator[str]:
    """Numbers that no measurement gives, and metrics but for ``gaps`` that lack an epoch that has others."""
    if not (np.abs(phase.loss) <= LARGEST).all():
        yield f"the loss of phase '{phase.name}' is no number, or too large, after some epoch"
    for network in NETWORKS:
        curves = getattr(phase, network)
        known = {name: ~np.isnan(each) for name, each in curves.measured.items()} if curves else {}
        for name, own in known.items():
            place, values = f"{name} of the {network} network in phase '{phase.name}'", curves.measured[name][own]
            least, most = (0, LARGEST) if name.endswith("_loss") else (-ROUNDING, 100 + ROUNDING)
            if ((values < least) | (values > most)).any():
                yield f"{place} has a number that cannot be"
            if name not in gaps and any((other & ~own).any() for other in known.values()):
                yield f"{place} lacks an epoch that was measured"


def _gaps(groups: Groups) -> set[str]:
    """The metrics that groups of these sizes do not have."""
    train, tested = np.asarray(groups.train), np.asarray(groups.test) > 0
    aligned = metrics.aligned_mask(train.shape, np.asarray(groups.aligned_bias))
    gaps: set[str] = set()
    for name, mask in (("aligned", aligned), ("conflicting", ~aligned)):
        if not train[mask].any():
            gaps |= {"bias_acc", f"{name}_error", f"{name}_loss"}
    if (tested.sum(1) < 2).any() or (groups.told_by and not tested[aligned].all()):
        gaps |= {"model_bias", "max_min_bias"}
    return gaps


def differences(here: Record, there: Record) -> list[str]:
    """Where the numbers of two records of one run differ, the first place of each part; nothing where they do not.

    Numbers are the same or not: a last digit that differs is a difference. What is no number does not count: when,
    where and how fast it was trained, by which version of the code, on data of which fingerprint, with which warnings.
    """
    parts = ((name, *(_plain(getattr(record, name)) for record in (here, there))) for name in MEASURED)
    return [found for part in parts if (found := _difference(*part))]


def _difference(place: str, here: Any, there: Any) -> str:
    """The first place at or within ``place`` where two values of a file differ, with both; nothing where none does."""
    members: Iterable[tuple[str, Any, Any]]
    if isinstance(here, dict) and isinstance(there, dict) and here.keys() == there.keys():
        members = ((f"{place}.{key}", here[key], there[key]) for key in here)
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        members = ((f"{place}[{number}]", *pair) for number, pair in enumerate(zip(here, there, strict=True)))
    elif isinstance(here, (dict, list)) or isinstance(there, (dict, list)):
        return f"{place} has other entries"
    else:
        return "" if here == there else f"{place} is {here} here and {there} there"
    return next((found for each in members if (found := _difference(*each))), "")


def _array(kind: type, value: Any) -> np.ndarray:
    """A curve from the file, or answers: a list of numbers, or one of lists of whole numbers."""
    try:
        if isinstance(value, list) and value and isinstance(value[0], list):
            return np.array(msgspec.convert(value, Counts), np.int64).reshape(len(value), len(value[0]))
        return np.array(msgspec.convert(value, list[Number]), np.float64)
    except OverflowError as error:
        raise ValueError(str(error)) from error


def _list(value: Any) -> Any:
    """A curve or answers for the file."""
    return value.tolist() if value.ndim == 2 else numbers(value)


class Head(msgspec.Struct, frozen=True):
    """What every record says first, of whatever schema it is."""

    schema: int


def schema(content: bytes) -> int:
    """The schema of a record; 0 where it does not say, hence is damaged."""
    try:
        return msgspec.json.decode(content, type=Head).schema
    except (ValueError, RecursionError):
        return 0


_decoder = msgspec.json.Decoder(Record, dec_hook=_array)


def decode(content: bytes) -> Record:
    """The record of a file. Raises ValueError, saying what is wrong, for what is none or contradicts itself."""
    try:
        record = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from error
    for fault in faults(record):
        raise ValueError(fault)
    return record


def encode(record: Record) -> str:
    """The record as text. Raises ValueError for one that contradicts itself."""
    for fault in faults(record):
        raise ValueError(f"The record of {record.run} is invalid: {fault}.")
    return f"{_layout(_plain(record))}\n"


def _plain(value: Any) -> Any:
    """A record, or a part of one, as the dicts, lists and numbers that its file holds."""
    return msgspec.to_builtins(value, enc_hook=_list)


def _layout(value: Any, indent: str = "") -> str:
    """JSON in which a list of plain values takes one line and everything else a line for each of its members."""
    if isinstance(value, Mapping) and value:
        members: Iterable[str] = (
            f"{json.dumps(key, ensure_ascii=False)}: {_layout(each, indent + ' ')}" for key, each in value.items()
        )
    elif isinstance(value, list) and any(isinstance(each, (list, dict)) for each in value):
        members = (_layout(each, indent + " ") for each in value)
    else:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    opening, closing = "{}" if isinstance(value, Mapping) else "[]"
    separator = f",\n{indent} "
    return f"{opening}\n{indent} {separator.join(members)}\n{indent}{closing}"
