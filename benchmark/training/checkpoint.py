"""A training's state on disk after its last finished epoch; the file exists whole or not at all."""

from __future__ import annotations

import os
import pickle
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


class Checkpoint:
    """The checkpoint at ``path``, written at least ``seconds`` after the last time."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._state: State = {}
        self._written = time.monotonic()

    def keep(self, state: State) -> None:
        """Take the state after an epoch, as a copy in main memory, and write it where it is time to."""
        self._state = _copy_to_cpu(state)
        if time.monotonic() - self._written >= self.seconds:
            self.write()
            self._written = time.monotonic()

    def write(self) -> None:
        """Write the state after the last finished epoch.

        May be called at any moment, in a signal handler too: a state in the middle of an epoch is never written.
        A folder that cannot be written costs a repetition, not the run.
        """
        if not self._state:
            return
        partial = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            try:
                torch.save(self._state, partial)
                os.replace(partial, self.path)
            finally:
                partial.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # PyTorch's writer reports an absent folder as a RuntimeError
            print(f"No checkpoint was written to {self.path}: {error}", flush=True)

    def read(self, device: torch.device, fits: Callable[[State], bool]) -> tuple[State | None, str]:
        """The state, or None and perhaps why not.

        One that is damaged, or was written by another version of the loop or of the method, is set aside.
        """
        if not self.path.exists():
            return None, ""
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            if not fits(state):
                raise RuntimeError("it is of another version")
            return state, ""
        except (OSError, EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
            aside = self.path.with_name(f"{self.path.name}.corrupt")
            os.replace(self.path, aside)
            return None, f"Checkpoint {aside.name} cannot be used ({type(error).__name__}); started over."


def _copy_to_cpu(value: Any) -> Any:
    """A deep copy with all tensors in main memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copy_to_cpu(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy_to_cpu(each) for each in value]
    return value
