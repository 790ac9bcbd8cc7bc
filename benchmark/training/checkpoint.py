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
        self._before: State = {}
        self._written = time.monotonic()

    def keep(self, tensors: State, rest: State) -> None:
        """Take the state after an epoch, and write it where it is time to.

        ``tensors``, dicts and lists of them, are copied where they are, so that nothing waits for the device; ``rest``
        is kept as it is. The copy takes the place of the last but one: a signal may ask for the last at any moment.
        """
        self._state, self._before = _copied(tensors, self._before) | rest, self._state
        if time.monotonic() - self._written >= self.seconds:
            self.write()
            self._written = time.monotonic()

    def write(self) -> None:
        """Write the state after the last finished epoch.

        May be called at any moment, in a signal handler too: a state in the middle of an epoch is never written.
        A folder that cannot be written costs a repetition, not the run; so does a signal in the few milliseconds in
        which a CUDA graph is captured, when nothing can be read from the device.
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


@torch.no_grad()
def _copied(state: State, place: State) -> State:
    """A deep copy of the state, in the memory of ``place`` as far as that holds tensors of the same kind."""
    pairs: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}

    def copy(value: Any, old: Any) -> Any:
        if isinstance(value, Tensor):
            new = old if isinstance(old, Tensor) and _kind(old) == _kind(value) else torch.empty_like(value)
            targets, sources = pairs.setdefault((value.device, value.dtype), ([], []))
            targets.append(new)
            sources.append(value)
            return new
        if isinstance(value, Mapping):
            old = old if isinstance(old, Mapping) else {}
            return {key: copy(each, old.get(key)) for key, each in value.items()}
        if isinstance(value, list):
            old = old if isinstance(old, list) and len(old) == len(value) else [None] * len(value)
            return [copy(each, one) for each, one in zip(value, old, strict=True)]
        return value

    copied: State = copy(state, place)
    for targets, sources in pairs.values():  # many small tensors in few kernels
        torch._foreach_copy_(targets, sources)
    return copied


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device
