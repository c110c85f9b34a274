"""What this machine offers: cores, instruction sets, memory and a graphics card.

Where the system does not say (not Linux), the functions return conservative values.
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
    """Cores that this process may use; hyper-threads of one core count once.

    Where the system does not say which threads share a core, every thread counts.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return max(1, len({_siblings(cpu) for cpu in allowed}))


def usable_threads() -> int:
    """The threads that this process should use: as many as ``physical_cores``, or fewer if ``OMP_NUM_THREADS`` says so,
    as it does for workers that share the cores."""
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(physical_cores(), int(share)) if share.isdigit() and int(share) else physical_cores()


def _siblings(cpu: int) -> str:
    """The name of the core that a logical processor belongs to."""
    try:
        return (_CPU_FOLDER / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux lists, such as "avx2", "avx512_vnni" or "avx512_bf16"; none elsewhere."""
    return frozenset(_cpu_info("flags").split())


def cpu_name() -> str:
    """The processor and those of its instruction sets that decide which number format is fast, as one line."""
    name = _cpu_info("model name") or _cpu_info("Model") or platform.processor() or platform.machine()
    if sys.platform == "darwin":
        query = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or name
    present = cpu_flags() | set(_cpu_info("Features").split())
    features = " ".join(flag for flag in (*_CPU_FEATURES, *_CPU_FEATURES_ARM) if flag in present)
    return f"{name} ({features})" if features else name


def bf16_is_fast() -> bool:
    """Whether bfloat16 products are faster here than float32 ones: with AMX, or with AVX-512 on an AMD processor.

    On an Intel processor with AVX-512 but without AMX, training took 1.5 times as long with bfloat16.
    """
    flags = cpu_flags()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and _cpu_info("vendor_id") == "AuthenticAMD")


def _cpu_info(name: str) -> str:
    """The entry ``name`` of the first processor in /proc/cpuinfo; empty elsewhere."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def torch_device() -> str:
    """The device that torch computes on: "cuda" if it can use a graphics card here, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def room_on_card(purpose: str) -> Iterator[None]:
    """Raise ``ModelError`` if the graphics card runs out of memory in the block.

    ``purpose`` completes the message, such as "to embed texts".
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as exc:
        problem = f"the graphics card has no room left {purpose} beside the teacher"
        advice = "free some and run the same command again, or start a new run with fewer --gpu-layers"
        raise ModelError(f"{problem}; {advice}") from exc


def int8_is_exact() -> bool:
    """Whether this processor sums products of 8-bit numbers without overflow: with VNNI, or on ARM64.

    Elsewhere pairs of products saturate at 16 bits, so weights may use 7 of their 8 bits only.
    """
    return platform.machine().lower() in ("arm64", "aarch64") or bool(cpu_flags() & {"avx512_vnni", "avx_vnni"})


def total_memory_bytes() -> int:
    """The memory of the machine or of this container, used and free. It does not change, nor do choices made by it."""
    total = 8 << 30
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" is not a number: the container has no limit
        total = min(total, int((_CONTROL_GROUP / "memory.max").read_text()))
    return total


def available_memory_bytes() -> int | None:
    """Memory that a program can take now without swapping; None where the system does not say."""
    available = None
    with contextlib.suppress(OSError):
        match = re.search(r"^MemAvailable:\s*(\d+) kB", _MEMORY_INFO.read_text(), re.MULTILINE)
        available = int(match.group(1)) << 10 if match else None
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((_CONTROL_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        available = min(limit - used, available if available is not None else limit)
    return available
