"""How much of this machine there is to work with, and of what kind."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def cores() -> int:
    """The number of cores this process may use, which on a cluster is not that of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name where the system tells, else its architecture."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def threads_each(processes: int = 1) -> int:
    """How many threads each of so many processes takes: its share of the cores, or OMP_NUM_THREADS if that is fewer.

    Whoever starts two commands at once can so share the cores out. Threads beyond the cores wait for each other in a
    loop: docs/speed.md.
    """
    share = max(1, cores() // processes)
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(share, int(asked)) if asked.isdecimal() and int(asked) > 0 else share
