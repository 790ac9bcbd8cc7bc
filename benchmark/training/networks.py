"""The paper's networks, each split as a method's ``Network`` is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmark.errors import UserError, unknown
from benchmark.plan import limits
from benchmark.plan.run import Settings
from methods.base import Network


def mlp(image_shape: tuple[int, ...], num_classes: int) -> Network:
    """Three hidden layers of 100 ReLU units (paper §4.1 gives the depth, the LfF repository the width)."""
    widths = (prod(image_shape), 100, 100, 100)
    layers: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return Network(nn.Sequential(*layers), nn.Linear(widths[-1], num_classes))


def resnet(
    architecture: str, image_shape: tuple[int, ...], num_classes: int, *, pretrained: bool, stem: str
) -> Network:
    """torchvision's ResNet; with ``pretrained`` its features start from ImageNet's weights.

    ``stem`` "standard" is 7×7 with stride 2; "small" is 3×3 with stride 1, for images of about 64 pixels. The
    max-pooling stays. Raises UserError for another stem and where the weights cannot be had.
    """
    from torchvision import models  # not every installation has it, and the MLP does without

    if stem not in ("standard", "small"):
        raise unknown("stem", stem, ("standard", "small"))
    if pretrained and stem != "standard":
        raise UserError("ImageNet's weights need the standard stem: --set pretrained=false, or stem=standard.")
    body = getattr(models, architecture)()
    if pretrained:
        body.load_state_dict(imagenet_weights(architecture))
    if stem == "small":
        body.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    *features, replaced = body.children()
    return Network(nn.Sequential(*features, nn.Flatten()), nn.Linear(replaced.in_features, num_classes))


@cache
def imagenet_weights(architecture: str) -> Mapping[str, Any]:
    """torchvision's ImageNet weights, downloaded once. Raises UserError where they cannot be had, or are damaged."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(architecture)["IMAGENET1K_V1"]
    path = _cached(weights.url)
    if path.exists():
        check_weights(architecture)
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"The ImageNet weights of {architecture} cannot be had ({error}): put {weights.url} into {path.parent}, or "
            "start from random weights with --set pretrained=false."
        ) from error


def check_weights(architecture: str) -> None:
    """Raises UserError unless torchvision's ImageNet weights, and no other file of that name, are on this machine."""
    from torchvision.models import get_model_weights

    url = get_model_weights(architecture)["IMAGENET1K_V1"].url
    path = _cached(url)
    if not path.is_file():
        raise UserError(
            f"The ImageNet weights of {architecture} are not in {path.parent}: put {url} there, train where they can "
            "be downloaded, or start from random weights with --set pretrained=false."
        )
    # torch.hub looks at the hash that is part of the name when it downloads, and never again.
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2]):
        raise UserError(
            f"{path} is not the file that torchvision has under this name: delete it, then put {url} there or have it "
            "downloaded."
        )


def _cached(url: str) -> Path:
    """Where torch.hub keeps, or will keep, what it loads from there."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]


# ``benchmark.plan.limits`` says of each what settings it needs.
NETWORKS: dict[str, Callable[..., Network]] = {
    "mlp": mlp,
    "resnet18": partial(resnet, "resnet18"),
    "resnet34": partial(resnet, "resnet34"),
}


def build(name: str, image_shape: tuple[int, ...], num_classes: int, **options: Any) -> Network:
    """A freshly initialised network. Raises UserError for an unknown name or one that cannot be built."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name](image_shape, num_classes, **options)


def of_run(settings: Settings, image_shape: tuple[int, ...], num_classes: int) -> Network:
    """A freshly initialised network as a run's settings say. Raises UserError as ``build``."""
    name = settings["network"]
    return build(name, image_shape, num_classes, **{key: settings[key] for key in limits.needs(name).settings})


def place(module: nn.Module, device: torch.device) -> None:
    """Move a network, or a method with all of its networks, to a device, in the layout and precision made for it."""
    module.to(device).to(memory_format=memory_format(module))
    dtype = precision(module, device)
    if dtype is not torch.float32:
        for network in module.modules():
            if isinstance(network, Network):
                network.compute_in(dtype, device.type)


def memory_format(network: nn.Module) -> torch.memory_format:
    """The layout of images that the network is fastest with."""
    return torch.channels_last if is_convolutional(network) else torch.contiguous_format


def precision(network: nn.Module, device: torch.device) -> torch.dtype:
    """What the network computes in: bfloat16 on a GPU where it is convolutional, float32 otherwise."""
    return torch.bfloat16 if device.type == "cuda" and is_convolutional(network) else torch.float32


def is_convolutional(network: nn.Module) -> bool:
    """Whether the network, or any in a method, has filters over images: these gain from channels-last and bf16."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())
