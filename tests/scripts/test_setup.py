from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def setup(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("setup")


def test_it_starts_with_the_standard_library_alone(setup: ModuleType) -> None:
    code = (
        f"import runpy, sys; sys.argv = ['setup.py', '--help']; runpy.run_path({setup.__file__!r}, run_name='__main__')"
    )
    isolated = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(isolated, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--judge" in done.stdout, done.stderr
    hardware = "import sys; sys.path.insert(0, sys.argv[1]); import s3local.weights.llama_build"
    subprocess.run([sys.executable, "-I", "-S", "-c", hardware, str(setup.ROOT)], check=True)


def test_a_wheel_that_does_not_load_is_seen(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "llama_cpp_python-0.3.36-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llama_cpp/lib/libllama.so", b"of another processor")
    monkeypatch.setattr(setup, "PYTHON", Path(sys.executable))
    assert setup.instruction_sets_lacking(wheel) is None


def test_the_instruction_sets_that_a_wheel_does_without_are_named(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "llama_cpp_python-0.3.36-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llama_cpp/lib/none", b"")
    monkeypatch.setattr(setup, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(setup, "PRINT_SYSTEM_INFO", "print('CPU : SSE3 = 1 | AVX2 = 1 | AVX512_VNNI = 0 |')")
    monkeypatch.setattr(setup, "cpu_flags", lambda: frozenset({"avx2", "avx512f", "avx512_vnni"}))
    assert setup.instruction_sets_lacking(wheel) == ["AVX512", "AVX512_VNNI"]
