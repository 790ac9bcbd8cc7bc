"""What a process that trains asks of PyTorch and of the C library, before it does."""

from __future__ import annotations

import ctypes

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT, LARGEST = 2**31 - 1, 2**30  # bytes


def configure() -> None:
    """Ask PyTorch for what training gains from, before anything is computed: threads take it over when they start."""
    torch.backends.cudnn.benchmark = True  # all batches of a run have one shape
    torch.backends.cudnn.allow_tf32 = False  # what is recorded as float32 is, on Ampere and later, too
    # With weight decay the weights of units that died, and Adam's means of their gradients, shrink to numbers so
    # small that a CPU computes with them several times more slowly.
    torch.set_flush_denormal(True)


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, instead of giving it back to the system: every update asks for the same again.

    Without it the system clears the same pages anew in each update, a tenth of ResNet-18's time (docs/speed.md). Where
    the C library has no such options nothing happens. A process that only has others train does without: it is to give
    the memory of its data back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_THRESHOLD, LARGEST)
