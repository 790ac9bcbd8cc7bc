"""How much of this machine there is to work with."""

from __future__ import annotations

import os


def cores() -> int:
    """The number of cores this process may use, which on a cluster is not that of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
