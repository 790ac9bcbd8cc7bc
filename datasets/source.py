"""Where an image set lies under the data root, and where it comes from when it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError
from datasets.download import Archive


class NotFound(UserError):
    """An image set is not under the data root; ``archive`` is what would help."""

    def __init__(self, message: str, archive: Archive | None) -> None:
        super().__init__(message)
        self.archive = archive


@dataclass(frozen=True)
class Source:
    """Where an image set lies and comes from.

    ``folders`` are its usual names under the data root, ``needs`` what must be inside; ``advice`` completes the
    sentence "… was not found: ".
    """

    name: str
    folders: tuple[str, ...]
    needs: tuple[str, ...]
    advice: str
    archive: Archive | None = None

    def find(self, data_root: Path, also: Sequence[str] = ()) -> Path:
        """The first of the folders that has all it ``needs`` and ``also``. Raises NotFound, saying what to do."""
        needs = (*self.needs, *also)
        candidates = [data_root / folder for folder in self.folders if (data_root / folder).is_dir()]
        lacking = {folder: [each for each in needs if not (folder / each).exists()] for folder in candidates}
        for folder, absent in lacking.items():
            if not absent:
                return folder
        why = "; ".join(f"{folder} lacks {', '.join(absent)}" for folder, absent in lacking.items())
        message = f"{self.name} was not found under {data_root}{f' ({why})' if why else ''}: {self.advice}"
        raise NotFound(message, self.archive)
