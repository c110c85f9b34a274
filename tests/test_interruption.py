"""The first Ctrl-C stops at the next step, the second one at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from s3local.interruption import stop_if_asked, stoppable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """A shell may have set the signal to be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_one_stops_at_the_next_step() -> None:
    said: list[str] = []
    steps = []
    with pytest.raises(KeyboardInterrupt), stoppable(said.append):
        for step in range(5):
            if step == 2:
                signal.raise_signal(signal.SIGINT)
            steps.append(step)
            stop_if_asked()
    assert steps == [0, 1, 2] and len(said) == 1


def test_the_second_one_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stoppable(lambda _: None):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")


def test_afterwards_everything_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable(lambda _: None):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
    stop_if_asked()
