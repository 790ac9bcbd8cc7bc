"""torchvision's classifiers, each split at its last linear layer, without dropout and stochastic depth."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from benchmark.errors import UserError
from methods.base import Network
from networks.chance import without_chance

OTHERWISE = "or start from random weights with --set pretrained=false."


def build(
    name: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    pretrained: bool = False,
    stem: str = "standard",
) -> Network:
    """The architecture of that name, with ``pretrained`` features that start from ImageNet's weights.

    ``stem``, of ResNets only, is "standard", 7×7 with stride 2, or "small", 3×3 with stride 1, for images of about 64
    pixels; the max-pooling stays. Vision transformers are built for the images' size, to which their position
    embeddings are interpolated where they are pretrained. SqueezeNet ends in a convolution: here its average pooling
    comes first and a linear layer after it. Raises UserError where the weights cannot be had.
    """
    body = _body(name, image_shape[-1], pretrained)
    without_chance(body)
    if name.startswith("squeezenet"):
        pooled = nn.Sequential(body.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Network(pooled, nn.Linear(512, num_classes))
    if stem == "small":
        body.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    last, head = [(path, each) for path, each in body.named_modules() if isinstance(each, nn.Linear)][-1]
    if name.startswith(("resnet", "resnext", "wide_resnet")):
        *layers, _ = body.children()
        features: nn.Module = nn.Sequential(*layers, nn.Flatten())
    else:
        body.set_submodule(last, nn.Identity())
        features = body
    return Network(features, nn.Linear(head.in_features, num_classes))


def _body(name: str, size: int, pretrained: bool) -> Any:
    from torchvision import models  # a second, which the small network does without

    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # whose auxiliary classifiers no method would train
        options = {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options = {"image_size": size}
    if name.startswith("maxvit"):
        options = {"input_size": (size, size)}
    if not pretrained:
        return models.get_model(name, weights=None, **options)
    state = imagenet_weights(name)
    if not name.startswith("vit_"):
        options.pop("init_weights", None)
        return models.get_model(name, weights="IMAGENET1K_V1", progress=False, **options)
    body = models.get_model(name, weights=None, **options)
    body.load_state_dict(models.vision_transformer.interpolate_embeddings(size, body.patch_size, state))
    return body


def imagenet_weights(name: str) -> Any:
    """torchvision's ImageNet weights, downloaded once. Raises UserError where they cannot be had, or are damaged."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(name)["IMAGENET1K_V1"]
    path = _cached(weights.url)
    if path.exists():
        check_weights(name)
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"The ImageNet weights of {name} cannot be had ({error}): put {weights.url} into {path.parent}, {OTHERWISE}"
        ) from error


def check_weights(name: str) -> None:
    """Raises UserError unless torchvision's ImageNet weights, and no other file of that name, are on this machine."""
    from torchvision.models import get_model_weights

    url = get_model_weights(name)["IMAGENET1K_V1"].url
    path = _cached(url)
    if not path.is_file():
        raise UserError(
            f"The ImageNet weights of {name} are not in {path.parent}: put {url} there, train where they can be "
            f"downloaded, {OTHERWISE}"
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
