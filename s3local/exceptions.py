"""All errors that a user can cause or fix, as one tree.

The command line shows each as one line without a traceback, and ends with exit code 2. Programmer misuse raises
``ValueError`` or ``TypeError`` instead.

    S3LocalError
    ├── InputError      a task file or a data row: which file, which line, what was found, what belongs there
    ├── ModelError      a model is missing, damaged, of the wrong type, or of an unknown architecture
    ├── TeacherError    a request that the loaded teacher cannot serve: a prompt too long, memory too small
    ├── RunError        a run folder that does not fit the command: other settings, another run inside it
    ├── StorageError    the disk is full, a folder cannot be written
    └── NetworkError    something tried to reach the network, or a download failed
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any


class S3LocalError(Exception):
    """Base of all errors meant for the user. ``str(error)`` is one complete line."""

    exit_code = 2


class InputError(S3LocalError):
    """A file that the user wrote is invalid.

    ``path`` and ``line`` (from 1; None for the whole file) say where. A file without lines, such as a workbook, has a
    ``row`` instead. ``problem`` says what was found and what belongs there.
    """

    def __init__(self, path: str | Path, problem: str, *, line: int | None = None, row: int | None = None) -> None:
        self.path = Path(path)
        self.line = line
        self.row = row
        self.problem = problem
        where = str(path)
        if line is not None:
            where = f"{path}, line {line}"
        elif row is not None:
            where = f"{path}, row {row}"
        super().__init__(f"{where}: {problem}")

    def __reduce__(self) -> Any:
        """What pickle needs to send the error from a worker: its arguments are not those of the base class."""
        return partial(type(self), line=self.line, row=self.row), (self.path, self.problem)


class ModelError(S3LocalError):
    """A model is missing, damaged, of the wrong type, or of an unknown architecture."""


class TeacherError(S3LocalError):
    """The loaded teacher cannot serve a request. The message names the limit, what was asked for and what to change."""


class RunError(S3LocalError):
    """A run folder does not fit the command."""


class StorageError(S3LocalError):
    """A file could not be written: disk full, no permission, not a folder."""


class NetworkError(S3LocalError):
    """The offline guard refused a connection, or a download failed."""
