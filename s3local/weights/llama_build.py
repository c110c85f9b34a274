"""Building llama.cpp: wheels of llama-cpp-python for this processor, or for any processor of its kind.

Needs the standard library alone, because ``scripts/setup.py`` calls it before any package is installed. Only llama and
ggml are built, which is all that s3local loads. A wheel is kept in the user's cache folder; every Python can use it,
because llama.cpp is loaded by ctypes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from s3local.exceptions import ModelError
from s3local.hardware import cpu_flags, cpu_name

LLAMA = "llama_cpp_python"
ONLY_LLAMA = """\
# llama-cpp-python switches llama.cpp's "common" library on. CMake reads this file after the project() line.
# The plain variable hides the cached one, so that 74 files are compiled in place of 178.
set(LLAMA_BUILD_COMMON OFF)
"""
PORTABLE: Mapping[str, str] = {
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "GGML_OPENMP": "OFF",
    "CMAKE_INSTALL_BINDIR": "llama_cpp/lib",
    "CMAKE_INSTALL_LIBDIR": "llama_cpp/lib",
    "CMAKE_INSTALL_INCLUDEDIR": "llama_cpp/include",
}
"""CMake definitions of a build whose kernels are chosen at run time. ggml has threads of its own, so that the other
machine needs no library of OpenMP."""
VARIANTS = ("x64", "haswell", "zen4")
"""The kernels of a portable build for x86-64: any processor, AVX2, and AVX-512 with BF16. llama.cpp has eleven more,
which differ little from these; each takes a third as long to compile as all the rest of llama.cpp."""


def kept_wheel(requirement: str, *, portable: bool = False) -> Path | None:
    """The wheel that was built here before; None if there is none."""
    return next(cache_folder(requirement, portable=portable).glob("*.whl"), None)


def cache_folder(requirement: str, *, portable: bool = False) -> Path:
    """Where a wheel is kept: one folder for each version, kind of processor and CMAKE_ARGS."""
    if os.name == "nt":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        caches = Path.home() / "Library/Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built_for = [requirement, sys.platform, platform.machine()]
    built_for += ["portable", *VARIANTS] if portable else [cpu_name(), *sorted(cpu_flags())]
    key = hashlib.sha256("\n".join([*built_for, os.environ.get("CMAKE_ARGS", "")]).encode()).hexdigest()[:16]
    return caches / "s3local" / "wheels" / key


class Build:
    """The build of a wheel by ``python -m pip`` in another process. ``say`` hears every tenth of it that is done."""

    def __init__(
        self, python: Path, requirement: str, log: Path, say: Callable[[str], None], *, portable: bool = False
    ) -> None:
        self._requirement, self._portable, self._log, self._say = requirement, portable, log, say
        self._started = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="s3local-build-"))
        include = self._folder / "only_llama.cmake"
        include.write_text(ONLY_LLAMA, encoding="utf-8")
        definitions = {"LLAVA_BUILD": "OFF", "CMAKE_PROJECT_llama_cpp_INCLUDE": include.as_posix()}
        source = requirement
        if portable:
            definitions |= PORTABLE
            source = str(_portable_source(python, requirement, self._folder))
        # pip would take a wheel of another processor or another build from its own cache
        command = [str(python), "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir", "--no-binary", LLAMA]
        for name, value in definitions.items():
            command += ["-C", f"cmake.define.{name}={value}"]
        self._process = subprocess.Popen(
            [*command, "--wheel-dir", str(self._folder), source],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=os.name == "posix",  # so that the compilers can be ended with it
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Copy the output to the log, and read off it how far the compiler is."""
        tenths = 0
        with self._log.open("w", encoding="utf-8") as log:
            for line in self._process.stdout or ():
                log.write(line)
                share = share_done(line)
                if share is not None and int(10 * share) > tenths:
                    tenths = int(10 * share)
                    self._say(f"building llama.cpp: {10 * tenths} % after {time.monotonic() - self._started:.0f} s")

    def wait(self) -> Path:
        """The wheel, once it is built and lies in the cache folder. Raises ``ModelError`` if it cannot be built."""
        code = self._process.wait()
        self._reader.join()
        if code != 0:
            lines = self._log.read_text(encoding="utf-8").splitlines()
            reason = next((line.strip() for line in lines if "error:" in line.lower()), "no reason was given")
            raise ModelError(f"{self._requirement} could not be built: {reason}; the whole log is {self._log}")
        (built,) = self._folder.glob("*.whl")
        folder = cache_folder(self._requirement, portable=self._portable)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{built.name}.unfinished"
        shutil.copyfile(built, unfinished)
        return unfinished.replace(folder / built.name)

    def end(self) -> None:
        """End the compilers if they still run, and remove what they wrote."""
        if self._process.poll() is None:
            if os.name == "posix":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGTERM)
            else:
                self._process.terminate()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def building(
    python: Path, requirement: str, log: Path, say: Callable[[str], None], *, portable: bool = False
) -> Iterator[Build]:
    """A build that runs beside what is done inside, and ends with it. Raises ``ModelError`` without the source."""
    build = Build(python, requirement, log, say, portable=portable)
    try:
        yield build
    finally:
        build.end()


def share_done(line: str) -> float | None:
    """How much of a build is done, by a line of ninja ("[12/83] ...") or of make ("[ 14%] ..."); else None."""
    if match := re.match(r"\s*\[(\d+)/(\d+)\]", line):
        done, total = map(int, match.groups())
        return done / total if total > 10 else None  # CMake's own checks of the compiler are shorter
    match = re.match(r"\s*\[\s*(\d+)%\]", line)
    return int(match.group(1)) / 100 if match else None


def without_other_variants(cmake: str) -> str:
    """ggml's CMakeLists.txt without the kernels for x86 that are not in ``VARIANTS``; as it is if it has none."""
    begin = cmake.find("ggml_add_cpu_backend_variant(x64")
    end = cmake.find("elseif", begin)
    if begin < 0 or end < 0:
        return cmake
    line = re.compile(r"^ *ggml_add_cpu_backend_variant\((\w+)[^)]*\)\n", re.MULTILINE)
    wanted = line.sub(lambda found: found[0] if found[1] in VARIANTS else "", cmake[begin:end])
    return cmake[:begin] + wanted + cmake[end:]


def _portable_source(python: Path, requirement: str, folder: Path) -> Path:
    """The unpacked source of llama-cpp-python, without the kernels that a portable build leaves out."""
    command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", LLAMA]
    command += ["--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archive = next(folder.glob("*.tar.gz"), None)
    if done.returncode != 0 or archive is None:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["pip gave no reason"]
        raise ModelError(f"the source of {requirement} cannot be fetched: {errors[0].removeprefix('ERROR: ')}")
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):
            opened.extractall(folder, filter="data")
        else:  # Python 3.10 before 3.10.12; pip itself unpacks this archive the same way
            opened.extractall(folder)
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    lists = source / "vendor/llama.cpp/ggml/src/CMakeLists.txt"
    lists.write_text(without_other_variants(lists.read_text(encoding="utf-8")), encoding="utf-8")
    return source
