"""Jobs for executors."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from s3local.exceptions import ModelError
from s3local.executor import InThisProcess, OneResource, Resource, accepted
from s3local.placement import Needs
from s3local.progress import Advance, ignore


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


def stopping(mark: Path, number: int, advance: Advance) -> int:
    """The first process to run this stops, as one does whose disk or driver hangs."""
    advance(number)
    if _first(mark):
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def garbling(mark: Path, number: int, advance: Advance) -> int:
    """The answer of the first process to run this is damaged on its way."""
    if _first(mark):
        from s3local import ray_worker

        whole = ray_worker.Answer.of

        def damaged(batch: int, place: int, result: object) -> ray_worker.Answer:
            ray_worker.Answer.of = whole  # type: ignore[method-assign]
            answer = whole(batch, place, result)
            return dataclasses.replace(answer, content=answer.content[:-2] + b"!.")

        ray_worker.Answer.of = damaged  # type: ignore[method-assign, assignment]
    return number


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A job that knows a wrong result, and that the first process to run it gets wrong; each one without ``mark``."""

    number: int
    mark: Path | None

    def accepts(self, result: object) -> bool:
        return result == self.number

    def __call__(self, *_: object) -> object:
        return "nonsense" if self.mark is None or _first(self.mark) else self.number


def _first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


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


class Paced:
    """A resource that is slow in the first process that opens it."""

    def __init__(self, mark: Path) -> None:
        self._seconds = 1.0 if _first(mark) else 0.1

    def work(self) -> tuple[float, int]:
        time.sleep(self._seconds)
        return self._seconds, os.getpid()

    def close(self) -> None:
        pass


def paced(resource: Paced, advance: Advance) -> tuple[float, int]:
    """How long it took, and its process."""
    advance(1)
    return resource.work()


def without_resource(job: Callable[[Advance], int], _: object, advance: Advance) -> int:
    """A job of an executor as one of a pool."""
    return job(advance)


class Accepting(InThisProcess):
    """The executor of this process, whose pools let each job say whether it accepts its own result."""

    def pool(self, opener: Callable[[], Resource], needs: Needs, **_: bool) -> OneResource[Resource]:
        class Pool(OneResource[Resource]):
            def completed(
                self, jobs: Sequence[Callable[[Resource, Advance], Any]], advance: Advance = ignore
            ) -> Generator[tuple[int, Any], None, None]:
                for number, result in super().completed(jobs, advance):
                    assert accepted(jobs[number], result)
                    yield number, result

        return Pool(opener)
