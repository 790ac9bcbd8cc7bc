"""What a process that trains asks of the C library's allocator."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT, LARGEST = 2**31 - 1, 2**30  # bytes


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, instead of giving it back to the system: every update asks for the same again.

    Without it the system clears the same pages anew in each update, a tenth of ResNet-18's time (docs/speed.md). Where
    the C library has no such options nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_THRESHOLD, LARGEST)
