"""Files on disk: written completely or not at all, and read as UTF-8.

A file gets its name only after all its bytes are on the disk. A killed program or a power cut therefore leaves the old
file or the new one. Errors of the operating system become ``StorageError`` here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, overload

from s3local.exceptions import InputError, StorageError
from s3local.wording import shown

HASH_BLOCK_BYTES = 1 << 20

MAX_NAME_BYTES = 200
"""The longest name of a folder, in UTF-8. File systems allow 255, and temporary names are longer than final ones."""
NOT_IN_NAMES = '/\\:*?"<>|'
"""Characters that the name of a folder cannot have on some system."""
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))]
)

_REASONS = {
    errno.ENOSPC: "no space left on the device; free some and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EACCES: "no permission; choose a folder you may write to",
    errno.EPERM: "no permission; choose a folder you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of this path is a file, where a folder belongs",
    errno.EEXIST: "a part of this path is a file, where a folder belongs",
    errno.EISDIR: "this is a folder, where a file belongs",
}

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)
"""What file systems answer that cannot sync a folder, such as some network drives."""


@contextlib.contextmanager
def translated_errors(path: Path, action: str = "write") -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StorageError`` that names ``path`` and what to do."""
    try:
        yield
    except OSError as exc:
        reason = _REASONS.get(exc.errno or 0, exc.strerror or str(exc))
        raise StorageError(f"cannot {action} {path}: {reason}") from exc


# Writing


@overload
def atomic_write(path: Path, mode: Literal["w"] = "w") -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(path: Path, mode: Literal["wb"]) -> contextlib.AbstractContextManager[IO[bytes]]: ...
def atomic_write(path: Path, mode: Literal["w", "wb"] = "w") -> contextlib.AbstractContextManager[IO[Any]]:
    """Open a temporary file beside ``path``; give it that name when the block ends without an error.

    ``mode`` is "w" (UTF-8, newlines as written) or "wb". Missing folders are created. A symbolic link stays, and the
    file that it leads to is replaced. A device or a pipe is written to directly.
    Raises ``StorageError`` if the folder cannot be created or written, or the disk is full.
    """
    return _atomic_write(path, mode)


@contextlib.contextmanager
def _atomic_write(path: Path, mode: Literal["w", "wb"]) -> Iterator[IO[Any]]:
    encoding, newline = (None, None) if mode == "wb" else ("utf-8", "\n")
    with translated_errors(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open(mode, encoding=encoding, newline=newline) as stream:
                yield stream
            return
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with temporary.open(mode, encoding=encoding, newline=newline) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8. Raises ``StorageError``."""
    with atomic_write(path) as stream:
        stream.write(text)


def replace_durably(part: Path, target: Path) -> None:
    """Rename ``part``, a finished file or folder, to ``target``, in the same file system.

    All bytes of ``part`` are on the disk before it is renamed, and the new name is on the disk when this returns. After
    a power cut ``target`` is the old file or the new one, never a part of it. A folder that is replaced may be missing
    after a power cut. Raises ``OSError``; see ``translated_errors``.
    """
    if not part.is_dir():
        _sync_file(part)
        part.replace(target)
        sync_folder(target.parent)
        return
    for folder, _, names in os.walk(part, topdown=False):
        for name in names:
            _sync_file(Path(folder, name))
        sync_folder(Path(folder))
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.replace(old)
    part.replace(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents; their names are on the disk when this returns. Raises ``OSError``."""
    if path.is_dir():
        return
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. Does nothing where the system cannot do that, as on Windows."""
    if os.name == "nt":
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written, but not read
        return
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def _sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk; Windows wants the file open for writing."""
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Standard output, flushed at the end. Raises ``StorageError`` if it is closed."""
    if sys.stdout is None:
        raise StorageError("cannot write the rows: standard output is closed; name a file with --output")
    yield sys.stdout
    sys.stdout.flush()


# Names and places


def safe_folder_name(name: str) -> str:
    """``name``, if it can be the name of one folder on every system.

    Raises ``ValueError``, which says what was found and which characters are allowed, for a name that leads elsewhere
    ("../x", "/x"), and for one that some system refuses.
    """
    rule = f"allowed are letters, digits, spaces and signs other than {' '.join(NOT_IN_NAMES)}"
    if not name.strip():
        raise ValueError(f"the name is empty; {rule}")
    for character in name:
        if character in NOT_IN_NAMES or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(f"{shown(name)} cannot be the name of a folder because of {shown(character)}; {rule}")
    if name[0] in ". " or name[-1] in ". ":
        raise ValueError(f"{shown(name)} cannot be the name of a folder: it begins or ends with a dot or a space")
    if name.split(".")[0].strip().lower() in _DEVICES:
        raise ValueError(f"{shown(name)} cannot be the name of a folder: Windows has a device of this name")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"the name {shown(name)} has {len(name.encode()):,} bytes, at most {MAX_NAME_BYTES} are allowed"
        )
    return name


def inner_name(name: object) -> str:
    """The name of a file or folder directly inside of another one. Raises ``ValueError`` for what leads elsewhere."""
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".."):
        raise ValueError(f"the name {name!a} leads out of the folder")
    return name


def refuse_same_file(source: Path, target: Path) -> None:
    """Raise ``InputError`` if writing ``target`` would replace ``source``, whatever path leads there."""
    with translated_errors(target):
        if source.exists() and target.exists() and source.samefile(target):
            raise InputError(target, "the output would replace the file that is read; choose another name for it")


# Reading


def read_utf8(path: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises ``InputError`` for a byte that is not UTF-8, ``StorageError`` if the file cannot be read.
    """
    with translated_errors(path, "read"), path.open("rb") as stream:
        return "".join(decoded_lines(stream, path))


def decoded_lines(
    stream: Iterable[bytes], path: Path, advice: Callable[[bytes], str] = lambda line: "save the file as UTF-8"
) -> Iterator[str]:
    """Each line of an open file as text, with its end, without a byte order mark at the beginning of the file.

    Raises ``InputError`` with the line for a byte that is not UTF-8. ``path`` is for the message, and ``advice`` says
    what to do about the line.
    """
    for number, raw in enumerate(stream, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as exc:
            problem = f"byte {raw[exc.start]:#04x} at position {exc.start + 1} is not UTF-8; {advice(raw)}"
            raise InputError(path, problem, line=number) from exc
        yield line


def parsed_json(text: str | bytes) -> Any:
    """The value that JSON text stands for. Raises ``ValueError``, also where brackets are nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as exc:
        raise ValueError("brackets are nested too deeply") from exc


def sha256_of(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits; ``advance`` gets the number of bytes of each block read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
            if advance is not None:
                advance(len(block))
    return digest.hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """One checksum of a folder: of its files' names and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
