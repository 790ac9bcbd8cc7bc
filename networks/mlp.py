"""The paper's network for digits."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn

from methods.base import Network
from networks import register


@register("mlp")
def mlp(image_shape: tuple[int, ...], num_classes: int) -> Network:
    """Three hidden layers of 100 ReLU units (paper §4.1 gives the depth, the LfF repository the width)."""
    widths = (prod(image_shape), 100, 100, 100)
    layers: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return Network(nn.Sequential(*layers), nn.Linear(widths[-1], num_classes))
