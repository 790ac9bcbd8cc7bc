"""The file of a kept model: of safetensors, with all that predicting takes in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from benchmark.rules import Rule
from benchmark.store.record import Record

FORMAT = "1"
PROBE = "probe"  # a tensor of the file: what the target said of two made-up images, computed in float32 on a CPU


def describe(record: Record, rule: Rule, record_digest: str) -> dict[str, str]:
    """What a file says of itself and the record knows, too."""
    source, settings = record.provenance, record.settings
    return {
        "format": FORMAT,
        "run": record.run.id,
        "rule": rule.name,
        "epoch": str(record.epoch(rule)),
        "record": record_digest,
        "data": source.data,
        "classes": json.dumps(record.groups.classes, ensure_ascii=False),
        "mean": json.dumps(settings["mean"]),
        "std": json.dumps(settings["std"]),
        "network": settings["network"],
        "network_version": source.network_version,
        "network_package": source.network_package,
        "method_version": source.method_version,
        "loop_version": str(source.loop_version),
        "torch": source.torch,
    }


def digest(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    """A SHA-256 of all that a file holds."""
    found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that is whole. Raises ValueError, SafetensorError or OSError for another."""
    with safe_open(path, "pt") as file:
        told: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    if told.pop("digest", "") != digest(tensors, told):
        raise ValueError("it is damaged: its digest is that of other content")
    return tensors, told
