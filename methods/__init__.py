"""The registry of methods. A new method is one file in this folder plus its row in benchmark/recipes.toml."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from benchmark.errors import UserError, described, unknown
from methods.base import Method

METHODS: dict[str, type[Method]] = {}
M = TypeVar("M", bound=type[Method])


def register(name: str) -> Callable[[M], M]:
    """Class decorator that makes a method known under ``name``.

    Raises ValueError for a name already taken, and for one that uses the bias of images whose use it does not declare.
    """

    def add(method: M) -> M:
        if name in METHODS:
            raise ValueError(f"Method '{name}' is registered twice: {METHODS[name]} and {method}.")
        if method.uses_validation_bias and not method.uses_validation:
            raise ValueError(f"Method '{name}' declares uses_validation_bias: declare uses_validation, too.")
        METHODS[name] = method
        return method

    return add


def get(name: str) -> type[Method]:
    """The method class registered under ``name``. Raises UserError with the nearest name and the list."""
    if name not in METHODS:
        error = unknown("method", name, METHODS)
        raise UserError(f'{error} A class of your own, in a file of methods/, needs @register("{name}") above it.')
    return METHODS[name]


def options(name: str) -> dict[str, Any]:
    """What each option of a method may be: the annotation of its ``__init__``'s keyword-only parameter, with limits.

    Any for one without annotation. Raises UserError for an unknown method, and for annotations that mean nothing.
    """
    init = get(name).__init__
    try:
        annotations = get_type_hints(init, include_extras=True)
    except Exception as error:  # whatever stands there is executed
        file = f"{init.__module__.replace('.', '/')}.py"
        raise UserError(f"{file} annotates an option with an unknown kind ({described(error)}): correct it.") from error
    parameters = inspect.signature(init).parameters.values()
    return {each.name: annotations.get(each.name, Any) for each in parameters if each.kind is each.KEYWORD_ONLY}


def load_all() -> None:
    """Import every file of this folder, which registers its methods. Raises UserError for one that cannot be."""
    for module in pkgutil.iter_modules(__path__):
        try:
            importlib.import_module(f"{__name__}.{module.name}")
        except Exception as error:  # whatever a file of somebody's own may raise
            raise UserError(f"methods/{module.name}.py cannot be imported ({described(error)}): correct it.") from error


load_all()
