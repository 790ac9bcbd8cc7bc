"""The paper's networks, each split into ``features`` (penultimate representation) and ``classifier``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from benchmark.errors import unknown


class Network(nn.Module):
    """``features``: images [m, 3, H, W] -> representation [m, d]; ``classifier``: [m, d] -> logits [m, C]."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def mlp(image_shape: tuple[int, ...], num_classes: int) -> Network:
    """Three hidden layers of 100 ReLU units (paper §4.1 gives the depth, the LfF repository the width)."""
    widths = (prod(image_shape), 100, 100, 100)
    layers: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return Network(nn.Sequential(*layers), nn.Linear(widths[-1], num_classes))


NETWORKS: dict[str, Callable[[tuple[int, ...], int], Network]] = {"mlp": mlp}


def build(name: str, image_shape: tuple[int, ...], num_classes: int) -> Network:
    """A freshly initialised network. Raises UserError for an unknown name."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name](image_shape, num_classes)
