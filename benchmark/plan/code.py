"""Which code a run's numbers come from: a version of the common loop, one of the method and one of the network.

None is part of a run's name. A record holds all, and is stale once they are no longer the ones below: what it says was
measured by other code than a new run would be.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

import networks

METHODS = Path(__file__).parents[2] / "methods"
# Of the loop, its samplers, networks and losses, and the data sets' recipes: raised when any changes a number.
# tests/training/test_golden_losses.py does not let a number change without it.
LOOP = 1


@cache
def of_method(name: str) -> str:
    """A method's version, as its class states it, "1".

    The class of a user's own method need not state any: it is known by a digest of the file that it stands in, of
    what is executed there, so that neither comments nor docstrings make a record stale. Empty for a method that stands
    in no file of methods/.
    """
    for path in sorted(METHODS.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in module.body:
            if isinstance(node, ast.ClassDef) and any(_registers(each, name) for each in node.decorator_list):
                return _stated(node) or _digest(module)
    return ""


@cache
def of_network(name: str) -> str:
    """A network's version, as its file states it, "1", or a digest of the file as for methods.

    Empty for version 0, which records are older than, and for networks of torchvision and timm.
    """
    entry = networks.own().get(name)
    if entry is None or entry.version == 0:
        return ""
    return _digest(ast.parse(entry.file.read_text(encoding="utf-8"))) if entry.version is None else str(entry.version)


def _registers(decorator: ast.expr, name: str) -> bool:
    return (
        isinstance(decorator, ast.Call)
        and ast.unparse(decorator.func).endswith("register")
        and any(isinstance(each, ast.Constant) and each.value == name for each in decorator.args)
    )


def _stated(node: ast.ClassDef) -> str:
    """What the class assigns to ``version``, or nothing."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "version":
            return ast.unparse(statement.value)
    return ""


def _digest(module: ast.Module) -> str:
    for node in ast.walk(module):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(module).encode()).hexdigest()[:12]
