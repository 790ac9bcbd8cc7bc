"""Keeping the models of a training that is over."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from safetensors.torch import save as packed
from torch import Tensor

from benchmark.errors import readable
from benchmark.models.building import assembled, probe
from benchmark.models.file import PROBE, describe, digest
from benchmark.models.model import probabilities
from benchmark.rules import Rule
from benchmark.store.record import Record
from benchmark.store.store import ANSWERS, WEIGHTS, Models
from benchmark.training import networks
from benchmark.training.training import Training

AGREEMENT = 0.01  # share of the test images that a kept model may answer otherwise than was counted in training


@dataclass(frozen=True)
class Kept:
    """What is kept of a run in the epoch of one rule, but for the digest of its record, which is not written yet."""

    record: Record
    rule: Rule
    image_shape: tuple[int, ...]
    fit: str
    tensors: Mapping[str, Tensor] = field(repr=False)
    predictions: bytes = field(repr=False)

    def files(self, record_digest: str) -> dict[str, bytes]:
        """The contents of the model's files by how their names end."""
        told = describe(self.record, self.rule, record_digest)
        told |= {"image_shape": json.dumps(self.image_shape), "fit": self.fit, "rule_title": self.rule.note}
        told["predictions"] = hashlib.sha256(self.predictions).hexdigest()
        tensors = {name: each.contiguous() for name, each in self.tensors.items()}
        told["digest"] = digest(tensors, told)
        return {f"{self.rule.name}{WEIGHTS}": packed(tensors, told), f"{self.rule.name}{ANSWERS}": self.predictions}


def keep(record: Record, training: Training, rules: Sequence[Rule]) -> Models:
    """What ``Store.save`` takes of a finished training: a model for each of the rules, if possible.

    It is built anew of its weights and has to answer as was counted. Says why one is not kept.
    """
    kept = []
    for rule in rules:
        try:
            kept.append(_kept(record, training, rule))
        except Exception as error:  # whatever it is, the record of a long training is not to be lost by it
            print(f"{record.run}: no model of the {rule.title} is kept: {readable(str(error))}.", flush=True)
    return partial(_files, kept)


def _files(kept: Sequence[Kept], record_digest: str) -> dict[str, bytes]:
    return {end: content for each in kept for end, content in each.files(record_digest).items()}


def _kept(record: Record, training: Training, rule: Rule) -> Kept:
    """Raises ValueError, saying why, where the model cannot be had."""
    if why := record.why_not(rule):
        raise ValueError(why)
    snapshot = training.snapshots.taken.get(rule.name)
    if snapshot is None or snapshot["epoch"] != record.epoch(rule):
        raise ValueError(f"epoch {record.epoch(rule)} was trained before --keep was given")
    shape, tensors = training.dataset.image_shape, snapshot["tensors"]
    network = assembled(record, shape, tensors)["target"]
    said = probe(network, record, shape)
    networks.place(network, training.device, record.settings["precision"])
    answers: dict[str, np.ndarray] = {}
    for name in ("test", "validation"):
        images, labels = getattr(training.splits, name), getattr(training.dataset, name)
        answers |= {
            f"{name}_probabilities": probabilities(network, images),
            f"{name}_targets": labels.targets,
            f"{name}_bias": labels.bias,
            f"{name}_files": np.array(labels.files, np.str_),
        }
    right = answers["test_probabilities"].argmax(1) == answers["test_targets"]
    counted = record.correct(rule)
    assert counted is not None  # else there was a reason why not
    found = np.zeros_like(counted)
    np.add.at(found, (answers["test_targets"][right], answers["test_bias"][right]), 1)
    if np.abs(found - counted).sum() > AGREEMENT * len(right):
        raise ValueError("built of its weights it answers otherwise than was counted in training")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **answers)  # type: ignore[arg-type] # that of a flag, which no name is
    return Kept(record, rule, shape, training.dataset.fit, {**tensors, PROBE: said}, buffer.getvalue())
