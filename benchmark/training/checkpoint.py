"""A training's state on disk after its last finished epoch; the file exists whole or not at all.

Nothing of a checkpoint is used before all of it was looked at: it may be damaged, or of another version.
"""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.store.atomic import replacing

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
        try:
            with replacing(self.path) as temporary:
                torch.save(self._state, temporary)
        except (OSError, RuntimeError) as error:  # PyTorch's writer reports a full disk as a RuntimeError
            print(f"No checkpoint was written to {self.path}: {error}", flush=True)

    def read(self, check: Callable[[State], None]) -> tuple[State | None, str]:
        """The state in main memory, or None and perhaps why not.

        One that is damaged, or that ``check`` finds not to fit by raising ValueError, is set aside.
        """
        if not self.path.exists():
            return None, ""
        try:
            with zipfile.ZipFile(self.path) as archive:
                if archive.testzip():  # PyTorch writes checksums and never looks at them
                    raise ValueError("its checksum is another")
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            check(state)
            return state, ""
        except Exception as error:  # what a damaged file makes PyTorch raise is not to be foreseen
            reason = str(error) if type(error) is ValueError else type(error).__name__
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        try:
            os.replace(self.path, aside)
        except OSError:  # the next checkpoint replaces it
            aside = self.path
        return None, f"Checkpoint {aside.name} cannot be used ({reason}); started over."


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


def check_tensors(found: Any, expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless the tensors have the names, shapes and types of those expected, and finite numbers."""
    if not isinstance(found, Mapping) or found.keys() != expected.keys():
        raise ValueError("it holds other parameters than the method")
    for name, like in expected.items():
        each = found[name]
        if not isinstance(each, Tensor) or each.layout is not torch.strided:
            raise ValueError(f"{name} is no tensor")
        if each.shape != like.shape or each.dtype != like.dtype:
            raise ValueError(f"{name} is {each.dtype} {tuple(each.shape)}, not {like.dtype} {tuple(like.shape)}")
        if each.is_floating_point() and not each.isfinite().all():
            raise ValueError(f"{name} is not finite")


def check_generator(state: Any) -> None:
    """Raises ValueError for what is no state of a generator of random numbers on the CPU."""
    check_tensors({"generator": state}, {"generator": torch.Generator().get_state()})
    try:
        torch.Generator().set_state(state)
    except RuntimeError as error:
        raise ValueError("its generator is damaged") from error


def check_optimizer(found: Any, optimizer: torch.optim.Optimizer, updates: int) -> None:
    """Raises ValueError for what the optimiser cannot remember of its parameters after at most so many updates.

    Its kernels trust it: means of another shape than the parameter's are read beyond their end.
    """
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    state = found.get("state") if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not state.keys() <= set(range(len(parameters))):
        raise ValueError("its optimiser is of other parameters")
    for index, each in state.items():
        check_tensors(each, _remembered(optimizer, parameters[index]))
        if isinstance(optimizer, torch.optim.SGD):
            continue
        if not 1 <= each["step"].item() <= updates or (each["exp_avg_sq"] < 0).any():
            raise ValueError("its optimiser has made other steps than the training")


def _remembered(optimizer: torch.optim.Optimizer, like: Tensor) -> dict[str, Tensor]:
    """What it has in mind of a parameter, as tensors of the same kind."""
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer": like} if optimizer.defaults["momentum"] else {}
    step = torch.empty((), dtype=torch.float32)  # that of fused Adam, whatever the parameters are
    return {"step": step, "exp_avg": like, "exp_avg_sq": like}
