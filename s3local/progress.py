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

    def note(self, text: str) -> None:
        """Show a line beside the present step, in place of the last one; "" shows none."""
        ...


class Silent:
    """The ``Progress`` that shows nothing."""

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield ignore

    def say(self, message: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class SignsOfLife(Silent):
    """The ``Progress`` that shows nothing, and calls ``advance`` with 0 units where a step reports any.

    So a job whose work has other units than those that it is counted by says that it goes on.
    """

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        self._advance(0)
        yield lambda _: self._advance(0)
        self._advance(0)
