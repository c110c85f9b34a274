"""Set up a checkout: .venv with the versions of constraints.txt, llama.cpp built for this processor, the models.

    python3 scripts/setup.py                 what `make setup` calls; on Windows: py scripts\\setup.py
    python3 scripts/setup.py --judge none    without the 0.4 GB judge
    python3 scripts/setup.py --collect DIR   also the packages for a machine without a network

Only the standard library is needed. An interrupted call is continued by the next one; when all is there, a call takes
a second or two. llama-cpp-python has no ready wheels on the ordinary index, so it is built while the other packages
are downloaded. The wheel is kept in the user's cache folder, one for each version, processor and CMAKE_ARGS.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for s3local.hardware, which needs the standard library alone

VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "s3local-stamp"
"""Written last: the checksum of what decides which packages are installed."""
BUILD_LOG = VENV / "llama-build.log"
CONSTRAINTS = ROOT / "constraints.txt"
LLAMA = "llama_cpp_python"

FEATURES = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "avx512_bf16": "AVX512_BF16"}
"""Instruction sets that decide how fast llama.cpp is: what Linux calls them, and what llama.cpp does."""

PRINT_SYSTEM_INFO = """
import ctypes, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
if hasattr(os, "add_dll_directory"):
    os.add_dll_directory(str(folder))
(path,) = [folder / name for name in ("libllama.so", "libllama.dylib", "llama.dll") if (folder / name).is_file()]
library = ctypes.CDLL(str(path))
library.llama_print_system_info.restype = ctypes.c_char_p
print(library.llama_print_system_info().decode())
"""


def main() -> None:
    """Parse the command line and set up what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    judge_help = "'none' leaves out the large encoder that checks labels, a download of 0.4 GB (default: embedded)"
    parser.add_argument("--judge", choices=["embedded", "none"], default="embedded", help=judge_help)
    collect_help = "afterwards collect all packages in FOLDER, for a machine of the same kind without a network"
    parser.add_argument("--collect", metavar="FOLDER", type=Path, help=collect_help)
    options = parser.parse_args()
    with_judge = options.judge != "none"
    if sys.version_info < (3, 10):  # noqa: UP036  an older Python shall say so itself
        stop(f"this is Python {platform.python_version()}; 3.10 or newer is needed (make: PYTHON=python3.12 make ...)")
    started = time.monotonic()
    make_environment()
    fingerprint = fingerprint_of_packages()
    if not STAMP.is_file() or STAMP.read_text(encoding="utf-8") != fingerprint:
        install_packages(with_judge)
        STAMP.write_text(fingerprint, encoding="utf-8")
    say("checking the embedded models (fetched once)")
    fetch_models([] if with_judge else ["--no-judge"])
    if options.collect is not None:
        collect_packages(options.collect.resolve())
    say(f"all is set up, after {time.monotonic() - started:.0f} s")


def make_environment() -> None:
    """Make ``.venv`` unless there is one that works."""
    if PYTHON.is_file() and subprocess.run([PYTHON, "-c", "import pip"], capture_output=True).returncode == 0:
        return
    say(f"making the environment .venv with Python {platform.python_version()}")
    try:
        import ensurepip  # noqa: F401  Debian keeps it in a package of its own
        import venv
    except ImportError:
        stop("this Python has no venv module (Debian: apt install python3-venv)")
    venv.create(VENV, clear=True, with_pip=True)


def fingerprint_of_packages() -> str:
    """A checksum of the files that decide which packages are installed."""
    paths = [CONSTRAINTS, ROOT / "pyproject.toml", Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def install_packages(with_judge: bool) -> None:
    """Install everything into ``.venv``. Meanwhile llama.cpp is built, unless a wheel is here that fits."""
    pins = [line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    llama = next(pin for pin in pins if pin.startswith(LLAMA))
    torch = next(pin for pin in pins if pin.startswith("torch=="))
    pip("install", "--quiet", "pip>=23.1")
    needs_llama = not installed(llama)
    wheel = ready_wheel(llama) if needs_llama else None
    with building(llama) if needs_llama and wheel is None else contextlib.nullcontext() as build:
        if not installed(torch):
            say(f"installing {torch}: a large download, once (the README says how to get the small build for CPUs)")
            pip("install", torch, "-c", str(CONSTRAINTS))
        say("installing the other packages")
        with tempfile.TemporaryDirectory() as folder:
            others = Path(folder) / "others.txt"
            others.write_text("\n".join(pin for pin in pins if pin != llama), encoding="utf-8")
            pip("install", "--quiet", "-r", str(others))
        pip("install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
        if build is not None:
            fetch_models(models_without_teacher(with_judge))
            wheel = build.wait()
        if wheel is not None:
            pip("install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel))


def collect_packages(folder: Path) -> None:
    """Put the wheels of everything that is installed into ``folder``; there, pip needs neither network nor compiler."""
    llama = next(line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line.startswith(LLAMA))
    say(f"collecting the packages in {folder}")
    pip(
        *("wheel", "--quiet", "-r", str(CONSTRAINTS), "pip>=23.1"),
        *("--find-links", str(cache_folder(llama)), "--wheel-dir", str(folder)),
    )


def fetch_models(arguments: list[str]) -> None:
    """Run ``s3local models fetch``, which leaves alone what is here and says so."""
    run(PYTHON, "-m", "s3local.cli.main", "models", "fetch", *arguments)


def models_without_teacher(with_judge: bool) -> list[str]:
    """The embedded models that can be fetched before llama.cpp is there, which is needed to convert a teacher."""
    code = (
        "import json; from s3local.weights.manifest import known_models;"
        "print(json.dumps({m.id: m.roles for m in known_models().values() if m.embedded}))"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    left_out = {"teacher"} if with_judge else {"teacher", "judge"}
    return [name for name, roles in json.loads(done.stdout).items() if not left_out & set(roles)]


# ---- llama.cpp -----------------------------------------------------------------------------------------------------


def ready_wheel(llama: str) -> Path | None:
    """A wheel of llama-cpp-python that was built here before, or one that pip finds; None if it must be built.

    A wheel that pip finds has to load. Where there is a compiler, it also has to use the instruction sets of this
    processor.
    """
    kept = next(cache_folder(llama).glob("*.whl"), None)
    if kept is not None:
        say(f"{llama}: taking the wheel that was built here before")
        return kept
    folder = VENV / "found-wheels"
    shutil.rmtree(folder, ignore_errors=True)
    if not os.environ.get("CMAKE_ARGS"):
        options = ["--quiet", "--no-deps", "--only-binary", LLAMA, "--dest", folder]
        subprocess.run([PYTHON, "-m", "pip", "download", *options, llama], capture_output=True, cwd=ROOT)
    found = next(folder.glob("*.whl"), None)
    compilers = (os.environ.get("CXX", "c++"), "c++", "g++", "clang++")
    can_build = os.name == "nt" or any(map(shutil.which, compilers))  # Visual Studio's is not on the path
    lacks = instruction_sets_lacking(found) if found else None
    if found is None or lacks is None:
        reason = "must be built" if found is None else f"has a ready wheel that does not load here ({found.name})"
        if not can_build:
            stop(f"{llama} {reason}, and there is no C++ compiler (Debian: apt install g++)")
        say(f"{llama} {reason}")
        return None
    if lacks and can_build:
        say(f"{llama}: the ready wheel that pip finds does without this processor's {', '.join(lacks)}")
        return None
    say(f"{llama}: taking the ready wheel that pip finds")
    return found


def instruction_sets_lacking(wheel: Path) -> list[str] | None:
    """The instruction sets of this processor that a wheel was compiled without; None if it does not load here."""
    from s3local.hardware import cpu_flags

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        command = [PYTHON, "-c", PRINT_SYSTEM_INFO, Path(folder) / "llama_cpp" / "lib"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return None
    return [name for flag, name in FEATURES.items() if flag in cpu_flags() and f" {name} = 1" not in done.stdout]


def cache_folder(llama: str) -> Path:
    """Where the wheel built for this processor is kept. Every Python can use it: llama.cpp is loaded by ctypes."""
    from s3local.hardware import cpu_flags, cpu_name

    if os.name == "nt":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        caches = Path.home() / "Library/Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built_for = [llama, sys.platform, platform.machine(), cpu_name(), *sorted(cpu_flags())]
    key = hashlib.sha256("\n".join([*built_for, os.environ.get("CMAKE_ARGS", "")]).encode()).hexdigest()[:16]
    return caches / "s3local" / "wheels" / key


class Build:
    """The build of a wheel in another process. Says every tenth of it that is done."""

    def __init__(self, llama: str) -> None:
        self._llama, self._started = llama, time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="s3local-build-"))
        definitions = {
            "LLAVA_BUILD": "OFF",
            "CMAKE_PROJECT_llama_cpp_INCLUDE": (ROOT / "scripts" / "llama_only.cmake").as_posix(),
        }
        # pip would take a wheel of another processor or another build from its own cache
        command = [str(PYTHON), "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir", "--no-binary", LLAMA]
        for name, value in definitions.items():
            command += ["-C", f"cmake.define.{name}={value}"]
        self._process = subprocess.Popen(
            [*command, "--wheel-dir", str(self._folder), llama],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=ROOT,
            start_new_session=os.name == "posix",  # so that the compilers can be ended with it
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Copy the output to the log, and read off it how far the compiler is."""
        tenths = 0
        with BUILD_LOG.open("w", encoding="utf-8") as log:
            for line in self._process.stdout or ():
                log.write(line)
                share = share_done(line)
                if share is not None and int(10 * share) > tenths:
                    tenths = int(10 * share)
                    say(f"building llama.cpp: {10 * tenths} % after {time.monotonic() - self._started:.0f} s")

    def wait(self) -> Path:
        """The wheel, once it is built and lies in the cache folder."""
        code = self._process.wait()
        self._reader.join()
        if code != 0:
            end = "\n".join(BUILD_LOG.read_text(encoding="utf-8").splitlines()[-15:])
            stop(f"{self._llama} could not be built; {BUILD_LOG.relative_to(ROOT)} ends with\n{end}")
        (built,) = self._folder.glob("*.whl")
        folder = cache_folder(self._llama)
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
def building(llama: str) -> Iterator[Build]:
    """A build that runs beside what is done inside, and ends with it."""
    say(f"building {llama} for this processor beside what follows: some minutes, once")
    build = Build(llama)
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


# ---- small things --------------------------------------------------------------------------------------------------


def installed(pin: str) -> bool:
    """Whether ``.venv`` has the package in that version, whatever the suffix of its build."""
    name, version = pin.split(";")[0].strip().split("==")
    code = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]).split('+')[0])"
    return subprocess.run([PYTHON, "-c", code, name], capture_output=True, text=True).stdout.strip() == version


def pip(*arguments: str) -> None:
    """Run pip in ``.venv``."""
    run(PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments)


def run(*command: str | Path) -> None:
    """Run a command in the checkout. If it fails, it has said why: end with its exit status."""
    code = subprocess.run(command, cwd=ROOT).returncode
    if code != 0:
        sys.exit(code)


def say(message: str) -> None:
    """Tell what is being done."""
    print(f"==> {message}", flush=True)


def stop(message: str) -> NoReturn:
    """Tell what is wrong and end."""
    sys.exit(f"error: {message}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from there")
