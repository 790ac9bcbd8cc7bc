"""timm's models, each with a linear layer in the place of its classifier, without dropout and stochastic depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from benchmark.errors import UserError
from methods.base import Network
from networks.chance import without_chance

OTHERWISE = "or start from random weights with --set pretrained=false."


def build(name: str, image_shape: tuple[int, ...], num_classes: int, *, pretrained: bool = False) -> Network:
    """The model of that name, with ``pretrained`` features that start from the weights that timm has of it.

    A model that is made for one size, such as a vision transformer, is built for the images' size, to which timm
    adapts pretrained weights. Raises UserError where the weights cannot be had.
    """
    configuration = _configuration(name, pretrained)
    options: dict[str, Any] = {"img_size": image_shape[1:]} if configuration.fixed_input_size else {}
    try:
        model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except Exception as error:  # of the hub's client, say, whose errors are not to be foreseen
        if not pretrained:
            raise
        raise UserError(
            f"The weights of timm/{name} cannot be had ({type(error).__name__}: {error}): put them into the cache of "
            f"the Hugging Face hub, {OTHERWISE}"
        ) from error
    without_chance(model)
    # What a patch more would take is cut off, where no one says so.
    patches = next((each.patch_size for each in model.modules() if type(each).__name__ == "PatchEmbed"), None)
    if patches and any(width % patch for width, patch in zip(image_shape[1:], patches, strict=True)):
        raise UserError(f"timm/{name} needs images of a multiple of {patches[0]} pixels, not {image_shape[-1]}.")
    return Network(model, nn.Linear(model.head_hidden_size, num_classes))


def check_weights(name: str) -> None:
    """Raises UserError unless the weights that timm has of a model are on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from torch.hub import get_dir

    configuration = _configuration(name, pretrained=True)
    hub, url, file = configuration.hf_hub_id, str(configuration.url or ""), configuration.hf_hub_filename
    names = (file,) if file else ("model.safetensors", "pytorch_model.bin")
    found = [try_to_load_from_cache(hub, each) for each in names] if hub else []
    here = url and (Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file()
    if not here and not any(isinstance(each, str) for each in found):
        raise UserError(
            f"The weights of timm/{name} are not on this machine: train where {hub or url} can be downloaded, "
            f"{OTHERWISE}"
        )


def _configuration(name: str, pretrained: bool) -> PretrainedCfg:
    """What timm knows of a model and its weights. Raises UserError where there are none of that name."""
    try:
        found = get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        raise UserError(
            f"timm has no weights of that name ({error}): choose others of timm.list_pretrained()."
        ) from error
    if pretrained and not found.has_weights:
        raise UserError(f"timm has no weights of {name}: add --set pretrained=false.")
    return found
