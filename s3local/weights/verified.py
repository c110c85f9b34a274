"""Which files of a model were compared with their checksums: ``.verified.json`` in the model's folder.

After a power cut or a failed copy, a file can have the right size and the wrong content. So a file is used only after
its SHA-256 was compared once. An entry holds as long as the file's size and its time of modification stay the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from s3local.exceptions import InputError, StorageError
from s3local.storage import read_utf8, write_text

VERIFIED_NAME = ".verified.json"


class _State(BaseModel):
    size: int
    mtime_ns: int
    sha256: str


class _Verified(BaseModel):
    files: dict[str, _State] = {}


def verified_sha256(folder: Path, path: str) -> str | None:
    """The recorded SHA-256 of the file ``path`` in ``folder``; None if there is none or the file has changed since."""
    state = _read(folder).files.get(path)
    return state.sha256 if state is not None and state == _state(folder / path, state.sha256) else None


def record_verified(folder: Path, checksums: Mapping[str, str | None]) -> None:
    """Record the SHA-256 of files in ``folder``, by their path; None removes an entry.

    Where the folder cannot be written, nothing is recorded, and the files are hashed again at their next use.
    """
    files = _read(folder).files
    for path, checksum in checksums.items():
        files.pop(path, None)
        if checksum is not None:
            files[path] = _state(folder / path, checksum)
    with contextlib.suppress(StorageError):
        write_text(folder / VERIFIED_NAME, _Verified(files=files).model_dump_json(indent=1) + "\n")


def _read(folder: Path) -> _Verified:
    """The record; an empty one if there is none or it is damaged."""
    try:
        return _Verified.model_validate_json(read_utf8(folder / VERIFIED_NAME))
    except (StorageError, InputError, ValidationError):
        return _Verified()


def _state(path: Path, sha256: str) -> _State:
    status = path.stat()
    return _State(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256)
