"""Kept models: the networks of a run after the epoch that a rule chose, in files that say what they are.

A file of safetensors holds the weights under "target." and, where there is one, "biased.", with all that predicting
takes in its metadata. Nothing of it is believed before it was held against the run's record, its own digest, and what
the network said when it was kept. Beside it lie its predictions on the test and validation images.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as packed
from torch import Tensor

import methods
from benchmark.errors import UserError, readable, unknown
from benchmark.rules import LAST, REPORTED, RULES, Rule
from benchmark.store.named import choose
from benchmark.store.record import Record
from benchmark.store.store import ANSWERS, WEIGHTS, Models
from benchmark.training import networks
from benchmark.training.loader import DeviceSplit
from benchmark.training.recording import package_of
from benchmark.training.snapshots import networks as networks_of
from benchmark.training.training import Training
from datasets import Split
from datasets.listing import Fit
from datasets.prepared import FITS, fitted, read
from methods.base import Method, Network, TrainingSet

FORMAT = "1"
PROBE = "probe"  # a tensor of the file: what the target said of two made-up images, computed in float32 on a CPU
TOLERANCE = 1e-3  # of the probe, relative to its largest logit; processors differ by less, other networks by more
AGREEMENT = 0.01  # share of the test images that a kept model may answer otherwise than was counted in training


@dataclass(frozen=True)
class Model:
    """A kept model, ready to predict: its target ``network``, in evaluation mode, and the ``biased`` one if there is.

    ``classes`` are named in the order of the network's logits. ``notes`` are what a user must know.
    """

    record: Record
    rule: Rule
    network: Network
    biased: Network | None
    image_shape: tuple[int, ...]
    fit: str
    device: torch.device
    path: Path
    digest_of_predictions: str
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.record.groups.classes)

    @property
    def epoch(self) -> int:
        return self.record.epoch(self.rule) or 0

    @property
    def title(self) -> str:
        """Such as "my_birds/jtt/0123456789ab-s0, epoch 7 of 10 (last epoch)"."""
        return f"{self.record.run.id}, epoch {self.epoch} of {self.record.answers.epochs[-1]} ({self.rule.note})"

    def read(self, path: Path) -> np.ndarray:
        """``prepare`` of an image file. Raises UserError, naming it, where that cannot be read."""
        return read(path, *self._fit()).transpose(2, 0, 1)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """An image as those of the data set are prepared: uint8 [3, size, size].

        Raises UserError for one of more than 8 bits a channel, and where the network takes no square images.
        """
        return fitted(image, *self._fit()).transpose(2, 0, 1)

    def _fit(self) -> tuple[Fit, int]:
        """How an image is brought to its size, and that size in pixels."""
        height, width = self.image_shape[1:]
        if self.fit not in FITS:
            raise unknown("way to prepare an image", self.fit, FITS)
        if height != width:
            raise UserError(f"The network takes images of {width} × {height} pixels: prepare them yourself.")
        return FITS[self.fit], height

    def transform(self, image: Image.Image) -> Tensor:
        """What ``network`` takes, float32 [3, size, size]: the image prepared and normalised. Raises as ``prepare``."""
        split = self._split(self.prepare(image)[None])
        return split.normalise(split.images.to(self.device))[0]

    def predict(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities of the classes, float32 [n, C], of images of any size. Raises as ``prepare``."""
        pixels = [self.prepare(image) for image in images]
        return self.probabilities(np.stack(pixels) if pixels else np.empty((0, *self.image_shape), np.uint8))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Those of images as they are prepared, uint8 [n, 3, H, W]."""
        with _threads(self.record):
            return _probabilities(self.network, self._split(pixels))

    def kept_predictions(self) -> dict[str, np.ndarray]:
        """What the network said of its data set when it was kept.

        Of "test" and "validation" images in their order: test_probabilities, float32 [n, C]; test_targets, test_bias,
        int64 [n], bias −1 where unknown; test_files, [n], or none where images come from no files of their own. Raises
        UserError where the file is not there or not what was stored.
        """
        path = self.path.with_suffix(ANSWERS)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): restore it.") from error
        if hashlib.sha256(content).hexdigest() != self.digest_of_predictions:
            raise UserError(f"{path} is damaged: restore it, or predict anew.")
        with np.load(io.BytesIO(content)) as stored:
            return dict(stored)

    def _split(self, pixels: np.ndarray) -> DeviceSplit:
        labels = np.zeros(len(pixels), np.int64)
        return DeviceSplit(Split(pixels, labels, labels), 1, self.record.settings, self.device)


def _probabilities(network: Network, split: DeviceSplit) -> np.ndarray:
    """Float32 [n, C]. What is too small for a normal number is 0, as it is where training computes."""
    if not len(split):
        return np.empty((0, network.classifier.out_features), np.float32)
    found = split.logits(network).softmax(1)
    return torch.where(found < torch.finfo(found.dtype).tiny, 0, found).cpu().numpy()


@contextmanager
def _threads(record: Record) -> Iterator[None]:
    """As many as training has: one for the small network, by which its sums are the same on any number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if record.settings["network"] == "mlp" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Building


def _assembled(record: Record, image_shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> dict[str, Network]:
    """The networks of a run's method by role, on the CPU, with these weights. Raises ValueError where they do not fit.

    The method itself is built, since one may have changed the network that it was given.
    """
    try:
        method = _method(record, image_shape)
    except UserError:
        raise
    except Exception as error:  # whatever a class raises that has other options by now
        raise ValueError(f"its method cannot be built by this version of the code: {error}") from error
    found = networks_of(method)
    state = {f"{role}.{name}": each for role, network in found.items() for name, each in network.state_dict().items()}
    if state.keys() != tensors.keys() or any(state[name].shape != tensors[name].shape for name in state):
        raise ValueError("its weights are those of another network than this version of the code builds")
    for role, network in found.items():
        network.load_state_dict({name: tensors[f"{role}.{name}"] for name in network.state_dict()})
        network.eval().requires_grad_(False)
    return found


def _method(record: Record, image_shape: tuple[int, ...]) -> Method:
    """One of the run's kind, told of a data set with an image in each group: its networks are of the same form."""
    kind, groups = methods.get(record.method), record.groups
    targets = torch.arange(len(groups.classes)).repeat_interleave(len(groups.biases))
    bias = torch.arange(len(groups.biases)).repeat(len(groups.classes))
    data = TrainingSet(
        targets=targets,
        bias=bias if kind.uses_bias_labels else None,
        aligned_bias=torch.tensor(groups.aligned_bias) if kind.uses_bias_labels else None,
        num_classes=len(groups.classes),
        num_biases=len(groups.biases),
        validation_targets=targets if kind.uses_validation else None,
        validation_bias=bias if kind.uses_validation_bias else None,
    )
    settings = {**record.settings, "pretrained": False}

    def new_network() -> Network:
        network = networks.of_run(settings, image_shape, data.num_classes)
        for module in network.modules():
            if hasattr(module, "transform_input"):  # torchvision: ImageNet's weights come with a scaling of their own
                module.transform_input = record.settings.get("pretrained", False)
        return network

    with torch.random.fork_rng(devices=[]):
        return kind(data, new_network, record.settings["epochs"], **record.settings["options"])


def _probe(network: Network, record: Record, image_shape: tuple[int, ...]) -> Tensor:
    """What a network on the CPU says of two images of all kinds of values, float32 [2, C]."""
    pixels = (np.arange(2 * np.prod(image_shape)) * 37 % 251).astype(np.uint8).reshape(2, *image_shape)
    labels = np.zeros(2, np.int64)
    return DeviceSplit(Split(pixels, labels, labels), 1, record.settings, torch.device("cpu")).logits(network)


# Keeping


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
        told = _told(self.record, self.rule, record_digest)
        told |= {"image_shape": json.dumps(self.image_shape), "fit": self.fit, "rule_title": self.rule.note}
        told["predictions"] = hashlib.sha256(self.predictions).hexdigest()
        tensors = {name: each.contiguous() for name, each in self.tensors.items()}
        told["digest"] = _digest(tensors, told)
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
    network = _assembled(record, shape, tensors)["target"]
    probe = _probe(network, record, shape)
    networks.place(network, training.device, record.settings["precision"])
    answers: dict[str, np.ndarray] = {}
    for name in ("test", "validation"):
        images, labels = getattr(training.splits, name), getattr(training.dataset, name)
        answers |= {
            f"{name}_probabilities": _probabilities(network, images),
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
    return Kept(record, rule, shape, training.dataset.fit, {**tensors, PROBE: probe}, buffer.getvalue())


def _told(record: Record, rule: Rule, record_digest: str) -> dict[str, str]:
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


def _digest(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    """A SHA-256 of all that a file holds."""
    found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


# Loading


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
        tensors, told = _read(path)
        expected = _told(record, rule, store.digest(record.run))
        if wrong := [name for name in expected if told.get(name) != expected[name]]:
            raise ValueError(f"its {wrong[0]} is not that of the record")
        shape = tuple(json.loads(told["image_shape"]))
        probe = tensors.pop(PROBE)
        found = _assembled(record, shape, tensors)
        said = _probe(found["target"], record, shape)
        if not torch.allclose(said, probe, rtol=0, atol=TOLERANCE * max(1.0, float(probe.abs().max()))):
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


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that is whole. Raises ValueError, SafetensorError or OSError for another."""
    with safe_open(path, "pt") as file:
        told: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    if told.pop("digest", "") != _digest(tensors, told):
        raise ValueError("it is damaged: its digest is that of other content")
    return tensors, told


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
