"""Jobs for executors, in a module that a worker imports in no time."""

from __future__ import annotations

import os
import socket

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
