"""What this machine offers: cores, instruction sets, memory and a graphics card, and what to say when that has no room.

Knows nothing of tasks and models. Where the system does not tell (not Linux), it claims little.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from s3local.exceptions import ModelError

_CPU_FOLDER = Path("/sys/devices/system/cpu")
_CONTROL_GROUP = Path("/sys/fs/cgroup")
_MEMORY_INFO = Path("/proc/meminfo")
_CPU_INFO = Path("/proc/cpuinfo")
_CPU_FEATURES = ("avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_CPU_FEATURES_ARM = ("asimddp", "i8mm", "bf16", "sve", "sve2")


def physical_cores() -> int:
    """Cores this process may use, hyper-threads of one core counted once.

    Where the system does not tell which threads share a core, the threads themselves are counted.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return max(1, len({_siblings(cpu) for cpu in allowed}))


def _siblings(cpu: int) -> str:
    """Names the core that a logical processor belongs to."""
    try:
        return (_CPU_FOLDER / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux lists, such as "avx2", "avx512_vnni" or "avx512_bf16"; else none."""
    return frozenset(_cpu_info("flags").split())


def cpu_name() -> str:
    """The processor with the instruction sets that decide which format is fast, as one line."""
    name = _cpu_info("model name") or _cpu_info("Model") or platform.processor() or platform.machine()
    if sys.platform == "darwin":
        query = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or name
    present = cpu_flags() | set(_cpu_info("Features").split())
    features = " ".join(flag for flag in (*_CPU_FEATURES, *_CPU_FEATURES_ARM) if flag in present)
    return f"{name} ({features})" if features else name


def bf16_is_fast() -> bool:
    """Whether products of 16-bit numbers (bfloat16) are faster here than those of 32: with AMX, or AVX-512 by AMD.

    On an Intel processor with AVX-512 but without AMX, training took 1.5 times as long with them.
    """
    flags = cpu_flags()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and _cpu_info("vendor_id") == "AuthenticAMD")


def _cpu_info(name: str) -> str:
    """What Linux says of the first processor under ``name``; nothing elsewhere."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def torch_device() -> str:
    """Where torch computes: "cuda" if it has a graphics card here, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def room_on_card(purpose: str) -> Iterator[None]:
    """Raises ``ModelError`` if the graphics card has no memory left for what torch does inside, ``purpose`` in words
    such as "to embed texts"."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as exc:
        problem = f"the graphics card has no room left {purpose} beside the teacher"
        advice = "free some and run the same command again, or begin a run with fewer --gpu-layers"
        raise ModelError(f"{problem}; {advice}") from exc


def int8_is_exact() -> bool:
    """Whether products of 8-bit numbers are summed without overflow here: VNNI, or ARM64.

    Elsewhere pairs of products saturate at 16 bits, so weights may use 7 of their 8 bits only.
    """
    return platform.machine().lower() in ("arm64", "aarch64") or bool(cpu_flags() & {"avx512_vnni", "avx_vnni"})


def total_memory_bytes() -> int:
    """The memory of the machine or of this container, not what is free of it now: what is chosen by it stays."""
    total = 8 << 30
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: the container has no limit
        total = min(total, int((_CONTROL_GROUP / "memory.max").read_text()))
    return total


def available_memory_bytes() -> int | None:
    """Memory that a program could take now without others being pushed out; None where the system does not tell."""
    available = None
    with contextlib.suppress(OSError):
        match = re.search(r"^MemAvailable:\s*(\d+) kB", _MEMORY_INFO.read_text(), re.MULTILINE)
        available = int(match.group(1)) << 10 if match else None
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((_CONTROL_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        available = min(limit - used, available if available is not None else limit)
    return available
