"""Which commit of this checkout is running."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CODE = ("benchmark", "methods", "datasets")


@lru_cache(maxsize=1)
def commit() -> dict[str, str | bool | None]:
    """The checkout's commit and whether its code differs from it; both None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--", *CODE))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None}
