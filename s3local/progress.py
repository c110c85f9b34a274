"""How long steps tell that they advance: a protocol, and the silent version.

The stages call it, the command line draws it. Knows nothing of terminals.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int], None]
"""Told how many more units are done."""


def ignore(_: int) -> None:
    """An ``Advance`` that does nothing."""


class Progress(Protocol):
    """Where a run reports what it is doing."""

    def step(self, name: str, total: int | None, unit: str) -> contextlib.AbstractContextManager[Advance]:
        """Open a step of ``total`` units (None: unknown); the block gets the function that advances it."""
        ...

    def say(self, message: str) -> None:
        """One line for the user that stays on the screen."""
        ...


class Silent:
    """The ``Progress`` that shows nothing."""

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield ignore

    def say(self, message: str) -> None:
        pass
