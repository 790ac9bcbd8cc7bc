"""One run in progress: its method, its data on the device, and how far it has come.

A step never waits for the device; numbers are read once an epoch. All randomness comes from one generator that is part
of the checkpoint, so a resumed run ends with the same numbers, bit for bit on the CPU.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import TrainingError
from benchmark.plan import code
from benchmark.rules import Rule
from benchmark.training import checkpoint as checkpoints
from benchmark.training import progress as progresses
from benchmark.training import snapshots
from benchmark.training.batches import Batches
from benchmark.training.checkpoint import Checkpoint, State
from benchmark.training.measure import Measurement, Metrics, Splits
from benchmark.training.networks import digest, of_run, place
from benchmark.training.optimizers import new_optimizer, rate, warming
from benchmark.training.progress import EpochEntry, Progress, Sizes, Stage
from datasets import BiasedDataset, Split
from datasets.base import Fingerprint, halved
from methods import get
from methods.base import Method, Network, Phase, Predict, TrainingSet


class Training:
    """A run in progress. ``report`` is called with each finished epoch's entry.

    Another seed of the run shares its ``splits``. ``fingerprint`` is the data set's, as far as a checkpoint is to tell
    data from other data. Raises UserError for settings that its network or method excludes, and TrainingError for a
    method without phases or target.

    Of validation images, a method that declares their use is ``given`` half; ``dataset`` keeps the other half. Of the
    epochs that the rules ``keep`` choose, the networks are kept in ``snapshots``.
    """

    def __init__(
        self,
        dataset: BiasedDataset,
        settings: dict[str, Any],
        seed: int,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 30,
        report: Callable[[EpochEntry], None] = lambda entry: None,
        splits: Splits | None = None,
        fingerprint: Fingerprint | None = None,
        keep: Sequence[Rule] = (),
    ) -> None:
        self.dataset, self.given = _shared_out(dataset, get(settings["method"]))
        self.fingerprint = fingerprint
        self.settings = settings
        self.device = torch.device(device)
        self.checkpoint = Checkpoint(checkpoint, checkpoint_seconds) if checkpoint else None
        self.report = report
        self.generator = torch.Generator().manual_seed(seed)
        self.splits = splits or Splits.of(self.dataset, settings, self.device, self.given)
        self.measurement = Measurement(self.dataset, self.splits)
        self.weights = ""  # a digest of those that networks start from, where they are pretrained
        self.method = self._build_method(seed)
        self.batches = Batches(self.dataset, self.given, self.splits, settings, self.method)
        self.phases = self._phases()
        self.progress = Progress()
        self.snapshots = snapshots.Snapshots(keep, self.sizes)
        self.optimizers: list[torch.optim.Optimizer] = []
        self._started = 0.0

    def _build_method(self, seed: int) -> Method:
        kind, dataset = get(self.settings["method"]), self.dataset
        bias = dataset.train.bias if kind.uses_bias_labels else None
        data = TrainingSet(
            targets=torch.from_numpy(dataset.train.targets),
            bias=None if bias is None else torch.from_numpy(bias),
            aligned_bias=None if bias is None else torch.as_tensor(dataset.aligned_bias),
            num_classes=len(dataset.class_names),
            num_biases=len(dataset.bias_names),
            validation_targets=None if self.given is None else torch.from_numpy(self.given.targets),
            validation_bias=(
                torch.from_numpy(self.given.bias) if self.given is not None and kind.uses_validation_bias else None
            ),
        )
        # Weights are drawn on the CPU, so that a seed means the same initial network on every device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            method = kind(
                data,
                lambda: self._new_network(data.num_classes),
                self.settings["epochs"],
                **self.settings["options"],
            )
        self.precision = place(method, self.device, self.settings["precision"])
        return method

    def _phases(self) -> tuple[Phase, ...]:
        """The method's. Raises TrainingError where it states none, or no network to be tested."""
        name = self.settings["method"]
        if not isinstance(getattr(self.method, "target", None), Network):
            raise TrainingError(f"The method {name} has no network to be tested: assign self.target in its __init__.")
        phases = self.method.phases()
        if not isinstance(phases, tuple) or not phases:
            given = type(phases).__name__ if phases else "nothing"
            raise TrainingError(f"phases() of the method {name} returns {given}: it must return a tuple of phases.")
        if len({phase.name for phase in phases}) < len(phases):
            raise TrainingError(f"Two phases of the method {name} have one name, by which curves are told: rename one.")
        return phases

    def _new_network(self, num_classes: int) -> Network:
        network = of_run(self.settings, self.dataset.image_shape, num_classes)
        if self.settings.get("pretrained") and not self.weights:
            self.weights = digest(network)
        return network

    # How far it has come

    @property
    def precision_name(self) -> str:
        """What its networks compute in: "float32" or "bfloat16"."""
        return str(self.precision).removeprefix("torch.")

    @property
    def total_epochs(self) -> int:
        return sum(self.batches.epochs(phase) for phase in self.phases)

    @property
    def sizes(self) -> Sizes:
        train, test = (self.dataset.group_sizes(split) for split in (self.dataset.train, self.dataset.test))
        return Sizes(train, test, self.dataset.validation_sizes, self.dataset.scored)

    @property
    def phase(self) -> Phase:
        return self.phases[self.progress.phase_index]

    @property
    def position(self) -> tuple[int, int]:
        """Phases and epochs behind it; equal for trainings that can go on together."""
        return self.progress.phase_index, self.progress.epoch

    @property
    def finished(self) -> bool:
        return self.progress.phase_index == len(self.phases)

    def start(self) -> None:
        """Go to where the checkpoint stands, or to the beginning."""
        self._resume()
        self._started = time.perf_counter() - self.progress.seconds
        self._end_phases()

    def go_to(self, phase_index: int) -> None:
        """Stand at the beginning of a phase, with new optimisers."""
        self.progress.phase_index, self.progress.epoch = phase_index, 0
        self.optimizers = self._new_optimizers()

    def end_epoch(self, loss: float) -> None:
        """Call the hooks, measure, checkpoint and report, after an epoch of that mean loss that was counted.

        Raises TrainingError where a network's last update broke it.
        """
        phase, progress = self.phase, self.progress
        progress.epoch += 1
        entry: EpochEntry = {"phase": phase.name, "epoch": progress.epoch, "loss": loss}
        if self.is_measured(phase, progress.epoch):
            entry |= self._measure()
        progress.history.append(entry)
        self.snapshots.look(progress.history, self.method)  # before a hook changes what was measured
        self.call(phase.end_epoch)
        progress.seconds = time.perf_counter() - self._started
        if self.checkpoint:
            self.checkpoint.keep(*self._state())
        self.report(entry)
        self._end_phases()

    def _end_phases(self) -> None:
        """Go on to the next phase that has an epoch to train."""
        while not self.finished and self.progress.epoch == self.batches.epochs(self.phase):
            self.call(self.phase.end)
            self.go_to(self.progress.phase_index + 1)

    def _state(self) -> tuple[State, State]:
        """All that a resumed run needs, and every number that its record takes from the loop.

        First what training goes on changing. The entries of the rest stay as they are: they are replaced or added to.
        """
        changing = {
            "method": self.method.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        progress = {name: copy(value) for name, value in vars(self.progress).items()}
        versions = code.of_method(self.settings["method"]), code.of_network(self.settings["network"]), self.weights
        return changing, {
            "version": " ".join((str(code.LOOP), *filter(None, versions))),
            "precision": self.precision_name,
            "data": list(self.fingerprint or ()),
            "generator": self.generator.get_state(),
            "progress": progress,
            "snapshots": dict(self.snapshots.taken),
        }

    def _resume(self) -> None:
        """Continue from the checkpoint; where it cannot be used, the run starts over with a warning."""
        state, why_not = self.checkpoint.read(self._check) if self.checkpoint else (None, "")
        if why_not:
            self.progress.warnings.append(why_not)
        if state is None:
            self.optimizers = self._new_optimizers()
            return
        self.progress = Progress(**state["progress"])
        self.snapshots.resume(state["snapshots"])
        self.method.load_state_dict(state["method"])
        self.generator.set_state(state["generator"])
        self.optimizers = self._new_optimizers()
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            # Its settings, such as the learning rate of this device, are the run's, not the checkpoint's.
            optimizer.load_state_dict(optimizer.state_dict() | {"state": saved["state"]})

    def _check(self, state: State) -> None:
        """Raises ValueError for what cannot be the state of this training after an epoch."""
        tensors, rest = self._state()
        own = tensors | rest
        if not isinstance(state, dict) or state.keys() != own.keys() or state["version"] != own["version"]:
            raise ValueError("it is of another version")
        if state["data"] != own["data"]:
            raise ValueError("it is of other data")
        if state["precision"] != own["precision"]:
            raise ValueError(
                f"it was computed in {state['precision']}, and this machine computes in {own['precision']}"
            )
        progresses.check(state["progress"], [self._stage(phase) for phase in self.phases], self.sizes)
        checkpoints.check_tensors(state["method"], own["method"])
        snapshots.check(state["snapshots"], self.method)
        checkpoints.check_generator(state["generator"])
        phase, epoch = self.phases[state["progress"]["phase_index"]], state["progress"]["epoch"]
        optimizers = self._optimizers(phase)
        if not isinstance(state["optimizers"], list) or len(state["optimizers"]) != len(optimizers):
            raise ValueError("it has other optimisers")
        for found, optimizer in zip(state["optimizers"], optimizers, strict=True):
            checkpoints.check_optimizer(found, optimizer, updates=epoch * self.batches.updates_per_epoch(phase))

    # An epoch

    def _new_optimizers(self) -> list[torch.optim.Optimizer]:
        """Those of the current phase."""
        return [] if self.finished else self._optimizers(self.phase)

    def _optimizers(self, phase: Phase) -> list[torch.optim.Optimizer]:
        """One fresh optimiser for each step of a phase."""
        return [
            new_optimizer(
                self.settings,
                [parameter for network in step.trains for parameter in network.parameters()],
                self._learning_rate_tensor(),
            )
            for step in phase.steps
        ]

    @property
    def learning_rate(self) -> float:
        """Of the current epoch, once the rate has risen to its height.

        It falls with the passes over the images. Every phase begins anew, and a shorter one is like the beginning of a
        longer one: stopped early, not annealed. One that is longer than the task's epochs anneals over its own length.
        """
        passes, epochs = self.batches.passes, self.batches.epochs(self.phase)
        return rate(self.settings, passes(self.phase, self.progress.epoch), passes(self.phase, epochs - 1) + 1)

    def _learning_rate_tensor(self) -> Tensor:
        """A tensor, since a CUDA graph goes on reading it where a number would stay what it was at the capture."""
        # The CPU's kernels compute with a double, the GPU's read a float.
        precision = torch.float64 if self.device.type == "cpu" else torch.float32
        return torch.tensor(self.learning_rate, dtype=precision, device=self.device)

    def _set_rate(self, value: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"].fill_(value)

    def warm_up(self, update: int) -> None:
        """Set the rate of an update of this epoch, of which 0 is the first, where the rate may still be rising."""
        before = self.progress.epoch * self.batches.updates_per_epoch(self.phase)
        length = self.settings["warmup"] * self.settings["epochs"] * self.batches.updates_per_pass(self.phase)
        if before < length:
            self._set_rate(self.learning_rate * warming(before + update, length))

    def begin_epoch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Set the learning rate and draw the epoch's batches: see ``Batches.draw``."""
        self.measurement.forget()
        self._set_rate(self.learning_rate)
        return self.batches.draw(self.phase, self.progress.epoch, self.generator)

    def set_modes(self, trained: tuple[nn.Module, ...]) -> None:
        self.method.eval()
        for network in trained:
            network.train()

    def call(self, hook: Callable[[Predict], None] | None) -> None:
        """Call a hook of the method, keeping its warnings for the record."""
        if hook is None:
            return
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            hook(self.measurement.predict)
        self.progress.warnings += [str(warning.message) for warning in caught]

    def measured(self, phase: Phase) -> dict[str, Network]:
        """The target and biased networks of which a phase trains any part, by role."""
        trained = {parameter for step in phase.steps for part in step.trains for parameter in part.parameters()}
        target, biased = self.method.target, self.method.biased
        networks = {"target": target} if biased is None or biased is target else {"target": target, "biased": biased}
        return {role: each for role, each in networks.items() if not trained.isdisjoint(each.parameters())}

    def is_measured(self, phase: Phase, epoch: int) -> bool:
        """Whether networks are measured after an epoch of a phase, by ``Stage``."""
        return self._stage(phase).is_measured(epoch)

    def _stage(self, phase: Phase) -> Stage:
        return Stage(phase.name, self.batches.epochs(phase), self.settings["measure_every"], self.measured(phase))

    def wanted(self) -> list[tuple[nn.Module, str]]:
        """Networks and splits to be counted after the epoch that is trained now: targets are tested, too."""
        if not self.is_measured(self.phase, self.progress.epoch + 1):
            return []
        tested = ["test", "validation"] if len(self.splits.validation) else ["test"]
        splits = {"target": ["train", *tested], "biased": ["train"]}
        return [(network, name) for role, network in self.measured(self.phase).items() for name in splits[role]]

    def _measure(self) -> EpochEntry:
        """Clean measurements, of what was counted. Raises TrainingError where a network's last update broke it."""
        entry: EpochEntry = {}
        for role, network in self.measured(self.phase).items():
            if not self.measurement.is_finite(network):
                raise TrainingError(
                    f"The {role} network's logits or losses are no finite numbers after epoch {self.progress.epoch} of "
                    f"phase '{self.phase.name}'."
                )
            entry[role] = self._on_training(role, network)  # type: ignore[literal-required]
            if role == "target":
                self._on_test(network, entry)
        return entry

    def _on_training(self, role: str, network: nn.Module) -> Metrics:
        measured, counts = self.measurement.on_training(network)
        self.progress.train_counts[role] = counts.tolist()
        return measured

    def _on_test(self, network: nn.Module, entry: EpochEntry) -> None:
        measured, counts = self.measurement.on_test(network)
        entry["target"] |= measured
        entry["test"] = counts.ravel().tolist()
        accuracy, counts_of_validation = self.measurement.on_validation(network)
        if counts_of_validation is not None:
            entry["target"] |= {"validation_acc": accuracy}
            entry["validation"] = counts_of_validation.ravel().tolist()

    @torch.no_grad()
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """What the biased network, or the target where there is none, says of the training set: see ``scores``."""
        return self.measurement.scores(self.method.target if self.method.biased is None else self.method.biased)


def _shared_out(dataset: BiasedDataset, method: type[Method]) -> tuple[BiasedDataset, Split | None]:
    """The dataset with the validation images that epochs are selected on, and those that the method trains on."""
    if not method.uses_validation:
        return dataset, None
    given, kept = halved(dataset.validation)
    note = (
        f"{method.__name__} trains on half of the validation images; its epochs are selected on the other half, those "
        "of other methods on all."
    )
    return replace(dataset, validation=kept, notes=(*dataset.notes, note)), given
