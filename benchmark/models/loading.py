"""Loading a kept model, and whether it is what was kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import torch
from safetensors import SafetensorError

from benchmark.errors import UserError, readable, unknown
from benchmark.models.building import assembled, probe
from benchmark.models.file import PROBE, describe, read
from benchmark.models.model import Model
from benchmark.rules import LAST, REPORTED, RULES, Rule
from benchmark.store.named import choose
from benchmark.store.record import Record
from benchmark.training import networks
from benchmark.training.recording import package_of

TOLERANCE = 1e-3  # of the probe, relative to its largest logit; processors differ by less, other networks by more


def load(run: str | Path, select: str | None = None, *, results: str | Path = "results", device: str = "cpu") -> Model:
    """The kept model of a run, in the epoch that the rule ``select`` chose, on a device.

    Without ``select`` it is the one of the rule that tables usually show, or of the last epoch where there is no such.

    ``run`` is its id, a part of it that no other run has, or the path of its record. Raises UserError where there is
    none, or where its file is damaged or not what this version of the code can build.
    """
    if select and select not in RULES:
        raise unknown("rule", select, RULES)
    store, record = choose(str(run), Path(results))
    paths = store.models_of(record.run)
    select = select or (REPORTED.name if REPORTED.name in paths else LAST.name)
    rule = RULES[select]
    if select not in paths:
        there = f"it has those of {', '.join(paths)}" if paths else "it has none of another rule either"
        raise UserError(
            f"{record.run.id} has no kept model of the rule {select} ({there}): models are kept where a run is trained "
            f"with --keep and --select {select}, a run that has a record with --again, too."
        )
    path = paths[select]
    try:
        tensors, told = read(path)
        expected = describe(record, rule, store.digest(record.run))
        if wrong := [name for name in expected if told.get(name) != expected[name]]:
            raise ValueError(f"its {wrong[0]} is not that of the record")
        shape = tuple(json.loads(told["image_shape"]))
        said = tensors.pop(PROBE)
        found = assembled(record, shape, tensors)
        says = probe(found["target"], record, shape)
        if not torch.allclose(says, said, rtol=0, atol=TOLERANCE * max(1.0, float(said.abs().max()))):
            raise ValueError("it does not say what it said when it was kept, so that its code has changed since")
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{path} cannot be used ({reason[:300]}): it was kept at commit {record.provenance.short_commit}; remove "
            "it and train its run anew with --keep --again."
        ) from error
    where, notes = torch.device(device), tuple(_notes(record, rule))
    as_trained = "bf16" if record.provenance.precision == "bfloat16" and networks.computes_in_bf16(where) else "float32"
    for network in found.values():
        networks.place(network, where, as_trained)
    return Model(
        record, rule, found["target"], found.get("biased"), shape, told["fit"], where, path, told["predictions"], notes
    )


def _notes(record: Record, rule: Rule) -> Iterator[str]:
    """Why the model may be of no use, or not what a new run would give."""
    if record.collapsed(rule):
        yield "The model collapsed: it is at chance, answers everything alike, or has turned the bias round."
    for warning in record.warnings:
        yield f"Its training warned: {warning}"
    if record.stale:
        yield f"The model is stale: it was trained with {readable(record.stale)}."
    source = record.provenance
    try:
        now = package_of(record.settings["network"])
    except PackageNotFoundError:  # which building it would have told
        now = ""
    if source.network_package and source.network_package != now:
        yield f"Its network is that of {source.network_package}; now there is {now or 'none'}."
