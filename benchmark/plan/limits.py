"""Whether a value is of the kind, and within the limits, that its annotation states; what networks need of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import Meta

from benchmark.errors import UserError, unknown

# Of the settings of the common loop; a list's limits hold for each of its numbers, those of a method stand beside it.
# The upper limits lie far beyond what anybody trains with: they catch slips, and what would never end or fill a disk.
LOOP: dict[str, Any] = {
    "epochs": Annotated[int, Meta(ge=1, le=100_000)],
    "batch_size": Annotated[int, Meta(ge=1, le=1_000_000)],
    "learning_rate": Annotated[float, Meta(ge=0.0, le=1000.0)],
    "learning_rate_decay": Annotated[float, Meta(ge=0.0, le=10.0)],
    "weight_decay": Annotated[float, Meta(ge=0.0, le=1000.0)],
    "balance": Annotated[float, Meta(ge=0.0, le=1000.0)],
    "crop_padding": Annotated[int, Meta(ge=0, le=1000)],
    "mean": float,
    "std": Annotated[float, Meta(ge=1e-6, le=1e6)],
}
# Of the settings under "data" that several data sets have; a data set may allow less, and has others of its own.
DATA: dict[str, Any] = {
    "ratio": Annotated[float, Meta(ge=0.0, le=1.0)],
    "severity": Annotated[int, Meta(ge=1, le=5)],
    "validation": Annotated[int, Meta(ge=0, le=59_999)],
    "size": Annotated[int, Meta(ge=32, le=4096)],
}
LARGEST = 2**53  # of numbers without limits of their own: beyond, not every whole number is a float


@dataclass(frozen=True)
class Needs:
    """What a network needs of a run: the settings that say how it is built, and whether ImageNet's weights exist.

    ``alone`` is the least width of an image that may be a batch by itself: statistics of a batch take two values.
    """

    settings: tuple[str, ...] = ()
    weights: bool = False
    alone: int = 0


_RESNET = Needs(("pretrained", "stem"), weights=True, alone=33)
# Every network of ``benchmark.training.networks``, which itself takes PyTorch.
NETWORKS = {"mlp": Needs(), "resnet18": _RESNET, "resnet34": _RESNET}


def kind(owner: str, key: str) -> Any:
    """The kind and limits of a setting as --set names it, Any for those of a method."""
    return {"": LOOP, "data": DATA}.get(owner, {}).get(key, Any)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises UserError for settings of a run beyond the limits of the loop, of data and of its network."""
    for owner, part in (("", settings), ("data", settings["data"])):
        for key, value in part.items():
            if not isinstance(value, Mapping):
                check(f"{owner}.{key}" if owner else key, value, kind(owner, key))
    if "network" in settings:
        _check_network(settings)


def check(name: str, value: Any, kind: Any = Any) -> None:
    """Raises UserError, naming the setting, for a value that ``kind`` (a type, Annotated or a Literal) excludes.

    Whatever the kind, numbers are finite, and texts are of characters that stand in a line. A list's limits hold for
    each of its values.
    """
    if get_origin(kind) is Literal:
        names = get_args(kind)
        if value not in names:
            raise UserError(f"{name} is {value}: it must be one of {', '.join(names)}.")
        return
    shown = list(value) if isinstance(value, tuple) else value
    meta = next((each for each in get_args(kind)[1:] if isinstance(each, Meta)), Meta())
    for each in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(each, str) and not each.isprintable():
            raise UserError(f"{name} is {shown!r}: it must be a text of characters that can be printed.")
        if isinstance(each, (int, float)) and not _is_allowed(each, meta):
            raise UserError(f"{name} is {shown}: it must be {_demands(meta)}.")


def _is_allowed(value: float, meta: Meta) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return (meta.ge is None or value >= meta.ge) and (LARGEST if meta.le is None else meta.le) >= value >= -LARGEST


def _demands(meta: Meta) -> str:
    bounds = [f"at least {meta.ge}"] if meta.ge is not None else []
    bounds += [f"at most {meta.le:,}"] if meta.le is not None else []
    return " and ".join(bounds) or f"a finite number, at most {LARGEST:,}"


def needs(network: str) -> Needs:
    """What a network needs. Raises UserError for one that does not exist."""
    if network not in NETWORKS:
        raise unknown("network", network, NETWORKS)
    return NETWORKS[network]


def _check_network(settings: Mapping[str, Any]) -> None:
    """Raises UserError where a run's network does not exist, or its other settings are not for that network."""
    name = settings["network"]
    needed = needs(name)
    for each in needed.settings:
        if each not in settings:
            raise UserError(
                f"The network {name} needs the setting {each}, which {settings['task']} lacks: choose another network "
                f"for its images, such as mlp."
            )
    check("stem", settings.get("stem", "standard"), Literal["standard", "small"])
    if settings.get("pretrained") and not needed.weights:
        raise UserError(f"There are no weights of ImageNet for the network {name}: add --set pretrained=false.")
    if settings.get("pretrained") and settings["stem"] != "standard":
        raise UserError("ImageNet's weights need the standard stem: --set pretrained=false, or stem=standard.")
    size = settings["data"].get("size", needed.alone)
    if settings["batch_size"] == 1 and size < needed.alone and settings["stem"] == "standard":
        raise UserError(f"batch_size is 1: {name} needs batches of at least 2 where images are of {size} pixels.")
