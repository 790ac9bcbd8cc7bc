"""Where an image set lies under the data root, and where it comes from when it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError
from datasets.download import Download, obtain


class NotFound(UserError):
    """An image set is not under the data root; ``source`` is what would help."""

    def __init__(self, message: str, source: Source) -> None:
        super().__init__(message)
        self.source = source


@dataclass(frozen=True)
class Source:
    """Where an image set lies and comes from.

    ``folders`` are its usual names under the data root, ``needs`` what must be inside; ``advice`` completes the
    sentence "… was not found: ". Where the owners have ``terms``, nothing is downloaded before they are accepted.
    """

    name: str
    folders: tuple[str, ...]
    needs: tuple[str, ...]
    advice: str
    downloads: tuple[Download, ...] = ()
    terms: str = ""

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
        if self.terms:
            message += (
                " Or say python -m datasets.prepare TASK --accept-terms, by which you accept the owners' terms "
                f"({self.terms}) and which downloads it."
            )
        raise NotFound(message, self)

    def obtain(self, data_root: Path, accept_terms: bool) -> bool:
        """Unpack what is there and download what may be downloaded; whether that changed anything.

        Raises UserError, after all has been tried, for what could not be had.
        """
        obtained, failures = False, []
        for each in self.downloads:
            try:
                obtained |= obtain(each, data_root, accept_terms or not self.terms)
            except UserError as error:
                failures.append(str(error))
        if failures:
            raise UserError(f"{' '.join(failures)} By hand: {self.advice}")
        return obtained
