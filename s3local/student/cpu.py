"""What this machine's processor can do: the few facts that training, export and inference choose by.

Knows nothing of torch or onnxruntime. Where the system does not tell (not Linux), it claims little.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux lists, such as "avx2", "avx512_vnni" or "avx512_bf16"; else none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def physical_cores() -> int:
    """Cores that this process may run on, counting two hardware threads of one core once."""
    try:
        allowed = os.sched_getaffinity(0)
        siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        return len({Path(siblings.format(number)).read_text(encoding="ascii") for number in allowed})
    except (AttributeError, OSError):  # not Linux, or a container that hides the topology
        return os.cpu_count() or 1


def int8_is_exact() -> bool:
    """Whether products of 8-bit numbers are summed without overflow here: VNNI, or ARM64.

    Elsewhere pairs of products saturate at 16 bits, so weights may use 7 of their 8 bits only.
    """
    return platform.machine().lower() in ("arm64", "aarch64") or bool(cpu_flags() & {"avx512_vnni", "avx_vnni"})
