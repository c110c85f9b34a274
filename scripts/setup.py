"""Set up a checkout: .venv with the versions of constraints.txt, llama.cpp built for this processor, the models.

    python3 scripts/setup.py                 what `make setup` calls; on Windows: py scripts\\setup.py
    python3 scripts/setup.py --judge none    without the 0.4 GB judge

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
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NoReturn

STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for modules that need the standard library alone

from s3local.exceptions import ModelError  # noqa: E402
from s3local.hardware import cpu_flags  # noqa: E402
from s3local.weights.llama_build import LLAMA, building, kept_wheel  # noqa: E402

VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "s3local-stamp"
"""Written last: the checksum of what decides which packages are installed."""
BUILD_LOG = VENV / "llama-build.log"
CONSTRAINTS = ROOT / "constraints.txt"

FEATURES = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "avx512_bf16": "AVX512_BF16"}
"""Instruction sets that decide how fast llama.cpp is: what Linux calls them, and what llama.cpp does."""

PRINT_SYSTEM_INFO = """
import ctypes, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
if hasattr(os, "add_dll_directory"):
    os.add_dll_directory(str(folder))
(path,) = [folder / name for name in ("libllama.so", "libllama.dylib", "llama.dll") if (folder / name).is_file()]
library = ctypes.CDLL(str(path))
if any(folder.glob("*ggml-cpu-*")):  # kernels that are chosen at run time
    ggml = ctypes.CDLL(str(folder / "ggml.dll")) if os.name == "nt" else library
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
library.llama_print_system_info.restype = ctypes.c_char_p
print(library.llama_print_system_info().decode())
"""


def main() -> None:
    """Parse the command line and set up what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    judge_help = "'none' leaves out the large encoder that checks labels, a download of 0.4 GB (default: embedded)"
    parser.add_argument("--judge", choices=["embedded", "none"], default="embedded", help=judge_help)
    options = parser.parse_args()
    with_judge = options.judge != "none"
    if sys.version_info < (3, 10):  # noqa: UP036  an older Python shall say so itself
        stop(f"this is Python {platform.python_version()}; 3.10 or newer is needed (make: PYTHON=python3.12 make ...)")
    make_environment()
    fingerprint = fingerprint_of_packages()
    if not STAMP.is_file() or STAMP.read_text(encoding="utf-8") != fingerprint:
        install_packages(with_judge)
        STAMP.write_text(fingerprint, encoding="utf-8")
    say("checking the embedded models (fetched once)")
    fetch_models([] if with_judge else ["--no-judge"])
    say("all is set up")


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
    with (
        building(PYTHON, llama, BUILD_LOG, say) if needs_llama and wheel is None else contextlib.nullcontext()
    ) as build:
        if build is not None:
            say(f"building {llama} for this processor beside what follows: some minutes, once")
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
    kept = kept_wheel(llama)
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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        command = [PYTHON, "-c", PRINT_SYSTEM_INFO, Path(folder) / "llama_cpp" / "lib"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return None
    return [name for flag, name in FEATURES.items() if flag in cpu_flags() and f" {name} = 1" not in done.stdout]


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
    """Tell what is being done, after the seconds since the script began."""
    print(f"[{time.monotonic() - STARTED:4.0f} s] {message}", flush=True)


def stop(message: str) -> NoReturn:
    """Tell what is wrong and end."""
    sys.exit(f"error: {message}")


if __name__ == "__main__":
    try:
        main()
    except ModelError as exc:
        stop(str(exc))
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from there")
