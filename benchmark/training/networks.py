"""A run's network: built as its settings say, tried beforehand, and placed on a device in the layout made for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import nn

import networks
from benchmark.errors import UserError
from benchmark.plan import code
from benchmark.plan.run import Settings
from benchmark.training.convolutions import speed_up
from methods.base import Network
from networks.chance import Draws

T = TypeVar("T")

X86_BF16 = "avx512_bf16", "amx_bf16"  # instructions: Intel and AMD, Intel's matrix unit


def of_run(settings: Settings, image_shape: tuple[int, ...], num_classes: int) -> Network:
    """A freshly initialised network as a run's settings say. Raises UserError for one that cannot be built."""
    name = settings["network"]
    needs = networks.needs(name)
    code.of_network(name)  # before its file is executed, if it has one
    options = {"pretrained": settings.get("pretrained", False)} if needs.weights else {}
    options |= {"stem": settings.get("stem", "standard")} if needs.stem else {}
    return networks.build(name, image_shape, num_classes, **options)


def check(settings: Settings, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Build a run's network and try it on images of that shape, without computing anything.

    Raises UserError where it does not take them, is not split as a method needs it, draws from a global generator, or
    starts from pretrained weights only in part.
    """
    chosen = {key: settings[key] for key in ("network", "pretrained", "stem") if key in settings}
    _check(json.dumps(chosen), image_shape, num_classes, min(settings["batch_size"], 2))


@lru_cache(maxsize=100)
def _check(chosen: str, image_shape: tuple[int, ...], num_classes: int, batch: int) -> None:
    settings: Settings = json.loads(chosen)
    name, size = settings["network"], image_shape[-1]
    refused = f"The network {name} cannot be built for {num_classes} classes of images of {size} pixels"
    with torch.random.fork_rng(devices=[]):
        network = _attempt(refused, of_run, settings, image_shape, num_classes)
        if not isinstance(network, Network):
            raise UserError(f"The network {name} is a {type(network).__name__}: it must be a methods.base.Network.")
        if not isinstance(network.classifier, nn.Linear):
            kind = type(network.classifier).__name__
            raise UserError(
                f"The classifier of {name} is a {kind}: make it one nn.Linear, the rest a part of the features."
            )
        # What is random differs from one network to the next.
        if settings.get("pretrained") and digest(of_run(settings, image_shape, num_classes)) != digest(network):
            raise UserError(f"A part of {name} has no pretrained weights: add --set pretrained=false.")
    network.to("meta").train()
    images = torch.zeros(batch, *image_shape, device="meta")
    with torch.no_grad(), Draws() as draws:
        refused = f"The network {name} does not take {batch} images of {size} pixels"
        features = _attempt(refused, network.features, images)
        if not isinstance(features, torch.Tensor) or features.dim() != 2 or len(features) != batch:
            raise UserError(
                f"The features of {name} must give a representation [m, d] of m images: flatten or pool it."
            )
        logits = _attempt(f"The classifier of {name} does not take its features", network.classifier, features)
    if not isinstance(logits, torch.Tensor) or logits.shape != (batch, num_classes):
        raise UserError(f"The classifier of {name} must give logits [m, {num_classes}] of m images.")
    if draws.names:
        raise UserError(
            f"The network {name} draws from a global generator ({draws.names[0]}), which no checkpoint holds, so that "
            "a resumed run would have other numbers: build it without dropout and stochastic depth."
        )


def _attempt(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """What the function gives. Raises UserError, with the reason, for whatever it raises: it may be somebody's own."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} ({type(error).__name__}: {error}): choose another with --set network.") from error


def check_weights(settings: Settings) -> None:
    """Raises UserError where a run's pretrained weights are not on this machine, as far as a package has them."""
    name = settings["network"]
    if settings.get("pretrained") and (package := networks.package(name)):
        import_module(f"networks.of_{package}").check_weights(name.removeprefix(networks.TIMM))


def digest(network: Network) -> str:
    """A SHA-256 of everything that the features start from, by name, kind and shape."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.features.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def place(module: nn.Module, device: torch.device, wanted: str = "auto") -> torch.dtype:
    """Move a network, or a method with all of its networks, to a device, in the layout made for it.

    Returns the precision that it computes in, by that setting. Raises UserError where the device has not got it.
    """
    module.to(device).to(memory_format=memory_format(module))
    dtype = precision(module, device, wanted)
    if dtype is not torch.float32:
        for network in module.modules():
            if isinstance(network, Network):
                network.compute_in(dtype, device.type)
    if device.type == "cpu":
        speed_up(module)
    return dtype


def memory_format(network: nn.Module) -> torch.memory_format:
    """The layout of images that the network is fastest with."""
    return torch.channels_last if is_convolutional(network) else torch.contiguous_format


def precision(network: nn.Module, device: torch.device, wanted: str = "auto") -> torch.dtype:
    """What the network computes in: "float32", "bf16", or "auto", bf16 where that was measured to pay: for a
    convolutional network on a GPU or an x86 processor with instructions for it (docs/speed.md).

    Raises UserError as ``check_precision``.
    """
    check_precision(wanted, device)
    if wanted == "auto":
        pays = device.type == "cuda" or any(map(_processor_has, X86_BF16))
        wanted = "bf16" if pays and is_convolutional(network) else "float32"
    return torch.bfloat16 if wanted == "bf16" else torch.float32


def check_precision(wanted: str, device: torch.device) -> None:
    """Raises UserError for bf16 on a processor that would only emulate it, more slowly than it computes in float32."""
    if wanted == "bf16" and not computes_in_bf16(device):
        raise UserError("This processor does not compute in bf16: add --set precision=float32.")


def computes_in_bf16(device: torch.device) -> bool:
    return device.type != "cpu" or any(map(_processor_has, (*X86_BF16, "bf16")))  # the last is Arm's


def _processor_has(instructions: str) -> bool:
    return bool(torch.cpu.get_capabilities().get(instructions))


def is_convolutional(network: nn.Module) -> bool:
    """Whether the network, or any in a method, has filters over images: these gain from channels-last and bf16."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())
