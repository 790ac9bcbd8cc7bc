"""Whether a value is of the kind, and within the limits, that its annotation states."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import Meta

from benchmark.errors import UserError

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0.0)]
# Of the settings of the common loop; a list's limits hold for each of its numbers. Settings under "data" are checked
# by their dataset, those of a method stand beside it.
LOOP: dict[str, Any] = {
    "epochs": Positive,
    "batch_size": Positive,
    "learning_rate": NotNegative,
    "learning_rate_decay": NotNegative,
    "weight_decay": NotNegative,
    "balance": NotNegative,
    "crop_padding": Annotated[int, Meta(ge=0)],
    "mean": float,
    "std": Annotated[float, Meta(ge=1e-6)],
}


def check(name: str, value: Any, kind: Any) -> None:
    """Raises UserError, naming the setting, for a value that ``kind`` (a type, Annotated or a Literal) excludes."""
    if get_origin(kind) is Literal:
        names = get_args(kind)
        if value not in names:
            raise UserError(f"{name} is {value}: it must be one of {', '.join(names)}.")
        return
    meta = next((each for each in get_args(kind)[1:] if isinstance(each, Meta)), Meta())
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if not _is_allowed(number, meta):
            raise UserError(f"{name} is {value}: it must {' and '.join(_demands(meta))}.")


def _is_allowed(value: Any, meta: Meta) -> bool:
    if isinstance(value, (int, float)) and not math.isfinite(value):
        return False
    return (meta.ge is None or value >= meta.ge) and (meta.le is None or value <= meta.le)


def _demands(meta: Meta) -> Iterator[str]:
    if meta.ge is not None and meta.le is not None:
        yield f"lie between {meta.ge} and {meta.le}"
    elif meta.ge is not None:
        yield f"be at least {meta.ge}"
    else:
        yield "be a finite number"
