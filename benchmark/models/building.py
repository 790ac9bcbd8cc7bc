"""The networks of a finished run, built again of their weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

import methods
from benchmark.errors import UserError
from benchmark.store.record import Record
from benchmark.training import networks
from benchmark.training.loader import DeviceSplit
from benchmark.training.snapshots import networks as networks_of
from datasets import Split
from methods.base import Method, Network, TrainingSet


def assembled(record: Record, image_shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> dict[str, Network]:
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


def probe(network: Network, record: Record, image_shape: tuple[int, ...]) -> Tensor:
    """What a network on the CPU says of two images of all kinds of values, float32 [2, C]."""
    pixels = (np.arange(2 * np.prod(image_shape)) * 37 % 251).astype(np.uint8).reshape(2, *image_shape)
    labels = np.zeros(2, np.int64)
    return DeviceSplit(Split(pixels, labels, labels), 1, record.settings, torch.device("cpu")).logits(network)
