"""Whether a value is of the kind, and within the limits, that its annotation states; what does not go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import Meta

import networks
from benchmark.errors import UserError

UnitInterval = Annotated[float, Meta(ge=0.0, le=1.0)]
# Of the settings of the common loop; a list's limits hold for each of its numbers, those of a method stand beside it.
# The upper limits lie far beyond what anybody trains with: they catch slips, and what would never end or fill a disk.
LOOP: dict[str, Any] = {
    "epochs": Annotated[int, Meta(ge=1, le=100_000)],
    "batch_size": Annotated[int, Meta(ge=1, le=1_000_000)],
    "learning_rate": Annotated[float, Meta(ge=0.0, le=1000.0)],
    "learning_rate_decay": Annotated[float, Meta(ge=0.0, le=10.0)],
    "schedule": Literal["tenths", "step", "cosine", "constant"],
    "warmup": UnitInterval,
    "optimizer": Literal["adam", "adamw", "sgd"],
    "momentum": Annotated[float, Meta(ge=0.0, le=0.9999)],
    "weight_decay": Annotated[float, Meta(ge=0.0, le=1000.0)],
    "balance": Annotated[float, Meta(ge=0.0, le=1000.0)],
    "crop_padding": Annotated[int, Meta(ge=0, le=1000)],
    "crop_scale": Annotated[float, Meta(ge=0.01, le=1.0)],
    "precision": Literal["auto", "float32", "bf16"],
    "measure_every": Annotated[int, Meta(ge=1, le=100_000)],
    "mean": float,
    "std": Annotated[float, Meta(ge=1e-6, le=1e6)],
}
# Of the settings under "data" that several data sets have; a data set may allow less, and has others of its own.
DATA: dict[str, Any] = {
    "ratio": UnitInterval,
    "validation_ratio": UnitInterval,
    "severity": Annotated[int, Meta(ge=1, le=5)],
    "validation": Annotated[int, Meta(ge=0, le=59_999)],
    "size": Annotated[int, Meta(ge=32, le=4096)],
}
KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"), int: ((int,), "a whole number"), float: ((int, float), "a number"),
    str: ((str,), "a text"),
}  # fmt: skip
"""By the type that an annotation states: those of values that may be it, and how it is called."""
LARGEST = 2**53  # of numbers without limits of their own: beyond, not every whole number is a float


# Pixels that the images of a data set are wide where that is no setting.
WIDTHS = {"colored_mnist": 28, "colored_digits": 8}


def kind(owner: str, key: str) -> Any:
    """The kind and limits of a setting as --set names it, Any for those of a method."""
    return {"": LOOP, "data": DATA}.get(owner, {}).get(key, Any)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises UserError for settings of a run beyond the limits of the loop, of data and of its network."""
    for owner, part in (("", settings), ("data", settings["data"])):
        for key, value in part.items():
            if not isinstance(value, Mapping):
                check(f"{owner}.{key}" if owner else key, value, kind(owner, key))
    if settings.get("momentum") and settings["optimizer"] != "sgd":
        raise UserError(
            f"momentum is {settings['momentum']}, and {settings['optimizer']} has its own: add --set optimizer=sgd, or "
            "momentum=0."
        )
    if settings.get("crop_padding") and settings.get("crop_scale", 1.0) < 1:
        raise UserError("Images are cropped in two ways: add --set crop_padding=0, or crop_scale=1.")
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
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    kinds, wanted = KINDS.get(base, ((object,), ""))
    meta = next((each for each in get_args(kind)[1:] if isinstance(each, Meta)), Meta())
    for each in value if isinstance(value, (list, tuple)) else [value]:
        if not isinstance(each, kinds) or (isinstance(each, bool) and base in (int, float)):
            raise UserError(f"{name} is {shown!r}: it must be {wanted}.")
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


def _check_network(settings: Mapping[str, Any]) -> None:
    """Raises UserError where a run's network does not exist, or its images and other settings are not for it."""
    name = settings["network"]
    needs = networks.needs(name)
    pretrained, stem = settings.get("pretrained", False), settings.get("stem", "standard")
    check("stem", stem, Literal["standard", "small"])
    if pretrained and not needs.weights:
        raise UserError(f"There are no weights of ImageNet for the network {name}: add --set pretrained=false.")
    if pretrained and stem != "standard":
        raise UserError("ImageNet's weights need the standard stem: --set pretrained=false, or stem=standard.")
    if stem != "standard" and not needs.stem:
        raise UserError(f"stem is {stem}, and the network {name} has one of its own: leave it out.")
    if "." in name and not pretrained:
        raise UserError(
            f"The network {name} names weights: add --set pretrained=true, or leave out what follows the dot."
        )
    size = settings["data"].get("size", WIDTHS.get(settings["dataset"]))
    if size is None:  # of a data set of one's own: tried before the run
        return
    if size < needs.smallest or size % needs.multiple:
        demanded = f"at least {needs.smallest}" if size < needs.smallest else f"a multiple of {needs.multiple}"
        raise UserError(
            f"The network {name} needs images of {demanded} pixels, and those of {settings['task']} have {size}: "
            "choose another network, or data.size where the task has it."
        )
    if settings["batch_size"] == 1 and size < needs.alone and stem == "standard":
        raise UserError(f"batch_size is 1: {name} needs batches of at least 2 where images are of {size} pixels.")
