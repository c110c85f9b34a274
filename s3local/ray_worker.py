"""What runs in the processes of a Ray cluster beside the driver: jobs, and the helper that is told how they go on.

Workers hold no state but open resources. What a job returns travels with its checksum and the job's number, so that the
driver takes nothing else for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import pickle
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3local import __version__, offline
from s3local.exceptions import RunError
from s3local.executor import POLL_SECONDS
from s3local.hardware import available_memory_bytes, cpu_name, torch_device
from s3local.progress import Advance
from s3local.ray_models import ModelFiles, find_model, receive_model

SAME_PACKAGES = ("llama-cpp-python", "numpy", "onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers")
"""Another version of one of these may compute other numbers."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """What decides the numbers that a machine computes: the program, its libraries, and the kind of processor."""

    program: str
    packages: Mapping[str, str]
    processor: str
    device: str

    @classmethod
    def here(cls, *, on_card: bool) -> Kernels:
        """Those of this process; ``on_card``: it is to use a graphics card, so that torch says whether it can."""
        versions = {name: importlib.metadata.version(name) for name in SAME_PACKAGES}
        return cls(__version__, versions, cpu_name(), torch_device() if on_card else "cpu")

    def difference(self, other: Kernels) -> str | None:
        """The first difference of ``other`` in words, such as "s3local 0.2 (here 0.1)"; None if there is none."""
        pairs = [("s3local", other.program, self.program)]
        pairs += [(name, other.packages.get(name, "none"), version) for name, version in self.packages.items()]
        pairs += [("the processor", other.processor, self.processor), ("the device", other.device, self.device)]
        return next((f"{name} {its} (here {mine})" for name, its, mine in pairs if its != mine), None)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs beside its job: the driver's kernels, the addresses that the user named, the helper, and
    the batch that the job belongs to."""

    kernels: Kernels
    admitted: tuple[tuple[str, int], ...]
    helper: Any
    batch: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the job with the number ``place`` of a batch returned, pickled, and the SHA-256 of that."""

    batch: int
    place: int
    sha256: str
    content: bytes

    @classmethod
    def of(cls, batch: int, place: int, result: object) -> Answer:
        """The answer of a job that returned ``result``."""
        from ray import cloudpickle

        content = cloudpickle.dumps(result)
        return cls(batch, place, hashlib.sha256(content).hexdigest(), content)

    def result(self, batch: int, place: int) -> Any:
        """What the job returned. Raises ``ValueError`` if this is the answer of another job, or damaged."""
        if (self.batch, self.place) != (batch, place):
            raise ValueError(f"the answer of job {self.place} of batch {self.batch} came for {place} of {batch}")
        if hashlib.sha256(self.content).hexdigest() != self.sha256:
            raise ValueError("its checksum is wrong")
        return pickle.loads(self.content)


# The helper


@dataclass(slots=True)
class Share:
    """What the workers of one machine have done of a batch: the ``jobs`` that ended, their ``units``, and the
    ``seconds`` that they took, added up. ``elapsed``: from the beginning of the first to the end of the last."""

    jobs: int = 0
    units: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What the helper knows of a batch.

    ``done`` are the units of all jobs, ``lost`` the machines of workers that died with a job. ``silent`` are the jobs
    that run, and the seconds since they last reported anything. ``longest`` is the longest time, in
    seconds, that a job of this helper reported nothing and then went on. ``shares`` are by machine.
    """

    done: int
    lost: tuple[str, ...]
    silent: Mapping[int, float]
    longest: float
    shares: Mapping[str, Share]


@dataclass(slots=True)
class _Job:
    """A job since it began on the machine ``node``; ``seen`` is when it last reported anything."""

    node: str
    begun: float
    seen: float
    units: int = 0
    runs: bool = True


@dataclass(slots=True)
class _Counts:
    """The jobs of a batch by their numbers, and the machines of workers that died with one."""

    jobs: dict[int, _Job] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


class Helper(ModelFiles):
    """The actor beside the driver: workers tell it how their jobs go on, and get models from it."""

    def __init__(self, models: Mapping[Path, str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(models)
        self._clock = clock
        self._batches: dict[int, _Counts] = {}
        self._longest = 0.0

    def serve(self, models: Mapping[Path, str]) -> None:
        """Hand out these models from now on."""
        self._models = models

    def begun(self, batch: int, place: int, node: str) -> None:
        """A job begins on a machine; if it runs already, its former worker died."""
        counts = self._batches.setdefault(batch, _Counts())
        before = counts.jobs.get(place)
        if before is not None and before.runs:
            counts.lost.append(before.node)
        counts.jobs[place] = _Job(node, self._clock(), self._clock())

    def advanced(self, batch: int, place: int, units: int) -> None:
        """A job has done more units, or 0: it goes on."""
        job, now = self._batches[batch].jobs.get(place), self._clock()
        if job is None:  # it was given up
            return
        self._longest = max(self._longest, now - job.seen)
        job.seen = now
        job.units += units

    def ended(self, batch: int, place: int, units: int) -> None:
        """A job has ended, after as many more units."""
        self.advanced(batch, place, units)
        if (job := self._batches[batch].jobs.get(place)) is not None:
            job.runs = False

    def given_up(self, batch: int, place: int) -> str | None:
        """The driver waits no more for the worker of a job, and has it done by another one; the machine where it ran,
        None if it had not begun."""
        job = self._batches.setdefault(batch, _Counts()).jobs.pop(place, None)
        return None if job is None else job.node

    def report(self, batch: int) -> Report:
        """How the jobs of a batch go on."""
        counts, now = self._batches.setdefault(batch, _Counts()), self._clock()
        silent, shares, first = dict[int, float](), dict[str, Share](), dict[str, float]()
        for place, job in counts.jobs.items():
            share = shares.setdefault(job.node, Share())
            until = now if job.runs else job.seen
            share.jobs += not job.runs
            share.units += job.units
            share.seconds += until - job.begun
            begun = first[job.node] = min(job.begun, first.get(job.node, job.begun))
            share.elapsed = max(share.elapsed, until - begun)
            if job.runs:
                silent[place] = now - job.seen
        units = sum(job.units for job in counts.jobs.values())
        return Report(units, tuple(counts.lost), silent, self._longest, shares)


# In workers


class Keeper:
    """The actor that keeps a resource open. It is opened with the first job, so that an error belongs to that."""

    def __init__(self, opener: bytes) -> None:
        self._opener = opener
        self._resource: Any = None

    def answer(self) -> None:
        """Return when the actor has started."""

    def run(self, setup: Setup, place: int, job: bytes) -> Answer:
        """Run a job with the resource."""
        with _reported(setup, place) as advance:
            _begin(setup)
            if self._resource is None:
                self._resource = _unpickled(self._opener, setup.helper)()
            result = _unpickled(job, setup.helper)(self._resource, advance)
        return Answer.of(setup.batch, place, result)


def run(setup: Setup, place: int, job: bytes) -> Answer:
    """Run a job without a resource."""
    with _reported(setup, place) as advance:
        _begin(setup)
        result = _unpickled(job, setup.helper)(advance)
    return Answer.of(setup.batch, place, result)


def free_memory() -> int | None:
    """The memory that is free on the machine of this worker, in bytes."""
    return available_memory_bytes()


def _begin(setup: Setup) -> None:
    """Prepare this worker: no network but the addresses that the user named, and the same numbers as in the driver."""
    offline.engage()
    for host, port in setup.admitted:
        offline.admit(host, port)
    here = Kernels.here(on_card=setup.kernels.device == "cuda")
    if (difference := setup.kernels.difference(here)) is not None:
        raise RunError(
            f"the worker on {platform.node()} would compute other numbers: it has {difference}; make it like this "
            f"machine, or take it out of the cluster with 'ray stop'"
        )


@contextlib.contextmanager
def _reported(setup: Setup, place: int) -> Iterator[Advance]:
    """The ``Advance`` of a job, which tells the helper now and then, and at the end."""
    import ray

    waiting, told = 0, time.monotonic()
    ray.get(setup.helper.begun.remote(setup.batch, place, ray.get_runtime_context().get_node_id()))

    def advance(count: int) -> None:
        nonlocal waiting, told
        waiting += count
        if time.monotonic() - told >= POLL_SECONDS:
            setup.helper.advanced.remote(setup.batch, place, waiting)
            waiting, told = 0, time.monotonic()

    yield advance
    ray.get(setup.helper.ended.remote(setup.batch, place, waiting))


def _unpickled(thing: bytes, helper: Any) -> Any:
    class Unpickler(pickle.Unpickler):
        def persistent_load(self, reference: tuple[str, str]) -> Path:
            path, checksum = reference
            return find_model(Path(path), checksum, lambda model, target: receive_model(helper, model, target))

    return Unpickler(io.BytesIO(thing)).load()
