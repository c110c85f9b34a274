"""Make a bundle on a connected machine: wheels for a named platform and Python, models, the project and checksums.

The packages have the versions that are installed here. What depends on what is read from the wheels themselves, with
the markers of the other machine: pip evaluates them for the machine on which it runs.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from s3local import __version__
from s3local.bundle import carried
from s3local.bundle.sbom import bill_of_materials, wheel_metadata
from s3local.exceptions import ModelError, NetworkError, StorageError
from s3local.progress import Progress
from s3local.storage import replace_durably, sha256_of, translated_errors
from s3local.weights.llama_build import building, kept_wheel
from s3local.weights.manifest import RECORD_NAME, Model, known_models
from s3local.weights.store import folder_of, require, state_of
from s3local.wording import unknown

BILL = "sbom.cdx.json"
OLDEST_GLIBC = 28
"""Packages for Linux are taken if they run with glibc 2.28 (Debian 10, RHEL 8, Ubuntu 20.04) or an older one."""
PLATFORMS: Mapping[str, tuple[str, ...]] = {
    **{
        f"linux-{machine}": (
            *(f"manylinux_2_{minor}_{machine}" for minor in range(OLDEST_GLIBC, 16, -1)),
            *(f"manylinux{name}_{machine}" for name in ("2014", "2010", "1")),
        )
        for machine in ("x86_64", "aarch64")
    },
    "macos-aarch64": tuple(
        f"macosx_{major}_0_{kind}" for major in range(14, 10, -1) for kind in ("arm64", "universal2")
    ),
    "windows-x86_64": ("win_amd64",),
}
"""The machines that a bundle can be for, and how wheels call them, the best first."""
_MARKERS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}
_MACHINE_NAMES = {"windows-x86_64": "AMD64", "macos-aarch64": "arm64"}
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BundleSettings:
    """What a bundle is for, and what it holds.

    ``platform`` is one of ``PLATFORMS``, ``python`` a version such as "3.11". ``models`` are ids of models that are
    here; empty means the embedded ones, those for judges included if they are here and ``judge`` is set. ``cuda`` packs
    PyTorch for graphics cards. ``find_links`` are folders with further wheels. ``llama_wheel`` is used in place of one
    that is built here.
    """

    platform: str
    python: str
    models: tuple[str, ...] = ()
    judge: bool = True
    cuda: bool = False
    find_links: tuple[Path, ...] = ()
    llama_wheel: Path | None = None


@dataclass(frozen=True)
class Created:
    """A bundle that was made: its size in bytes, its numbers of packages and models, the SHA-256 of ``bundle.json``."""

    contents: carried.Contents
    size: int
    packages: int
    sha256: str


def create(target: Path, settings: BundleSettings, progress: Progress) -> Created:
    """Make the bundle ``target``: a ZIP archive if its name ends with .zip, else a folder.

    Raises ``StorageError`` if it is there already, ``ModelError`` for a model or a wheel that is missing, and
    ``NetworkError`` with pip's reason if it cannot find a package. ``target`` is complete or absent.
    """
    if target.exists():
        raise StorageError(f"{target} exists already and stays as it is; choose another name")
    models = _models(settings)
    with tempfile.TemporaryDirectory(prefix="s3local-bundle-") as name:
        work = Path(name)
        wheels = work / "wheels"
        wheels.mkdir()
        shutil.copy(_llama_wheel(settings, progress), wheels)
        _project_wheel(wheels, settings)
        needs = _collect(wheels, settings, progress)
        files = {f"wheels/{path.name}": path for path in sorted(wheels.glob("*.whl"))}
        checksums = {}
        with progress.step("computing checksums", len(files), "wheels") as advance:
            for path in files.values():
                checksums[path] = sha256_of(path)
                advance(1)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        bill = work / BILL
        bill.write_text(json.dumps(bill_of_materials(__version__, now, checksums, needs, models), indent=1), "utf-8")
        files |= {BILL: bill, carried.PROGRAM: Path(carried.__file__)}
        for model in models:
            folder = folder_of(model)
            names = [file.path for file in model.files] + [RECORD_NAME] * (folder / RECORD_NAME).is_file()
            files |= {f"models/{model.id}/{file}": folder / file for file in names}
        contents = {
            "format": carried.FORMAT,
            "s3local": __version__,
            "created": now,
            "python": settings.python,
            "platform": settings.platform,
            "glibc": oldest_glibc(wheels) if settings.platform.startswith("linux") else "",
            "models": [model.id for model in models],
            "files": _listed(files, checksums, progress),
        }
        listing = work / carried.CONTENTS
        listing.write_text(json.dumps(contents, indent=1), encoding="utf-8")
        files[carried.CONTENTS] = listing
        size = _write(target, files, progress)
        return Created(carried.read_contents(carried.Bundle(target)), size, len(checksums), sha256_of(listing))


def oldest_glibc(wheels: Path) -> str:
    """The oldest glibc with which the packages run, from the names of wheels and from libraries without such a name."""
    newest = OLDEST_GLIBC
    for wheel in wheels.glob("*-linux_*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if ".so" in name:
                    newest = max(
                        [newest, *(int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", archive.read(name)))]
                    )
    return f"2.{newest}"


def markers_of(settings: BundleSettings) -> dict[str, str]:
    """The values of the markers of requirements on the machine that the bundle is for."""
    system, _, machine = settings.platform.partition("-")
    return {
        **_MARKERS[system],
        "platform_machine": _MACHINE_NAMES.get(settings.platform, machine),
        "python_version": settings.python,
        "python_full_version": f"{settings.python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "implementation_version": f"{settings.python}.0",
        "platform_release": "",
        "platform_version": "",
    }


def _models(settings: BundleSettings) -> list[Model]:
    """The models to pack, all of them here and verified."""
    if settings.models:
        known = known_models()
        for name in settings.models:
            if name not in known:
                raise ModelError(unknown("model", name, tuple(known)))
        chosen = [known[name] for name in settings.models]
    else:
        chosen = [model for model in known_models().values() if model.embedded]
        judges = [model for model in chosen if "judge" in model.roles]
        if not settings.judge or any(state_of(model) == "missing" for model in judges):
            chosen = [model for model in chosen if model not in judges]
    return [require(model.id, *model.roles) for model in chosen]


def _llama_wheel(settings: BundleSettings, progress: Progress) -> Path:
    """A wheel of llama-cpp-python that runs on every processor of the platform, built here unless one was kept."""
    if settings.llama_wheel is not None:
        if not settings.llama_wheel.is_file() or not settings.llama_wheel.name.startswith("llama_cpp_python-"):
            raise ModelError(f"{settings.llama_wheel}: no such file; a wheel of llama-cpp-python belongs here")
        return settings.llama_wheel
    if settings.platform != carried.this_platform():
        problem = f"llama-cpp-python cannot be built for {settings.platform} on {carried.this_platform()}"
        raise ModelError(f"{problem}; name a wheel that was built there with --llama-wheel")
    requirement = f"llama_cpp_python=={metadata.version('llama_cpp_python')}"
    if kept := kept_wheel(requirement, portable=True):
        return kept
    progress.say("building llama.cpp with kernels for every processor: some minutes, once")
    log = Path(tempfile.gettempdir()) / "s3local-llama-build.log"
    with building(Path(sys.executable), requirement, log, progress.say, portable=True) as build:
        return build.wait()


def _project_wheel(wheels: Path, settings: BundleSettings) -> None:
    """Put the wheel of s3local into ``wheels``: built from the checkout, or the one that pip finds."""
    if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "s3local").is_dir():
        with tempfile.TemporaryDirectory(prefix="s3local-source-") as name:  # setuptools leaves files behind
            source = Path(name)
            for folder in ("s3local", "data"):
                shutil.copytree(_CHECKOUT / folder, source / folder, symlinks=True)
            for file in ("models/manifest.toml", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
                (source / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(_CHECKOUT / file, source / file)
            _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source))
    else:
        _download([f"s3local=={__version__}"], wheels, settings)


def _collect(wheels: Path, settings: BundleSettings, progress: Progress) -> dict[str, list[str]]:
    """Download what the wheels in ``wheels`` need, and what that needs; the needs of each package by normal names."""
    markers = markers_of(settings)
    needs: dict[str, list[str]] = {}
    extras: dict[str, set[str]] = {}
    wanted: dict[str, str] = {"pip": f"pip=={metadata.version('pip')}"}
    read: dict[tuple[str, frozenset[str]], None] = {}
    while True:
        here = {str(parse_wheel_filename(path.name)[0]): path for path in wheels.glob("*.whl")}
        missing = [requirement for name, requirement in wanted.items() if name not in here]
        if missing:
            progress.say(f"downloading {len(missing)} packages")
            _download(missing, wheels, settings)
            continue
        unread = [name for name in here if (name, frozenset(extras.get(name, ()))) not in read]
        if not unread:
            return needs
        for name in unread:
            read[name, frozenset(extras.get(name, ()))] = None
            found = list(_needed(here[name], extras.get(name, set()), markers))
            needs[name] = sorted({str(canonicalize_name(requirement.name)) for requirement in found})
            for requirement in found:
                other = str(canonicalize_name(requirement.name))
                extras.setdefault(other, set()).update(requirement.extras)
                wanted.setdefault(other, _pinned(requirement, settings))


def _needed(wheel: Path, extras: set[str], markers: Mapping[str, str]) -> Iterator[Requirement]:
    """What a wheel with these extras needs on the other machine."""
    for text in wheel_metadata(wheel).get_all("Requires-Dist", []):
        requirement = Requirement(text)
        if _holds(requirement.marker, extras, markers):
            yield requirement


def _holds(marker: Marker | None, extras: set[str], markers: Mapping[str, str]) -> bool:
    return marker is None or any(marker.evaluate({**markers, "extra": extra}) for extra in ("", *extras))


def _pinned(requirement: Requirement, settings: BundleSettings) -> str:
    """The version that is installed here; what is not, as it is needed. PyTorch for Linux is its build for CPUs."""
    name = str(canonicalize_name(requirement.name))
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name}{requirement.specifier}"
    if name == "torch":
        suffix = "+cpu" if settings.platform.startswith("linux") and not settings.cuda else ""
        return f"torch=={version.partition('+')[0]}{suffix}"
    return f"{name}=={version}"


def _download(requirements: Sequence[str], wheels: Path, settings: BundleSettings) -> None:
    """Download wheels for the other machine. Raises ``NetworkError`` with pip's reason."""
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(wheels), "--python-version", settings.python]
    for tag in PLATFORMS[settings.platform]:
        options += ["--platform", tag]
    for folder in settings.find_links:
        options += ["--find-links", str(folder)]
    _pip("download", *options, *requirements)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or ["pip gave no reason"])[-1]
    if "+cpu" in reason:
        reason += "; name a folder with this wheel by --find-links, or take PyTorch for graphics cards by --cuda"
    raise NetworkError(f"pip {arguments[0]}: {reason}")


def _listed(files: Mapping[str, Path], checksums: Mapping[Path, str], progress: Progress) -> list[dict[str, object]]:
    """Path, size and SHA-256 of each file."""
    listed: list[dict[str, object]] = []
    others = sum(path.stat().st_size for path in files.values() if path not in checksums)
    with progress.step("computing checksums", others, "B") as advance:
        for name, path in files.items():
            sha256 = checksums.get(path) or sha256_of(path, advance)
            listed.append({"path": name, "size": path.stat().st_size, "sha256": sha256})
    return listed


def _write(target: Path, files: Mapping[str, Path], progress: Progress) -> int:
    """Write the folder or the archive, complete or not at all; its size in bytes."""
    part = target.with_name(f".{target.name}.unfinished")
    total = sum(path.stat().st_size for path in files.values())
    with translated_errors(target), progress.step(f"writing {target.name}", total, "B") as advance:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if target.suffix == ".zip":
                with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
                    for name, path in files.items():
                        archive.write(path, name)
                        advance(path.stat().st_size)
            else:
                for name, path in files.items():
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, part / name)
                    advance(path.stat().st_size)
            replace_durably(part, target)
        finally:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    return total
