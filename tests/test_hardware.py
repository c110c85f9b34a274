"""Cores and memory, as Linux tells them and where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3local import hardware


def test_hyper_threads_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu in range(4):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    monkeypatch.setattr(hardware, "_CPU_FOLDER", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert hardware.physical_cores() == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2}, raising=False)
    assert hardware.physical_cores() == 1


def test_threads_are_counted_where_cores_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CPU_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert hardware.physical_cores() == 3


def test_memory_of_this_machine() -> None:
    total, available = hardware.total_memory_bytes(), hardware.available_memory_bytes()
    assert total > 100 << 20
    assert available is None or 0 < available <= total


def test_a_container_limits_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CONTROL_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{24 << 20}\n")
    assert hardware.total_memory_bytes() == 64 << 20
    assert hardware.available_memory_bytes() == 40 << 20
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.total_memory_bytes() > 64 << 20


def test_available_memory_may_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(hardware, "_MEMORY_INFO", tmp_path / "nothing")
    assert hardware.available_memory_bytes() is None


@pytest.mark.parametrize(
    ("vendor", "flags", "fast"),
    [
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx512f", False),
    ],
)
def test_16_bits_are_used_where_they_are_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, flags: str, fast: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n\n")
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
    assert hardware.bf16_is_fast() is fast
    assert "fpu" in hardware.cpu_flags()
