"""The common loop: trains any method on any dataset, on CPU or GPU, and can be killed and resumed at any time.

Batches come from ``benchmark.loader`` and are augmented and normalised on the device. A step never waits for the
device; numbers are read once an epoch. All randomness comes from one generator that is part of the checkpoint, so
a resumed run ends with the same numbers, bit for bit on the CPU.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import metrics, samplers
from benchmark.errors import unknown
from benchmark.loader import Augmentation, DeviceSplit, memory_format
from benchmark.networks import OPTIONS, build
from benchmark.recipes import Settings, neutral
from benchmark.updates import Updates, is_small
from datasets import BiasedDataset
from methods import get
from methods.base import Batch, Method, Phase, Predict, Sampler, TrainingSet

Entry = dict[str, Any]


class Training:
    """One run in progress: the method, the data on the device, and how far it has come.

    ``report`` is called with each finished epoch's entry of the curves. ``history`` holds these entries, and
    ``best`` the test counts of the epoch with the best plain validation accuracy, which needs no bias labels. Another
    seed, ``same_data_as``, shares its images on the device.
    """

    train: DeviceSplit
    validation: DeviceSplit
    test: DeviceSplit

    def __init__(
        self,
        dataset: BiasedDataset,
        settings: Settings,
        seed: int,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 30,
        report: Callable[[Entry], None] = lambda entry: None,
        same_data_as: Training | None = None,
    ) -> None:
        self.dataset = dataset
        self.settings = neutral() | settings
        self.device = torch.device(device)
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.report = report
        self.generator = torch.Generator().manual_seed(seed)
        self.num_classes, self.num_biases = len(dataset.class_names), len(dataset.bias_names)
        if same_data_as:
            self.train, self.validation, self.test = same_data_as.train, same_data_as.validation, same_data_as.test
        else:
            self.train, self.validation, self.test = (
                DeviceSplit(split, self.num_biases, settings, self.device)
                for split in (dataset.train, dataset.validation, dataset.test)
            )
        self.batch_size = min(settings["batch_size"], len(self.train))
        self.augmentation = Augmentation(settings)
        self.method = self._build_method(seed)
        self.layout = memory_format(self.method)
        self.phases = self.method.phases()
        self.history: list[Entry] = []
        self.warnings: list[str] = []
        self.last: Entry = {}
        self.best: Entry = {}
        self.train_counts: dict[str, Entry] = {}
        self.samples_trained, self.seconds_training, self.seconds = 0, 0.0, 0.0
        self.phase_index, self.epoch = 0, 0
        self._images = torch.empty(0)
        self._predictions: dict[nn.Module, Tensor] = {}
        self._finished_epoch: dict[str, Any] = {}

    def _build_method(self, seed: int) -> Method:
        name = self.settings["method"]
        kind = get(name)
        train = self.dataset.train
        data = TrainingSet(
            targets=torch.from_numpy(train.targets),
            bias=torch.from_numpy(train.bias) if kind.uses_bias_labels else None,
            aligned_bias=torch.as_tensor(self.dataset.aligned_bias) if kind.uses_bias_labels else None,
            num_classes=self.num_classes,
            num_biases=self.num_biases,
        )
        shape = self.dataset.image_shape
        options = {key: self.settings[key] for key in OPTIONS if key in self.settings}
        # Weights are drawn on the CPU, so that a seed means the same initial network on every device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            method = kind(
                data,
                lambda: build(self.settings["network"], shape, self.num_classes, **options),
                self.settings["epochs"],
                **neutral(name) | self.settings["options"],
            )
        method.to(self.device)
        return method.to(memory_format=memory_format(method))

    @property
    def total_epochs(self) -> int:
        return sum(self._epochs(phase) for phase in self.phases)

    @property
    def updates_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.batch_size)

    def _epochs(self, phase: Phase) -> int:
        return phase.epochs if phase.updates is None else math.ceil(phase.updates / self.updates_per_epoch)

    @property
    def phase(self) -> Phase:
        return self.phases[self.phase_index]

    @property
    def position(self) -> tuple[int, int]:
        """Phases and epochs behind it; equal for trainings that can go on together."""
        return self.phase_index, self.epoch

    @property
    def finished(self) -> bool:
        return self.phase_index == len(self.phases)

    def run(self) -> None:
        """Train to the end, from the checkpoint if there is one. Raises TrainingError when the loss diverges."""
        train([self])

    def start(self) -> None:
        """Go to where the checkpoint stands, or to the beginning."""
        self.optimizers = self._new_optimizers()
        self._load()
        self._started = time.perf_counter() - self.seconds
        self._saved = time.monotonic()
        self._end_phases()

    def end_epoch(self, loss: float) -> None:
        """Call the method's hooks, measure, checkpoint and report, after an epoch of that mean loss."""
        phase = self.phase
        self.epoch += 1
        self._call(phase.end_epoch)
        self.history.append({"phase": phase.name, "epoch": self.epoch, "loss": loss, **self._measure(phase)})
        self.seconds = time.perf_counter() - self._started
        if self.checkpoint:
            self._finished_epoch = self._state()
            if time.monotonic() - self._saved >= self.checkpoint_seconds:
                self.save_checkpoint()
                self._saved = time.monotonic()
        self.report(self.history[-1])
        self._end_phases()

    def _end_phases(self) -> None:
        """Go on to the next phase that has an epoch to train."""
        while not self.finished and self.epoch == self._epochs(self.phase):
            self._call(self.phase.end)
            self.go_to(self.phase_index + 1)

    def go_to(self, phase_index: int) -> None:
        """Stand at the beginning of a phase, with new optimisers."""
        self.phase_index, self.epoch = phase_index, 0
        self.optimizers = self._new_optimizers()

    def _new_optimizers(self) -> list[torch.optim.Optimizer]:
        """One fresh Adam for each step of the current phase."""
        if self.finished:
            return []
        return [
            torch.optim.Adam(
                [parameter for network in step.trains for parameter in network.parameters()],
                lr=self._learning_rate_tensor(),
                weight_decay=self.settings["weight_decay"],
                fused=True,
            )
            for step in self.phase.steps
        ]

    @property
    def learning_rate(self) -> float:
        """Of the current epoch: the first, times ``learning_rate_decay`` for every tenth of ``epochs`` behind it.

        Every phase begins anew, and a shorter one is like the beginning of a longer one: stopped early, not annealed.
        """
        tenths = min(10 * self.epoch // self.settings["epochs"], 9)  # a longer one ends like the others
        rate: float = self.settings["learning_rate"] * self.settings["learning_rate_decay"] ** tenths
        return rate

    def _learning_rate_tensor(self) -> Tensor:
        """A tensor, since a CUDA graph goes on reading it where a number would stay what it was at the capture."""
        # The CPU's Adam computes with a double, the GPU's reads a float.
        precision = torch.float64 if self.device.type == "cpu" else torch.float32
        return torch.tensor(self.learning_rate, dtype=precision, device=self.device)

    def begin_epoch(self) -> tuple[Tensor, Tensor]:
        """Set the learning rate and draw sample indices [updates × steps, m] and the augmentation of each sample.

        One row a batch, in the order in which the phase's steps take turns.
        """
        self._predictions.clear()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"].fill_(self.learning_rate)
        phase, updates = self.phase, self.updates_per_epoch
        if phase.updates is not None:
            updates = min(updates, phase.updates - self.epoch * updates)
        order = torch.stack([self._order(phase)[:updates] for _ in phase.steps], 1).flatten(0, 1)
        return order, self.augmentation.draw(len(order), self.batch_size, self.generator)

    def _order(self, phase: Phase) -> Tensor:
        targets = torch.from_numpy(self.dataset.train.targets)
        if phase.sampler == "shuffled":
            return samplers.shuffled(len(targets), self.batch_size, self.generator)
        if phase.sampler == "class_balanced":
            return samplers.class_balanced(targets, self.num_classes, self.batch_size, self.generator)
        if phase.sampler == "weighted":
            return samplers.weighted(self.method.sample_weights.cpu(), self.batch_size, self.generator)
        if phase.sampler != "group_balanced":
            raise unknown("sampler", phase.sampler, get_args(Sampler))
        if not self.method.uses_bias_labels:
            raise ValueError(f"Phase '{phase.name}' balances groups, but its method declares no use of bias labels.")
        groups = self.train.groups.cpu()
        return samplers.weighted(1 / torch.bincount(groups)[groups], self.batch_size, self.generator)

    def batch(self, indices: Tensor, images: Tensor, draws: Tensor) -> Batch:
        """What a method sees of the samples ``indices`` [m], or [S, m] for S seeds, until the next batch."""
        images = self.augmentation.apply(images, draws).contiguous(memory_format=self.layout)
        if self._images.shape != images.shape:
            self._images = torch.empty_like(images, dtype=torch.get_default_dtype())
        return Batch(
            images=self.train.normalise(images, self._images),
            targets=self.train.targets[indices],
            indices=indices,
            bias=self.train.bias[indices] if self.method.uses_bias_labels else None,
        )

    def set_modes(self, trained: tuple[nn.Module, ...]) -> None:
        self.method.eval()
        for network in trained:
            network.train()

    def _call(self, hook: Callable[[Predict], None] | None) -> None:
        """Call a hook of the method, keeping its warnings for the record."""
        if hook is None:
            return
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            hook(self._predict)
        self.warnings += [str(warning.message) for warning in caught]

    def _predict(self, network: nn.Module) -> Tensor:
        """Clean logits [n, C] on the training set, computed once between two epochs."""
        if network not in self._predictions:
            self._predictions[network] = self.train.logits(network)
        return self._predictions[network]

    @torch.no_grad()
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """What the biased network, or the target where there is none, says of the training set, unaugmented.

        The predicted class, int64 [n], and the probability of the label, float32 [n].
        """
        logits = self._predict(self.method.target if self.method.biased is None else self.method.biased)
        score = logits.softmax(1).gather(1, self.train.targets[:, None]).squeeze(1)
        return logits.argmax(1).cpu().numpy(), score.cpu().numpy()

    def _measure(self, phase: Phase) -> Entry:
        """The epoch's entry: clean measurements of the target and biased networks that this phase trains."""
        trained = {network for step in phase.steps for network in step.trains}
        entry: Entry = {}
        if self.method.target in trained:
            entry["target"] = self._measure_training("target", self.method.target) | self._measure_target()
        if self.method.biased is not self.method.target and self.method.biased in trained:
            entry["biased"] = self._measure_training("biased", self.method.biased)
        return entry

    def _measure_training(self, role: str, network: nn.Module) -> Entry:
        logits = self._predict(network)
        counts = self._group_counts(logits, self.train)
        ce = nn.functional.cross_entropy(logits, self.train.targets, reduction="none")
        loss_sum = self._group_sum(ce, self.train)
        total = self.dataset.group_sizes(self.dataset.train)
        aligned = metrics.aligned_mask(total.shape, self.dataset.aligned_bias)
        entry: Entry = {"bias_acc": metrics.bias_accuracy(counts, total, self.dataset.aligned_bias)}
        for name, mask in (("aligned", aligned), ("conflicting", ~aligned)):
            size = total[mask].sum()
            entry[f"{name}_error"] = 100 * (1 - counts[mask].sum() / size) if size else None
            entry[f"{name}_loss"] = loss_sum[mask].sum() / size if size else None
        self.train_counts[role] = counts.astype(int).tolist()
        return _plain(entry)

    def _measure_target(self) -> Entry:
        counts = self._group_counts(self.test.logits(self.method.target), self.test)
        entry: Entry = metrics.fairness(counts, self.dataset.group_sizes(self.dataset.test), self.dataset.scored)
        self.last = {"epoch": self.epoch, "correct": counts.astype(int).tolist()}
        if len(self.validation):
            # Counted over samples, not groups: validation images need no bias label.
            right = self.validation.logits(self.method.target).argmax(1) == self.validation.targets
            entry["validation_acc"] = metrics.sample_accuracy(int(right.sum()), len(right))
            if not self.best or entry["validation_acc"] > self.best["validation_acc"]:
                self.best = self.last | {"validation_acc": entry["validation_acc"]}
        return _plain(entry)

    def _group_counts(self, logits: Tensor, split: DeviceSplit) -> np.ndarray:
        return self._group_sum((logits.argmax(1) == split.targets).double(), split)

    def _group_sum(self, values: Tensor, split: DeviceSplit) -> np.ndarray:
        """Sum of ``values`` [n] over each group, [C, B]; samples of unknown bias go to a slot of their own."""
        groups = self.num_classes * self.num_biases
        sums = torch.zeros(groups + 1, dtype=torch.float64, device=self.device)
        sums.index_add_(0, torch.where(split.bias < 0, groups, split.groups), values.double())
        return sums[:groups].view(self.num_classes, self.num_biases).cpu().numpy()

    # Everything that a resumed run needs, and every number that its record takes from the loop.
    _STATE = (
        "phase_index",
        "epoch",
        "history",
        "warnings",
        "last",
        "best",
        "train_counts",
        "samples_trained",
        "seconds_training",
        "seconds",
    )

    def _state(self) -> dict[str, Any]:
        """A copy of all that a resumed run needs, in main memory."""
        state = {
            "method": self.method.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
        }
        return _copy_to_cpu(state) | {"loop": {name: copy.copy(getattr(self, name)) for name in self._STATE}}

    def save_checkpoint(self) -> None:
        """Write the state after the last finished epoch; the file exists whole or not at all.

        May be called at any moment, in a signal handler too: a state in the middle of an epoch is never written.
        A folder that cannot be written costs a repetition, not the run.
        """
        if not self.checkpoint or not self._finished_epoch:
            return
        partial = self.checkpoint.with_name(f"{self.checkpoint.name}.{uuid.uuid4().hex}.tmp")
        try:
            try:
                torch.save(self._finished_epoch, partial)
                os.replace(partial, self.checkpoint)
            finally:
                partial.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # PyTorch's writer reports an absent folder as a RuntimeError
            print(f"No checkpoint was written to {self.checkpoint}: {error}", flush=True)

    def _load(self) -> None:
        """Continue from the checkpoint.

        One that is damaged, or was written by another version of the method, is set aside and the run starts over.
        """
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            if _shapes(state["method"]) != _shapes(self.method.state_dict()):
                raise RuntimeError("it holds other parameters than the method")
        except (OSError, EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
            aside = self.checkpoint.with_name(f"{self.checkpoint.name}.corrupt")
            os.replace(self.checkpoint, aside)
            self.warnings.append(f"Checkpoint {aside.name} cannot be used ({type(error).__name__}); started over.")
            return
        for name, value in state["loop"].items():
            setattr(self, name, value)
        self.method.load_state_dict(state["method"])
        self.generator.set_state(state["generator"].cpu())
        self.optimizers = self._new_optimizers()
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate_tensor()  # a checkpoint of an older version has a number


def train(trainings: Sequence[Training]) -> None:
    """Train a run, or runs that differ in nothing but their seed, to the end, each from its checkpoint.

    Several advance in lockstep where they are small (``updates.is_small``), and else take turns; those whose checkpoint
    is behind catch up first. Raises TrainingError when a loss diverges.
    """
    for training in trainings:
        training.start()
    updates: Updates | None = None
    while unfinished := [training for training in trainings if not training.finished]:
        behind = min(training.position for training in unfinished)
        group = [training for training in unfinished if training.position == behind]
        group = group if is_small(group[0]) else group[:1]
        if updates is None or updates.trainings != group or updates.phase is not group[0].phase:
            updates = Updates(group)
        for training, loss in zip(group, updates.epoch(), strict=True):
            training.end_epoch(loss)


def _copy_to_cpu(value: Any) -> Any:
    """A deep copy with all tensors in main memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copy_to_cpu(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy_to_cpu(each) for each in value]
    return value


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _plain(entry: Entry) -> Entry:
    """Plain floats of at most six decimals, so that records stay readable and small."""
    return {key: None if value is None else round(float(value), 6) for key, value in entry.items()}
