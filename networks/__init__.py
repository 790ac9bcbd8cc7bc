"""The registry of networks. A new one is one file in this folder; torchvision's and timm's go by their names there.

Runs are planned without PyTorch: which networks there are, and what they need of a run, is read from the text of the
files, which are imported once one of their networks is built.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmark.errors import UserError, unknown

if TYPE_CHECKING:
    from methods.base import Network

TIMM = "timm/"  # how the names of timm's models begin


@dataclass(frozen=True)
class Needs:
    """What a network needs of a run, as ``register`` is told.

    ``smallest`` is the least width of an image in pixels, ``multiple`` what the width must be a multiple of, and
    ``alone`` the least width of an image that may be a batch by itself: statistics of a batch take two values.
    ``weights`` says whether there are weights of ImageNet, that is whether the builder takes ``pretrained``, and
    ``stem`` whether it takes a ``stem``, "standard" or "small".
    """

    smallest: int = 1
    multiple: int = 1
    alone: int = 1
    weights: bool = False
    stem: bool = False


@dataclass(frozen=True)
class Entry:
    """A network that a file registers."""

    file: Path
    needs: Needs


# What torchvision's architectures need, by how their names begin: the longest beginning counts. Found by trying widths.
_STRIDE_32 = Needs(alone=33, weights=True)
_RESNET = Needs(alone=33, weights=True, stem=True)
FAMILIES = {
    "": Needs(weights=True),  # of a torchvision that is younger than this list
    "alexnet": Needs(smallest=63, weights=True),
    "convnext": Needs(smallest=32, weights=True),
    "densenet": Needs(smallest=29, alone=61, weights=True),
    "efficientnet": _STRIDE_32,
    "googlenet": Needs(smallest=15, alone=47, weights=True),
    "inception": Needs(smallest=75, alone=107, weights=True),
    "maxvit": Needs(multiple=224, weights=True),
    "mnasnet": _STRIDE_32,
    "mobilenet": _STRIDE_32,
    "regnet": _STRIDE_32,
    "regnet_y_128gf": Needs(alone=33),
    "resnet": _RESNET,
    "resnext": _RESNET,
    "shufflenet": _STRIDE_32,
    "squeezenet1_0": Needs(smallest=21, weights=True),
    "squeezenet1_1": Needs(smallest=17, weights=True),
    "swin": Needs(smallest=4, weights=True),
    "vgg": Needs(smallest=32, weights=True),
    "vit_b_16": Needs(multiple=16, weights=True),
    "vit_b_32": Needs(multiple=32, weights=True),
    "vit_h_14": Needs(multiple=14),
    "vit_l_16": Needs(multiple=16, weights=True),
    "vit_l_32": Needs(multiple=32, weights=True),
    "wide_resnet": _RESNET,
}

Builder = Callable[..., "Network"]
"""``build(image_shape, num_classes)``, a class or a function, with ``pretrained`` and ``stem`` if it was registered so:
a freshly initialised ``Network``."""

BUILDERS: dict[str, Builder] = {}
B = TypeVar("B", bound=Builder)


def register(name: str, **needs: int) -> Callable[[B], B]:
    """Decorator that makes a builder known under ``name``; ``needs`` are those of ``Needs``.

    All of it is written out, since planning reads it without running the file.
    """

    def add(builder: B) -> B:
        BUILDERS[name] = builder
        return builder

    return add


# What there is


def needs(name: str) -> Needs:
    """What a network needs. Raises UserError for one that does not exist, or that a missing package has."""
    if name.startswith(TIMM):
        return _needs_of_timm(name)
    if entry := own().get(name):
        return entry.needs
    if name in library("torchvision"):
        return FAMILIES[max((each for each in FAMILIES if name.startswith(each)), key=len)]
    raise unknown("network", name, [*own(), *library("torchvision"), "timm/MODEL"])


def own() -> dict[str, Entry]:
    """The networks of this folder by name. Raises UserError where a file cannot be read, or a name is taken."""
    found: dict[str, Entry] = {}
    for folder in __path__:
        for path in sorted(Path(folder).glob("*.py")):
            for name, entry in _registered(path, path.stat().st_mtime_ns):
                if name in found:
                    raise UserError(f"{found[name].file} and {path} register a network '{name}' each: rename yours.")
                if name in library("torchvision") or not name.isidentifier():
                    raise UserError(f"{path} registers a network '{name}', a name that is taken or is none: rename it.")
                found[name] = entry
    return found


@lru_cache(maxsize=1000)
def _registered(path: Path, changed: int) -> tuple[tuple[str, Entry], ...]:
    """The names that a file registers, read from its text."""
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
        return tuple(_entries(module, path))
    except (SyntaxError, ValueError, TypeError) as error:
        raise UserError(f"{path} registers no network in a way that can be read ({error}): correct it.") from error


def _entries(module: ast.Module, path: Path) -> Iterator[tuple[str, Entry]]:
    for node in module.body:
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("register"):
                given = dict(zip(("name",), map(ast.literal_eval, call.args), strict=False))
                given |= {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg}
                name = given.pop("name", "")
                if not isinstance(name, str) or not all(isinstance(each, int) for each in given.values()):
                    raise ValueError(f"line {call.lineno}")
                yield name, Entry(path, Needs(**given))


@lru_cache(maxsize=2)
def library(package: str) -> frozenset[str]:
    """The names of torchvision's classifiers, or of timm's models; none where the package is not installed.

    Read from the text of its files: importing it takes seconds, and PyTorch.
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    texts = (path.read_text(encoding="utf-8") for folder in folders or () for path in Path(folder).glob("models/*.py"))
    return frozenset(
        name[1]
        for text in texts
        for part in re.split(r"^@register_model\b", text, flags=re.MULTILINE)[1:]
        if (name := re.search(r"^def (\w+)\(", part, re.MULTILINE))
    )


def _needs_of_timm(name: str) -> Needs:
    """What its name says, such as the 16 of vit_tiny_patch16_224; the rest is known once the model is built."""
    models = library("timm")
    if not models:
        raise UserError(f"The network {name} needs the package timm: pip install -e '.[timm]'.")
    model = name.removeprefix(TIMM).partition(".")[0]  # what follows names weights
    if model not in models:
        raise unknown("network", f"{TIMM}{model}", [f"{TIMM}{each}" for each in models])
    patch = re.search(r"_patch(\d+)(?:_|$)", model)
    return Needs(multiple=int(patch[1]) if patch else 1, weights=True)


def package(name: str) -> str:
    """The package that a network comes from, "torchvision" or "timm"; empty for one of this folder."""
    if name.startswith(TIMM):
        return "timm"
    return "" if name in own() else "torchvision"


# Building


def build(name: str, image_shape: tuple[int, ...], num_classes: int, **options: Any) -> Network:
    """A freshly initialised network. Raises UserError for an unknown name or one that cannot be built."""
    needs(name)
    if source := package(name):
        module = importlib.import_module(f"{__name__}.of_{source}")
        return module.build(name.removeprefix(TIMM), image_shape, num_classes, **options)
    return _builder(name)(image_shape, num_classes, **options)


def _builder(name: str) -> Builder:
    file = own()[name].file
    if name not in BUILDERS:
        try:
            importlib.import_module(f"{__name__}.{file.stem}")
        except Exception as error:  # whatever a file of somebody's own may raise
            raise UserError(f"{file} cannot be imported ({type(error).__name__}: {error}): correct it.") from error
    if name not in BUILDERS:  # another folder has a file of that name
        raise UserError(f"{file} is not what Python imports as networks.{file.stem}: rename it.")
    return BUILDERS[name]
