"""How long steps report their progress: a protocol, and a silent implementation.

The stages report, the command line draws (``cli.terminal``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int], None]
"""A function that is called with the number of units finished since the last call."""


def ignore(_: int) -> None:
    """An ``Advance`` that does nothing."""


class Progress(Protocol):
    """Where a run reports what it is doing."""

    def step(self, name: str, total: int | None, unit: str) -> contextlib.AbstractContextManager[Advance]:
        """Begin a step of ``total`` units (None: unknown); the block gets the function that reports them."""
        ...

    def say(self, message: str) -> None:
        """Show one line that stays on the screen."""
        ...


class Silent:
    """The ``Progress`` that shows nothing."""

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield ignore

    def say(self, message: str) -> None:
        pass
