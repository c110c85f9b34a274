"""What this machine offers: cores and memory. Knows nothing of what they are used for."""

from __future__ import annotations

import os
from pathlib import Path

_CPU_FOLDER = Path("/sys/devices/system/cpu")


def physical_cores() -> int:
    """Cores this process may use, hyper-threads of one core counted once.

    Where the system does not tell which threads share a core, the threads themselves are counted.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        try:
            cores.add((_CPU_FOLDER / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))


def total_memory_bytes() -> int:
    """The memory of the machine, not what is free of it now: a choice made from it stays the same."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 8 << 30
