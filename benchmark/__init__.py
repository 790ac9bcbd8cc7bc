"""The benchmark: plans runs, trains them in one common loop, stores records, renders tables and figures.

``benchmark.load(run)`` gives a kept model, see docs/models.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.models.loading import load as load
    from benchmark.models.model import Model as Model


def __getattr__(name: str) -> Any:
    """``load`` and ``Model``, which need PyTorch, once they are asked for."""
    if name == "load":
        from benchmark.models.loading import load

        return load
    if name == "Model":
        from benchmark.models.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
