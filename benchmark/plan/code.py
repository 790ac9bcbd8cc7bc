"""Which code a run's numbers come from: a version of the common loop, one of the method and one of the network.

None is part of a run's name. A record holds all, and is stale once they are no longer the ones below: what it says was
measured by other code than a new run would be.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import networks
from benchmark.errors import UserError

METHODS = Path(__file__).parents[2] / "methods"
# Of the loop, its samplers, networks and losses, and the data sets' recipes: raised when any changes a number.
# tests/training/test_golden_losses.py does not let a number change without it.
LOOP = 1
OF_LOOP = ("base", "losses")  # files of methods/ that it is of, too, as is the network "mlp"
# Of the suite's methods, raised likewise. They stand here and not in the classes, so that a copy of one that is changed
# into another cannot take its version along.
VERSIONS = {
    "afr": 2,
    "be": 1,
    "bias_labels": 1,
    "debian": 1,
    "dfr": 2,
    "dpr": 1,
    "echoes": 1,
    "focal": 1,
    "gce": 1,
    "groupdro": 1,
    "jtt": 1,
    "known_poisoning": 1,
    "lff": 1,
    "lisa": 1,
    "poisoner": 1,
    "rwg": 1,
    "rwy": 1,
    "vanilla": 1,
    "xrm": 1,
}


@cache
def of_method(name: str) -> str:
    """The version of one of the suite's methods, "1".

    A user's own is known by a digest of the file that it stands in, of its package, if it is in one, and of the files
    of methods/ that these import, of what is executed there, so that neither comments nor docstrings make a record
    stale. Empty for a method that no file of methods/ registers in so many letters. Read once: a process that has
    loaded the methods asks at once, since a file may change while it trains. Raises UserError where a file of methods/
    cannot be read.
    """
    if name in VERSIONS:
        return str(VERSIONS[name])
    for path in sorted(METHODS.rglob("*.py")):
        for node in _parsed(path).body:
            if isinstance(node, ast.ClassDef) and any(_registers(each, name) for each in node.decorator_list):
                return _digest(path)
    return ""


@cache
def of_network(name: str) -> str:
    """A digest of a network's file, as for methods; empty for "mlp", and for networks of torchvision and timm.

    To be asked before the file is executed, and then read once.
    """
    entry = networks.own().get(name)
    return "" if entry is None or name == "mlp" else _digest(entry.file)


def _registers(decorator: ast.expr, name: str) -> bool:
    return (
        isinstance(decorator, ast.Call)
        and ast.unparse(decorator.func).endswith("register")
        and any(isinstance(each, ast.Constant) and each.value == name for each in decorator.args)
    )


def _digest(path: Path) -> str:
    """Of what is executed in a file, in its package, and in the files of the folder that these import, but for those
    that ``LOOP`` is of.
    """
    root = METHODS if path.is_relative_to(METHODS) else path.parent
    files = defaultdict[str, list[Path]](list)  # by the last part of the name that each is imported by
    for each in {*root.rglob("*.py")} - {root / "__init__.py"}:
        files[each.parent.name if each.stem == "__init__" else each.stem].append(each)
    package = root / path.relative_to(root).parts[0]
    reached, waiting = dict[Path, Any](), [path, *(package.rglob("*.py") if package.is_dir() else ())]
    while waiting:
        each = waiting.pop()
        if each not in reached:
            module = _parsed(each)
            reached[each] = _essence(module)
            waiting += [file for name in _imported(module) for file in files.get(name, ())]
    return hashlib.sha256(repr([reached[each] for each in sorted(reached)]).encode()).hexdigest()[:12]


def _parsed(path: Path) -> ast.Module:
    """The text of a file. Raises UserError for one that is no Python."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"), path.name)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path.parent.name}/{path.name} cannot be read ({error}): correct it.") from error


def _imported(module: ast.Module) -> Iterator[str]:
    """The last parts of the names of all modules that a module may import, but for those that ``LOOP`` is of."""
    for node in ast.walk(module):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        yield from {name.rpartition(".")[2] for name in names} - {"", *OF_LOOP}


def _essence(node: Any) -> Any:
    """A syntax tree without docstrings and what is empty: Python's versions differ in which empty fields they have."""
    if isinstance(node, list):
        return [_essence(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    filled = {name: value for name, value in fields.items() if value is not None and value != []}
    return type(node).__name__, [(name, _essence(value)) for name, value in sorted(filled.items())]
