"""Everything that a user can cause or fix, as one tree.

Whatever ends here is shown as one line, without a traceback, and ends the program with exit code 2.
Programmer misuse is not here: it raises ``ValueError`` or ``TypeError``.

    S3LocalError
    ├── InputError      a task file or a data row: which file, which line, what was found, what belongs there
    ├── ModelError      a model is missing, damaged, of the wrong sort, or of an unknown architecture
    ├── TeacherError    a request the loaded teacher cannot serve: a prompt too long, memory too small
    ├── RunError        a run folder that does not fit the command: changed settings, another run inside it
    ├── StorageError    the disk is full, a folder cannot be written
    └── NetworkError    something tried to reach the network, or a fetch failed
"""

from __future__ import annotations

from pathlib import Path


class S3LocalError(Exception):
    """Base of all errors meant for the user. ``str(error)`` is one complete line."""

    exit_code = 2


class InputError(S3LocalError):
    """A file the user wrote is not what it should be.

    ``path`` and ``line`` (counted from 1; None for the whole file) say where, ``problem`` says what was
    found and what belongs there.
    """

    def __init__(self, path: str | Path, problem: str, *, line: int | None = None) -> None:
        self.path = Path(path)
        self.line = line
        self.problem = problem
        where = f"{path}, line {line}" if line is not None else str(path)
        super().__init__(f"{where}: {problem}")


class ModelError(S3LocalError):
    """A model is missing, damaged, of the wrong sort, or unknown to this build."""


class TeacherError(S3LocalError):
    """The loaded teacher cannot serve a request; the message names both numbers and what to change."""


class RunError(S3LocalError):
    """A run folder does not fit what was asked of it."""


class StorageError(S3LocalError):
    """A file could not be written: disk full, no permission, not a folder."""


class NetworkError(S3LocalError):
    """A connection was refused by the offline guard, or a fetch did not succeed."""
