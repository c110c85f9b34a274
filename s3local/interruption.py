"""Ctrl-C: once stops at the next finished step, twice stops at once. Both can be resumed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_asked = False
"""Whether the user pressed Ctrl-C once while ``stoppable`` was active."""


@contextlib.contextmanager
def stoppable(say: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, the first Ctrl-C only asks ``stop_if_asked`` to stop, and tells that by ``say``.

    The second one raises ``KeyboardInterrupt`` at once, as it does outside of the block.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked = False
    before = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        signal.signal(signal.SIGINT, before)
        say("stopping after this step; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked = False


def stop_if_asked() -> None:
    """Raise ``KeyboardInterrupt`` if the user pressed Ctrl-C once: call it where everything so far is on the disk."""
    if _asked:
        raise KeyboardInterrupt
