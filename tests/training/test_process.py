"""Memory that is freed stays with a process that trains, and no number in it is too small to compute with fast."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

# Pages that the system had to clear while a tensor of 40 MB was filled and freed twenty times.
PROGRAM = """
import resource, torch
from benchmark.training.process import keep_freed_memory

def cleared():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = cleared()
keep_freed_memory()
cleared()
print(before, cleared())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_what_is_freed_is_not_cleared_anew() -> None:
    printed = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    before, after = map(int, printed.split())
    assert after < before / 10


TINY = """
import torch
from benchmark.training.process import configure

configure()
torch.set_num_threads(2)
print((torch.full((1_000_000,), 1e-38) / 10).max().item())
assert not torch.backends.cudnn.allow_tf32, "float32 is to be float32"
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="PyTorch can do so on x86 only")
def test_numbers_next_to_zero_are_zero_in_every_thread() -> None:
    printed = subprocess.run([sys.executable, "-c", TINY], check=True, capture_output=True, text=True).stdout
    assert float(printed) == 0
