"""Which commit of this checkout is running."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

from benchmark.store.record import Commit

REPOSITORY = Path(__file__).parents[2]
CODE = ("benchmark", "methods", "networks", "datasets")


@lru_cache(maxsize=1)
def commit() -> Commit:
    """The checkout's commit, and whether its code differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return Commit(commit=git("rev-parse", "HEAD"), modified=bool(git("status", "--porcelain", "--", *CODE)))
    except (OSError, subprocess.CalledProcessError):
        return Commit(commit=None, modified=None)
