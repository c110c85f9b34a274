"""Verify and install an s3local bundle: a folder, or a ZIP archive. Neither a network nor a compiler is needed.

    python3 BUNDLE verify             compare every file with its checksum
    python3 BUNDLE install FOLDER     make FOLDER, an environment with the program and its models

A bundle carries this file as its ``__main__.py``, so it needs the standard library alone.
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
import subprocess
import sys
import venv
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

CONTENTS = "bundle.json"
PROGRAM = "__main__.py"
FORMAT = 1
UNFINISHED = ".s3local-unfinished"
"""A file in a folder whose installation was begun and not completed."""
MAX_CONTENTS_BYTES = 16_000_000
BLOCK_BYTES = 1 << 20
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Other names of processors."""
_PART = re.compile(r'(?!\.+$)[^/\\:*?"<>|\x00-\x1f]+')
_HIDDEN = ("PIP_", "PYTHON", "S3LOCAL_", "VIRTUAL_ENV")
"""Beginnings of variables that would change what is installed, or where."""


class BundleError(Exception):
    """A bundle is damaged or does not fit this machine, or cannot be installed where it should be. One line."""


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle: its path, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What ``bundle.json`` says: the versions, the machine that the bundle is for, and every file.

    ``python`` is "3.11", ``platform`` "linux-x86_64". ``glibc`` is the oldest C library that is enough, "2.34"; empty
    for other systems than Linux.
    """

    version: str
    python: str
    platform: str
    glibc: str
    models: tuple[str, ...]
    files: tuple[BundleFile, ...]

    @property
    def fits(self) -> str:
        """The machine that the bundle is for, in words."""
        return f"{self.platform}, Python {self.python}" + (f", glibc {self.glibc} or newer" if self.glibc else "")


class Bundle:
    """An open bundle. Only regular files whose paths stay inside count."""

    def __init__(self, path: Path) -> None:
        """Open a folder or an archive. Raises ``BundleError`` if it is neither or its archive is damaged."""
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        if path.is_dir():
            return
        if not path.is_file():
            raise BundleError(
                f"{path}: no such bundle; a folder or a ZIP archive that 'bundle create' made belongs here"
            )
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as exc:
            raise BundleError(f"{path}: not a complete ZIP archive ({exc}); copy the bundle again") from exc

    def close(self) -> None:
        """Close the archive."""
        if self._archive is not None:
            self._archive.close()

    def names(self) -> list[str]:
        """The paths of all files, with / between their parts. Raises ``BundleError`` for a link in a folder."""
        if self._archive is not None:
            return [entry.filename for entry in self._archive.infolist() if not entry.is_dir()]
        found = []
        for folder, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink():
                    raise BundleError(f"{path}: a link; a bundle holds only files and folders")
            found += [Path(folder, name).relative_to(self.path).as_posix() for name in files]
        return [name for name in found if "__pycache__" not in name]

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """A file for reading. Raises ``BundleError`` if it is missing or damaged."""
        try:
            if self._archive is not None:
                with self._archive.open(name) as stream:
                    yield stream
            else:
                with (self.path / name).open("rb") as stream:
                    yield stream
        except (KeyError, FileNotFoundError) as exc:
            raise BundleError(f"{self.path}: {name} is missing; copy the bundle again") from exc
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
            raise BundleError(f"{self.path}: {name} is damaged ({exc}); copy the bundle again") from exc

    def copy(self, file: BundleFile, target: IO[bytes] | None) -> None:
        """Copy a file (None: only read it) and compare it with its size and checksum. Raises ``BundleError``."""
        digest, size = hashlib.sha256(), 0
        with self.opened(file.path) as source:
            while size <= file.size and (block := source.read(BLOCK_BYTES)):
                size += len(block)
                digest.update(block)
                if target is not None:
                    target.write(block)
        if size != file.size:
            found = f"more than {file.size:,}" if size > file.size else f"{size:,}"
            raise BundleError(f"{self.path}: {file.path} has {found} bytes, not {file.size:,}; copy the bundle again")
        if digest.hexdigest() != file.sha256:
            problem = f"{file.path} has a wrong checksum: its SHA-256 is {digest.hexdigest()}, not {file.sha256}"
            raise BundleError(f"{self.path}: {problem}; copy the bundle again")


def read_contents(bundle: Bundle) -> Contents:
    """``bundle.json``. Raises ``BundleError`` if it is damaged or leads out of the bundle."""
    where = f"{bundle.path}: {CONTENTS}"
    with bundle.opened(CONTENTS) as stream:
        text = stream.read(MAX_CONTENTS_BYTES + 1)
    try:
        if len(text) > MAX_CONTENTS_BYTES:
            raise ValueError("it is too long")
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise BundleError(f"{where} has the format {content['format']!r}; this version reads {FORMAT}")
        files = tuple(
            BundleFile(_inside(file["path"]), _size(file["size"]), str(file["sha256"])) for file in content["files"]
        )
        strings = [content[key] for key in ("s3local", "python", "platform", "glibc")] + list(content["models"])
        if not all(isinstance(text, str) for text in strings):
            raise ValueError("a text is something else")
        version, python, machine, glibc, *models = strings
        if glibc and not re.fullmatch(r"\d+\.\d+", glibc):
            raise ValueError(f"{glibc!r} is not a version of glibc")
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BundleError(f"{where} is damaged ({type(exc).__name__}: {exc}); copy the bundle again") from exc
    return Contents(version, python, machine, glibc, tuple(models), files)


def verify(path: Path, say: Callable[[str], None]) -> tuple[Contents, str]:
    """Compare every file of a bundle with its checksum; what is inside, and the SHA-256 of ``bundle.json``.

    Raises ``BundleError`` that names the first file that is missing, changed or not listed.
    """
    bundle = Bundle(path)
    with contextlib.closing(bundle):
        contents = read_contents(bundle)
        names, listed = bundle.names(), {file.path for file in contents.files}
        if len(listed) < len(contents.files) or len(set(names)) < len(names):
            raise BundleError(f"{path}: a file is there twice; copy the bundle again")
        for name in names:
            if name not in listed and name != CONTENTS:
                raise BundleError(f"{path}: holds {name!r}, which {CONTENTS} does not list; copy the bundle again")
        total = sum(file.size for file in contents.files)
        say(f"verifying {len(listed)} files, {total / 1e6:,.0f} MB")
        for file in contents.files:
            bundle.copy(file, None)
        with bundle.opened(CONTENTS) as stream:
            return contents, hashlib.sha256(stream.read()).hexdigest()


def misfit(contents: Contents) -> str | None:
    """Why a bundle does not fit this machine and this Python; None if it does."""
    python = ".".join(platform.python_version_tuple()[:2])
    here = this_platform()
    library, version = platform.libc_ver()
    if contents.platform != here:
        return f"the bundle is for {contents.platform}, this machine is {here}"
    if contents.python != python or platform.python_implementation() != "CPython":
        found = f"{platform.python_implementation()} {python}"
        return f"the bundle is for CPython {contents.python}, this is {found}: call python{contents.python}"
    if contents.glibc and (library != "glibc" or _numbers(version) < _numbers(contents.glibc)):
        found = f"{library or 'another C library'} {version}".strip()
        return f"the bundle needs glibc {contents.glibc} or newer, this machine has {found}"
    return None


def this_platform() -> str:
    """The system and the processor of this machine, such as "linux-x86_64", "macos-aarch64" or "windows-x86_64"."""
    system = {"darwin": "macos"}.get(platform.system().lower(), platform.system().lower())
    machine = platform.machine().lower()
    return f"{system}-{MACHINES.get(machine, machine)}"


def install(path: Path, target: Path, say: Callable[[str], None]) -> None:
    """Install a bundle into the new folder ``target``: an environment with the program, models included.

    Every file is verified first. Raises ``BundleError``; then ``target`` does not exist. A killed installation is begun
    again by the next call.
    """
    contents, _ = verify(path, say)
    if problem := misfit(contents):
        raise BundleError(f"{path}: {problem}")
    unfinished = target / UNFINISHED
    if unfinished.is_file():
        shutil.rmtree(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target}: exists already and stays as it is; name a new folder")
    bundle = Bundle(path)
    try:
        target.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        with contextlib.closing(bundle):
            _install(bundle, contents, target.resolve(), say)
        unfinished.unlink()
    except OSError as exc:
        shutil.rmtree(target, ignore_errors=True)
        raise BundleError(f"{exc.filename or target}: {exc.strerror or exc}") from exc
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _install(bundle: Bundle, contents: Contents, target: Path, say: Callable[[str], None]) -> None:
    say(f"making the environment {target}")
    venv.create(target, with_pip=False, symlinks=os.name != "nt")
    scripts = target / ("Scripts" if os.name == "nt" else "bin")
    wheels = target / ".wheels"
    for file in contents.files:
        folder, _, inside = file.path.partition("/")
        copies = {"wheels": wheels / inside, "models": target / "share" / "s3local" / "models" / inside}
        if folder in copies:
            copies[folder].parent.mkdir(parents=True, exist_ok=True)
            with copies[folder].open("wb") as stream:
                bundle.copy(file, stream)
    say("installing the packages")
    lines = []
    for file in contents.files:
        name = Path(file.path).name
        if file.path.startswith("wheels/"):
            lines.append(f"{'=='.join(name.split('-')[:2])} --hash=sha256:{file.sha256}\n")
    listed = wheels / "requirements.txt"
    listed.write_text("".join(lines), encoding="utf-8")
    pip = next(wheels.glob("pip-*.whl"), None)
    if pip is None:
        raise BundleError(f"{bundle.path}: has no wheel of pip; make the bundle again")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    options = ["--isolated", "--disable-pip-version-check", "--no-cache-dir", "--quiet", "--no-deps", "--no-index"]
    options += ["--find-links", str(wheels), "--require-hashes", "-r", str(listed)]
    _run([str(python), str(pip / "pip"), "install", *options], "the packages cannot be installed")
    shutil.rmtree(wheels)
    say("preparing the models for this processor")
    program = scripts / ("s3local.exe" if os.name == "nt" else "s3local")
    _run([str(program), "models", "fetch", *contents.models], "the program does not start")


def _run(command: list[str], problem: str) -> None:
    """Run a command. Raises ``BundleError`` with the last line of its errors."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}
    environment["PIP_CONFIG_FILE"] = os.devnull
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
        raise BundleError(f"{problem}: {errors[0]}")


def _inside(path: Any) -> str:
    """A path of one to eight parts, none of which leads out of a folder. Raises ``ValueError``."""
    parts = path.split("/") if isinstance(path, str) else []
    if not 1 <= len(parts) <= 8 or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{path!r} is not a path inside a bundle")
    return str(path)


def _size(size: Any) -> int:
    """A number of bytes. Raises ``ValueError``."""
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 50:
        raise ValueError("a size is not a number of bytes")
    return size


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def main() -> None:
    """The program that a bundle carries."""
    parser = argparse.ArgumentParser(
        prog=f"{Path(sys.executable).name} {sys.argv[0]}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="compare every file with its checksum")
    installer = commands.add_parser("install", help="make an environment with the program and its models")
    installer.add_argument("folder", type=Path)
    options = parser.parse_args()
    path = Path(sys.argv[0])
    if path.name == PROGRAM:
        path = path.parent
    try:
        if options.command == "install":
            install(path, options.folder, _say)
            scripts = "Scripts" if os.name == "nt" else "bin"
            print(f"installed; the program is {options.folder / scripts / 's3local'}")
        else:
            contents, checksum = verify(path, _say)
            print(f"all files are right; {CONTENTS} has the SHA-256 {checksum}")
            problem = misfit(contents)
            print(f"for {contents.fits}; {problem or 'this machine fits'}")
    except BundleError as exc:
        sys.exit(_failed(exc))
    except KeyboardInterrupt:
        sys.exit(130)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _failed(error: BundleError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
