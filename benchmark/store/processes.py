"""Processes of this machine: how they are called, and whether they live."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

LARGEST = 2**31 - 1  # a process id that the kernel takes


@cache
def machine() -> str:
    """Name of this machine, boot and process namespace: two processes with the same one can see each other's ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: the name has to do
        return platform.node()


def started(pid: int) -> str | None:
    """When a process of this machine was started, in the kernel's ticks, "" where unknown; None when there is none.

    Process ids are used again; the pair of id and start is not.
    """
    try:
        os.waitpid(pid, os.WNOHANG)  # a child that has ended stays visible until its parent has asked for it
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""
