"""Files on disk: written whole or not at all, and read as UTF-8.

A file gets its name only when its bytes are complete and on the disk, so that a killed program leaves
either the old file or the new one. Errors of the operating system become ``StorageError`` here, at the edge.
Knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from s3local.exceptions import InputError, StorageError

HASH_BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def translated_errors(path: Path, action: str = "write") -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StorageError`` that names ``path`` and what to do."""
    try:
        yield
    except OSError as exc:
        reasons = {
            errno.ENOSPC: "no space left on the device; free some and run the same command again",
            errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
            errno.EACCES: "no permission; choose a folder you may write to",
            errno.EPERM: "no permission; choose a folder you may write to",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.ENOTDIR: "a part of this path is a file, where a folder belongs",
            errno.EEXIST: "a part of this path is a file, where a folder belongs",
            errno.EISDIR: "this is a folder, where a file belongs",
        }
        reason = reasons.get(exc.errno or 0, exc.strerror or str(exc))
        raise StorageError(f"cannot {action} {path}: {reason}") from exc


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of ``path``; give it that name when the block ends without an error.

    ``mode`` is "w" (UTF-8, newlines as written) or "wb".
    Raises ``StorageError`` if the folder cannot be made or written, or the disk is full.
    """
    with translated_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            options: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
            with temporary.open(mode, **options) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def read_utf8(path: Path) -> str:
    """The text of a file, without a byte order mark. Raises ``InputError`` for a byte that is not UTF-8."""
    with translated_errors(path, "read"):
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        problem = f"byte {content[exc.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise InputError(path, problem, line=line) from exc


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with atomic_write(path) as stream:
        stream.write(text)


def replace_durably(part: Path, target: Path) -> None:
    """Rename ``part``, a finished file, to ``target``, in the same file system.

    All its bytes are on the disk before it is renamed, and the new name is on the disk when this returns.
    Raises ``OSError``; see ``translated_errors``.
    """
    _sync_file(part)
    part.replace(target)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. Does nothing on Windows, which cannot do that."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk; Windows needs the file open for writing."""
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits; ``advance`` is told the bytes of each block read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
            if advance is not None:
                advance(len(block))
    return digest.hexdigest()
