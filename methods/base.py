"""What a debiasing method is: a module that states its phases and gives the loss of each step.

A method holds everything it must remember (networks, per-sample averages, poisoned labels, group weights)
as parameters and buffers, so that its ``state_dict()`` is a complete checkpoint. It knows nothing of devices,
optimisers, files or progress; the common loop (``benchmark.training``) owns those.

A loss does the same operations on every batch, changes buffers in place, and looks at no value, with ``if`` or
``item()``: then a GPU never waits for the host, its updates can be captured as a CUDA graph, and seeds can be trained
as one batched network (``benchmark.training.updates``). The tests of updates hold every registered method to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmark.errors import UserError

Sampler = Literal["shuffled", "class_balanced", "group_balanced", "weighted"]
SplitName = Literal["train", "validation"]
"""The training set, or the half of the validation images that a method gets which declares ``uses_validation``."""

# What an option may be, where several have the same limits.
UnitInterval = Annotated[float, Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Meta(ge=0.0, le=1e9)]
Epochs = Annotated[int, Meta(ge=1, le=100_000)]
Updates = Annotated[int, Meta(ge=1, le=10_000_000)]
Networks = Annotated[int, Meta(ge=1, le=100)]


class Network(nn.Module):
    """A network split where Poisoner looks in: at the penultimate representation.

    ``features``: images [m, 3, H, W] -> representation [m, d]; ``classifier``: [m, d] -> logits [m, C]. What both give
    is of the images' own precision, whatever they compute in: losses and scores never see less.
    """

    def __init__(self, features: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))

    def compute_in(self, precision: torch.dtype, device: str) -> None:
        """Let both parts, and nothing else, compute in a lower precision on a kind of device."""
        for part in (self.features, self.classifier):
            part.forward = _computing_in(precision, device, part.forward)


def _computing_in(
    precision: torch.dtype, device: str, forward: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    def computed(inputs: Tensor) -> Tensor:
        with torch.autocast(device, precision):
            return forward(inputs).to(inputs.dtype)

    return computed


NewNetwork = Callable[[], Network]
"""A network for the task at hand, freshly initialised at each call."""


class Predict(Protocol):
    """What hooks are called with: ``predict(network)`` gives its logits [n, C] on all images of a split.

    In evaluation mode, without augmentation and gradient. Of ``network.features`` it gives representations [n, d].
    """

    def __call__(self, network: nn.Module, split: SplitName = "train", /) -> Tensor: ...


def check_scale(option: str, value: float, optimizer: str) -> None:
    """Raises UserError for a factor on a loss beside SGD, for which alone it is one on the learning rate, too."""
    if optimizer == "sgd" and value != 1:
        raise UserError(
            f"{option} is {value:g}, which Adam takes away again and optimizer=sgd multiplies the learning rate by: "
            f"add --set {option}=1, or leave the method out."
        )


class Batch(NamedTuple):
    """One mini-batch, on the device; its images hold until the next."""

    images: Tensor  # [m, 3, H, W], float, normalised
    targets: Tensor  # [m], int64
    indices: Tensor  # [m], int64: position of each sample in its split
    bias: Tensor | None  # [m], int64; None unless the method declares its use in that split
    draws: Tensor | None = None  # [m, k] in [0, 1), float32; None unless the step asks for them
    split: SplitName = "train"  # the phase's


@dataclass(frozen=True)
class TrainingSet:
    """What a method may know about the training set before it starts, and of validation images what it declares."""

    targets: Tensor  # [n], int64
    bias: Tensor | None  # [n], int64; None unless the method declares uses_bias_labels
    aligned_bias: Tensor | None  # [C], int64: g(y), the bias that goes with class y; None like bias
    num_classes: int
    num_biases: int
    validation_targets: Tensor | None = None  # [k], int64; None unless the method declares uses_validation
    validation_bias: Tensor | None = None  # [k], int64; None unless it declares uses_validation_bias


@dataclass(frozen=True)
class Step:
    """One optimiser step: the loss to descend on a batch, and the networks, or parts of networks, that descend it.

    What is named is in training mode and updated; all else is in evaluation mode and untouched. A loss that
    needs chance asks for so many ``draws`` a sample, which come in ``batch.draws`` from the run's own generator: the
    same after a resume, and whether seeds train alone or at once. Drawing from a global generator ends the run.

    A loss takes one batch of the phase's sampler, or one of each of ``samplers``, in that order.
    """

    loss: Callable[..., Tensor]
    trains: tuple[nn.Module, ...]
    draws: int = 0
    samplers: tuple[Sampler, ...] = ()


@dataclass(frozen=True)
class Phase:
    """A stretch of training. Each update takes every step, in order, with batches of its own.

    Its length is ``epochs`` passes of ⌈n/m⌉ updates over the n images of its split, or exactly ``updates`` where the
    method counts those. These are divided into passes, too, or into ``epochs`` parts, after each of which networks are
    measured and can be selected; the rate falls with the passes.
    ``end_epoch`` and ``end`` are called with a ``Predict`` after each epoch and after the last; what ``end_epoch`` does
    to networks is not measured before the next epoch has ended.
    """

    name: str
    steps: tuple[Step, ...]
    epochs: int = 0
    updates: int | None = None
    sampler: Sampler = "shuffled"
    split: SplitName = "train"
    end_epoch: Callable[[Predict], None] | None = None
    end: Callable[[Predict], None] | None = None

    @property
    def batches(self) -> tuple[tuple[Sampler, ...], ...]:
        """For each step the samplers of the batches that its loss takes."""
        return tuple(step.samplers or (self.sampler,) for step in self.steps)


class Method(nn.Module, ABC):
    """Base of all methods. Hyper-parameters are the keyword arguments of ``__init__``; see recipes.toml.

    Their annotations state what they may be: a kind with ``Meta`` for its limits, or ``Literal`` for names.

    ``target`` is the network that is tested. ``biased`` is the network whose Bias Accuracy is reported
    (Table 3), or None. ``sample_weights`` [n], of the images of the phase's split, is read by the "weighted" sampler
    at each epoch's start.

    What a method may see beside training images and their targets, it declares. ``uses_bias_labels``: the bias of
    training images. ``uses_validation``: half of the validation images, with targets; its epochs are selected on the
    other half. ``uses_validation_bias``: the bias of that half, too. Everything else is withheld.
    """

    uses_bias_labels = False
    uses_validation = False
    uses_validation_bias = False
    target: Network
    sample_weights: Tensor

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int) -> None:
        super().__init__()
        self.biased: Network | None = None
        self.epochs = epochs
        self.num_classes = data.num_classes
        self.all_targets = nn.Buffer(data.targets.clone(), persistent=False)

    @classmethod
    def check(cls, options: Mapping[str, Any], optimizer: str) -> None:
        """Raises UserError for options that do not go together, or not with the ``optimizer`` that settings name.

        Asked before anything is trained.
        """

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The method's phases, in order. Called once, after the method was moved to its device."""

    def summary(self) -> dict[str, float | list[int]]:
        """Numbers worth storing beside the result, such as the size of an error set; read after training."""
        return {}
