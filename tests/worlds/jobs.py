"""Jobs for executors, in a module that a worker imports in no time."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from s3local.exceptions import ModelError
from s3local.progress import Advance


def squared(number: int, advance: Advance) -> int:
    for _ in range(number):
        advance(2)
    return number**2


def failing(_: Advance) -> int:
    raise ModelError("it is damaged")


def connecting(_: Advance) -> None:
    socket.create_connection(("192.0.2.1", 80), timeout=1)


def dying(_: Advance) -> None:
    os._exit(3)


def path_of(path: Path, _: Advance) -> Path:
    return path


class Counting:
    """A resource that counts the jobs it was used by."""

    uses = 0

    def close(self) -> None:
        pass


def counted(number: int, resource: Counting, advance: Advance) -> tuple[int, int, int]:
    """The number, how often the resource was used, and its process."""
    resource.uses += 1
    advance(1)
    return number, resource.uses, os.getpid()
