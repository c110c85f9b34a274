"""Independent jobs side by side: trainings of judges and students that do not depend on each other.

A small classifier trains no faster on two threads than on one: 600 rows of sst2 took 47 seconds either way. So two
trainings run in two processes of one thread each. What a job computes does not depend on where it runs, as long as it
has the same number of threads. So memory that is missing takes away processes, and never changes their threads.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from s3local import offline
from s3local.exceptions import RunError
from s3local.hardware import available_memory_bytes, physical_cores, torch_device
from s3local.placement import WORKER_BYTES, Machine, Needs, in_words, place
from s3local.progress import Advance, Progress, Silent, ignore

Result = TypeVar("Result")
Resource = TypeVar("Resource", bound="Closeable")
Resource_co = TypeVar("Resource_co", bound="Closeable", covariant=True)

IDLE_SECONDS = 600
"""Workers end after this time without a job."""
POLL_SECONDS = 0.2
SILENT = Silent()


class Closeable(Protocol):
    """What can be closed, as a teacher can."""

    def close(self) -> None: ...


JOBS_DONE = "jobs done"
"""The event of what the workers of one machine have done: jobs, their units, and seconds."""
Record = Callable[..., None]
"""Keeps what happened to a worker, as ``RunFolder.event`` does."""


def unrecorded(event: str, **facts: Any) -> None:
    """A ``Record`` that keeps nothing."""


def accepted(job: object, result: object) -> bool:
    """Whether ``result``, which came from another machine, can be that of ``job``, as its method ``accepts`` says if it
    has one."""
    accepts: Callable[[object], bool] = getattr(job, "accepts", lambda _: True)
    return accepts(result)


class Pool(Protocol[Resource_co]):
    """One or more equal resources that stay open from job to job."""

    def completed(
        self, jobs: Sequence[Callable[[Resource_co, Advance], Result]], advance: Advance = ignore
    ) -> Generator[tuple[int, Result], None, None]:
        """As ``Executor.completed``; each job is called with a resource as well, which is opened for the first one."""
        ...

    def close(self) -> None:
        """Close the resources. The pool can be used again."""
        ...


class Executor(Protocol):
    """Where jobs run."""

    def prepare(self, models: Mapping[Path, str], record: Record, progress: Progress = SILENT) -> None:
        """Begin a run: jobs may name the ``models``, files or folders, by their paths; the values are their SHA-256.

        ``record`` is told of workers that are lost and of what each has done; ``progress`` says which workers start and
        why, and notes how fast they are.
        """
        ...

    @property
    def shares_disk(self) -> bool:
        """Whether workers read and write the same files as this process."""
        ...

    def pool(self, opener: Callable[[], Resource], needs: Needs, *, per_worker: bool = False) -> Pool[Resource]:
        """A pool of what ``opener`` opens; each has a process that ``needs`` so much of its machine.

        ``per_worker``: each worker process of a machine has a resource, also where one would use all cores. Raises
        ``RunError`` where no machine has the memory, at once or with the first job.
        """
        ...

    def completed(
        self, jobs: Sequence[Callable[[Advance], Result]], advance: Advance = ignore
    ) -> Iterator[tuple[int, Result]]:
        """The number of each job and what it returns, in the order in which they end.

        A job is called with an ``Advance``; what it reports there, ``advance`` is called with. An error in a job ends
        them all.
        """
        ...

    def close(self) -> None:
        """End the workers. The executor can be used again."""
        ...


class OneResource(Generic[Resource]):
    """The ``Pool`` of one resource in this process."""

    def __init__(self, opener: Callable[[], Resource]) -> None:
        self._opener = opener
        self._resource: Resource | None = None

    def completed(
        self, jobs: Sequence[Callable[[Resource, Advance], Result]], advance: Advance = ignore
    ) -> Generator[tuple[int, Result], None, None]:
        """See ``Pool.completed``."""
        for number, job in enumerate(jobs):
            if self._resource is None:
                self._resource = self._opener()
            yield number, job(self._resource, advance)

    def close(self) -> None:
        """See ``Pool.close``."""
        if self._resource is not None:
            self._resource.close()
            self._resource = None


class OnThisMachine:
    """What the executors of one machine have in common: they find models at their paths, and a pool is one resource
    that uses all cores, which a teacher does as well as several with fewer, in less memory.

    ``choice`` says which workers were chosen and why.
    """

    shares_disk = True

    def __init__(self, choice: str | None = None) -> None:
        self._choice = choice
        self._progress: Progress = SILENT

    def prepare(self, models: Mapping[Path, str], record: Record, progress: Progress = SILENT) -> None:
        """See ``Executor.prepare``."""
        self._progress = progress
        if self._choice is not None:
            progress.say(self._choice)
            self._choice = None

    def pool(self, opener: Callable[[], Resource], needs: Needs, *, per_worker: bool = False) -> Pool[Resource]:
        """See ``Executor.pool``."""
        return OneResource(opener)


class InThisProcess(OnThisMachine):
    """The ``Executor`` that runs one job after the other."""

    def completed(
        self, jobs: Sequence[Callable[[Advance], Result]], advance: Advance = ignore
    ) -> Iterator[tuple[int, Result]]:
        """See ``Executor.completed``."""
        for number, job in enumerate(jobs):
            yield number, job(advance)

    def close(self) -> None:
        """See ``Executor.close``."""


class WorkerProcesses(OnThisMachine):
    """The ``Executor`` of up to ``workers`` processes with ``threads`` each (None: they share all cores).

    Workers start with the first jobs and stay, since it takes them some seconds to import PyTorch. Jobs and their
    results are pickled. ``close`` ends the workers.
    """

    def __init__(self, workers: int, threads: int | None = None, choice: str | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        super().__init__(choice)
        self._workers = workers
        self._threads = threads or max(1, physical_cores() // workers)
        self._executor: Any = None

    def completed(
        self, jobs: Sequence[Callable[[Advance], Result]], advance: Advance = ignore
    ) -> Iterator[tuple[int, Result]]:
        """See ``Executor.completed``. Raises ``RunError`` if a worker dies, as it does when memory runs out."""
        from loky.process_executor import BrokenProcessPool

        if not jobs:
            return
        with _counters(len(jobs)) as path:
            counters = np.memmap(path, np.int64, "r", shape=(len(jobs),))
            told = 0
            executor = self._executor = self._running()
            numbers = {executor.submit(_run, job, path, place, len(jobs)): place for place, job in enumerate(jobs)}
            waiting = set(numbers)
            try:
                while waiting:
                    ended, waiting = concurrent.futures.wait(waiting, POLL_SECONDS, concurrent.futures.FIRST_COMPLETED)
                    done = int(counters.sum())
                    if done > told:
                        advance(done - told)
                        told = done
                    for future in sorted(ended, key=numbers.__getitem__):
                        yield numbers[future], future.result()
            except BrokenProcessPool as exc:
                self.close()
                problem = "a worker process died, probably because memory ran out"
                raise RunError(f"{problem}; run the same command again with --workers 1") from exc
            except BaseException:  # Ctrl-C, or an error in a job: the other jobs' results are not wanted any more
                self.close()
                raise

    def pool(self, opener: Callable[[], Resource], needs: Needs, *, per_worker: bool = False) -> Pool[Resource]:
        """See ``Executor.pool``. Resources of each worker may need more memory than the workers were chosen for: then
        fewer of these start."""
        if not per_worker:
            return super().pool(opener, needs)
        needs = dataclasses.replace(needs, threads=self._threads)
        machine = dataclasses.replace(_this_machine(), cores=self._workers * self._threads)
        here = place([machine], needs)
        if here[0].workers < self._workers:
            self._progress.say(in_words(here, needs))
        return _ResourceOfEach(WorkerProcesses(here[0].workers, self._threads), opener)

    def close(self) -> None:
        """See ``Executor.close``."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None

    def _running(self) -> Any:
        """The workers, started anew if they have ended."""
        from loky import get_reusable_executor

        return get_reusable_executor(
            max_workers=self._workers,
            timeout=IDLE_SECONDS,
            initializer=_begin,
            initargs=(os.getpid(),),
            env={"OMP_NUM_THREADS": str(self._threads)},  # as PyTorch reads it when a job imports it
        )


class _ResourceOfEach(Generic[Resource]):
    """The ``Pool`` of a resource in each worker process."""

    def __init__(self, workers: WorkerProcesses, opener: Callable[[], Resource]) -> None:
        self._workers = workers
        self._opener = opener
        self._name = uuid.uuid4().hex

    def completed(
        self, jobs: Sequence[Callable[[Resource, Advance], Result]], advance: Advance = ignore
    ) -> Generator[tuple[int, Result], None, None]:
        """See ``Pool.completed``."""
        opened = partial(_opened, self._name, self._opener)
        yield from self._workers.completed([partial(_with_resource, opened, job) for job in jobs], advance)

    def close(self) -> None:
        """See ``Pool.close``: the workers end."""
        self._workers.close()


_resources: dict[str, Any] = {}
"""The open resources of this worker, by the names of their pools."""


def _opened(name: str, opener: Callable[[], Resource]) -> Any:
    if name not in _resources:
        _resources[name] = opener()
    return _resources[name]


def _with_resource(
    opened: Callable[[], Resource], job: Callable[[Resource, Advance], Result], advance: Advance
) -> Result:
    return job(opened(), advance)


def executor_for(workers: int | None) -> Executor:
    """The executor of ``workers`` processes, or of fewer where cores or free memory do not suffice; None: one for each
    core.

    One worker is this process itself. So is a machine with a graphics card, which one training fills, and by default
    one without memory for a worker. Raises ``RunError`` if there is no memory for one of several that were asked for.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    here = _this_machine()
    wanted = min(workers or here.cores, here.cores)
    if wanted == 1 or (workers is None and torch_device() == "cuda"):
        return InThisProcess()
    needs = Needs("worker", here.cores // wanted, WORKER_BYTES)
    if workers is None and here.memory is not None and here.memory < needs.memory:
        return InThisProcess("trainings run in this process: there is no memory for a worker")
    placements = place([here], needs, wanted)
    return WorkerProcesses(placements[0].workers, needs.threads, in_words(placements, needs))


def _this_machine() -> Machine:
    return Machine("this machine", physical_cores(), available_memory_bytes())


@contextlib.contextmanager
def _counters(count: int) -> Iterator[str]:
    """The name of a temporary file of ``count`` numbers, in which jobs count what they have done."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "done"
        np.zeros(count, np.int64).tofile(path)
        yield str(path)


def _run(job: Callable[[Advance], Any], path: str, place: int, count: int) -> Any:
    """Run one job in a worker."""
    counters = np.memmap(path, np.int64, "r+", shape=(count,))

    def advance(done: int) -> None:
        counters[place] += done

    return job(advance)


def _begin(main_process: int) -> None:
    """Prepare a worker: no network, Ctrl-C is for the main process alone, and the worker ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    offline.engage()
    threading.Thread(target=_end_with, args=(main_process,), daemon=True).start()


def _end_with(main_process: int) -> None:
    """End this worker when the main process, its parent, is gone: kill -9 leaves it no time to end its workers."""
    while os.getppid() == main_process:
        time.sleep(POLL_SECONDS)
    os._exit(1)
