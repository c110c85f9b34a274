from __future__ import annotations

import shutil
import subprocess
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from s3local.weights.llama_build import cache_folder, kept_wheel, share_done, without_other_variants


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("  [12/83] Building CXX object vendor/a.o", 12 / 83),
        ("[83/83] Linking CXX shared library", 1.0),
        ("  [ 14%] Building CXX object vendor/a.o", 0.14),
        ("  [1/2] Building CXX object CMakeFiles/cmTC_1.dir/test.o", None),  # one of CMake's own checks
        ("  Building wheel for llama_cpp_python (pyproject.toml): started", None),
    ],
)
def test_progress_is_read_off_what_the_compiler_prints(line: str, share: float | None) -> None:
    assert share_done(line) == share


def test_wheels_of_other_versions_and_other_builds_lie_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    first = cache_folder("llama_cpp_python==0.3.36")
    assert first == cache_folder("llama_cpp_python==0.3.36")
    others = {cache_folder("llama_cpp_python==0.3.37")}
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    others.add(cache_folder("llama_cpp_python==0.3.36"))
    monkeypatch.setattr("s3local.weights.llama_build.cpu_flags", lambda: frozenset({"avx2"}))
    others.add(cache_folder("llama_cpp_python==0.3.36"))
    assert len(others | {first}) == 4


CMAKE = """
if (GGML_CPU_ALL_VARIANTS)
    if (GGML_SYSTEM_ARCH STREQUAL "x86")
        ggml_add_cpu_backend_variant(x64)
        ggml_add_cpu_backend_variant(sse42   SSE42)
        ggml_add_cpu_backend_variant(haswell SSE42 AVX F16C FMA AVX2 BMI2)
        if (NOT MSVC)
            ggml_add_cpu_backend_variant(zen4 SSE42 AVX F16C FMA AVX2 BMI2 AVX512)
            ggml_add_cpu_backend_variant(cooperlake SSE42 AVX F16C FMA AVX2)
        endif()
    elseif(GGML_SYSTEM_ARCH STREQUAL "ARM")
        ggml_add_cpu_backend_variant(armv8.0_1)
"""


def test_a_portable_build_has_few_kernels_for_x86_and_all_for_others() -> None:
    left = without_other_variants(CMAKE)
    gone = [line.strip().split()[0] for line in CMAKE.splitlines() if line not in left.splitlines()]
    assert gone == ["ggml_add_cpu_backend_variant(sse42", "ggml_add_cpu_backend_variant(cooperlake"]
    assert without_other_variants("project(ggml)") == "project(ggml)"


def test_a_portable_wheel_is_that_of_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache_folder("llama_cpp_python==0.3.36", portable=True)
    monkeypatch.setattr("s3local.weights.llama_build.cpu_flags", lambda: frozenset({"avx2"}))
    assert cache_folder("llama_cpp_python==0.3.36", portable=True) == first
    assert cache_folder("llama_cpp_python==0.3.36") != first


def test_a_portable_wheel_holds_wide_instructions_only_where_they_are_chosen_at_run_time(tmp_path: Path) -> None:
    """Registers of AVX are called ymm, those of AVX-512 zmm. Needs the wheel of ``s3local bundle create``."""
    wheel = kept_wheel(f"llama_cpp_python=={version('llama_cpp_python')}", portable=True)
    if wheel is None or shutil.which("objdump") is None:
        pytest.skip("needs objdump and a portable wheel, which 's3local bundle create' builds")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    found = {}
    for path in (tmp_path / "llama_cpp" / "lib").glob("*.so"):
        done = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True)
        found[path.stem] = {register for register in ("ymm", "zmm") if f"%{register}" in done.stdout}
    assert found.pop("libggml-cpu-haswell") == {"ymm"} and found.pop("libggml-cpu-zen4") == {"ymm", "zmm"}
    assert set(found) == {"libllama", "libggml", "libggml-base", "libggml-cpu-x64"} and not any(found.values())
