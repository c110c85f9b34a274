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
import shutil
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


def sha256_of(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits; ``advance`` is told the bytes of each block read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
            if advance is not None:
                advance(len(block))
    return digest.hexdigest()


def replace_durably(part: Path, target: Path) -> None:
    """Rename ``part``, a finished file or folder, to ``target``, in the same file system.

    All bytes of ``part`` are on the disk before it is renamed, and the new name is on the disk when this returns.
    Raises ``OSError``; see ``translated_errors``.
    """
    for path in (part, *part.rglob("*")):
        _sync(path)
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if part.is_dir() and target.exists():
        target.replace(old)
    part.replace(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
