"""Shared fixtures: small datasets that need no files, and the development images where a machine has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from factories import digits
from torch import Tensor

from benchmark.workers import crew
from datasets import BiasedDataset


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Sums of floats depend on how they are split; one thread is also the fastest for such small networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands train in the process of the test, which can look into them; tests/workers/test_crew.py has several."""
    monkeypatch.setattr(crew, "cores", lambda: 1)


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a processor has beyond arithmetic is the business of the tests that say so."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train in float64: what processors add up in another order then stays equal to many digits.

    float32 does not do for that. Adam's first steps make a full step of a gradient's sign, and DebiAN descends the
    logarithm of a difference that is nearly zero.
    """
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # losses ask for it, to leave bfloat16
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def data_root() -> Path:
    root = os.environ.get("BENCHMARK_DATA_ROOT")
    if not root:
        pytest.skip("BENCHMARK_DATA_ROOT does not name a folder with the datasets")
    return Path(root)


@pytest.fixture
def tiny() -> BiasedDataset:
    return digits.tiny()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="store the rendered tables as the golden ones")
