"""The registry of datasets. A new one is one file in this folder plus its row in benchmark/recipes.toml."""

import importlib
import pkgutil

from datasets.base import BUILDERS, BiasedDataset, Split, balanced, load, outline, register

__all__ = ["BUILDERS", "BiasedDataset", "Split", "balanced", "load", "outline", "register"]

# Modules that only help register nothing, and are imported by the datasets in any case.
for _module in pkgutil.iter_modules(__path__):
    if _module.name != "prepare":  # a command, to be imported once it is run
        importlib.import_module(f"{__name__}.{_module.name}")
