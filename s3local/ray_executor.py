"""Jobs on a Ray cluster: the ``Executor`` past one machine.

The driver, which is this process, reads and writes all files. Each worker is checked before its first job: it needs
the same program, libraries and kind of processor as the driver, since others compute other numbers. A model reaches a
worker by its checksum: the worker takes the file on its own disk or, if it has none, gets it once from the driver.

Trainings are Ray tasks, which Ray repeats elsewhere if their worker dies. What keeps a resource open, such as a
teacher, is an actor; if it dies, its jobs go to the others, and a new actor takes its place where there is one. A
worker that hangs is ended, and its job is repeated as if it had died; so is a job whose answer cannot be right.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from s3local import __version__, offline
from s3local.exceptions import RunError, S3LocalError
from s3local.executor import (
    JOBS_DONE,
    POLL_SECONDS,
    SILENT,
    Executor,
    Record,
    Resource,
    Result,
    accepted,
    executor_for,
    unrecorded,
)
from s3local.hardware import torch_device
from s3local.placement import WORKER_BYTES, Machine, Needs, in_words, place
from s3local.progress import Advance, Progress, ignore
from s3local.ray_worker import Helper, Keeper, Kernels, Report, Setup, Share, free_memory, run

THIS_MACHINE = "ray"
SCHEME = "ray://"

OWN_ADDRESS = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""By which the processes of a Ray that is started for this program alone find each other. On Linux, Ray would replace
127.0.0.1 by an address of the network, and there may be none."""

WORKER_LOST, WORKER_HUNG, GARBAGE = "worker lost", "worker hung", "worker returned garbage"
"""The events of a worker that died with a job, that reported nothing for too long, and whose answer was wrong."""

MAX_TRIES = 3
"""A job that as many workers failed at is given up."""

TRAINING = Needs("training", 1, WORKER_BYTES)

HANG_SECONDS = 1800.0
HANG_FACTOR = 4.0
"""A worker hangs if its job reports nothing for so many seconds and for so many times as long as any job before that
went on. A training reports every batch and a teacher every text, so that half an hour is long."""
ANSWER_SECONDS = 60.0
"""How long a machine has to say how much of its memory is free."""


def executor_named(workers: int | str | None) -> Executor:
    """The executor that ``--workers`` names: a number or None as in ``executor_for``, "ray", or "ray://HOST:PORT".

    Raises ``S3LocalError`` as ``RayExecutor`` does.
    """
    return RayExecutor(workers) if isinstance(workers, str) else executor_for(workers)


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of "ray://HOST:PORT". Raises ``ValueError`` for anything else."""
    host, colon, port = address.removeprefix(SCHEME).rpartition(":")
    if not (address.startswith(SCHEME) and host and colon and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"found {address!r}; ray, or an address such as {SCHEME}192.168.1.10:6379, belongs here")
    return host.strip("[]"), int(port)


class RayExecutor:
    """The ``Executor`` of a Ray cluster: "ray" is the Ray that runs on this machine, or one that is started for this
    program alone; "ray://HOST:PORT" is the cluster of that head, which this machine has joined.

    Raises ``S3LocalError`` if Ray is not installed, ``RunError`` if the cluster cannot be used, ``NetworkError`` if the
    host is not known.
    """

    def __init__(self, address: str = THIS_MACHINE) -> None:
        if importlib.util.find_spec("ray") is None:
            raise S3LocalError(f"--workers {address} needs the package ray: pip install 's3local[ray]'")
        self._connected = _connect(address)
        self._models: dict[Path, str] = {}
        self.record: Record = unrecorded
        self.progress: Progress = SILENT
        self._said: set[str] = set()
        self._done: dict[str, Share] = {}
        self._free: dict[str, int | None] = {}
        self._batches = itertools.count()
        self._on_card = torch_device() == "cuda"
        self._kernels = Kernels.here(on_card=self._on_card)
        self._helper: Any = None

    def prepare(self, models: Mapping[Path, str], record: Record, progress: Progress = SILENT) -> None:
        """See ``Executor.prepare``."""
        self._models, self.record, self.progress = dict(models), record, progress
        if self._helper is not None:
            outcome_of(self._helper.serve.remote(self._models))

    def completed(
        self, jobs: Sequence[Callable[[Advance], Result]], advance: Advance = ignore
    ) -> Iterator[tuple[int, Result]]:
        """See ``Executor.completed``. Raises ``RunError`` if three workers failed at the same job, if a worker is not
        like this machine, or if no machine has the memory for a training."""
        import ray

        if not jobs:
            return
        self.places(TRAINING)
        task = ray.remote(run).options(
            num_cpus=1, num_gpus=int(self._on_card), memory=WORKER_BYTES, max_retries=MAX_TRIES - 1, name="s3local"
        )
        batch = self.batch(advance)
        pickled = [self.pickled(job) for job in jobs]
        waiting = {task.remote(batch.setup, number, its): number for number, its in enumerate(pickled)}
        try:
            while waiting:
                ended, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_SECONDS)
                hung = batch.follow()
                for reference, number in waiting.items():
                    if number in hung and reference not in ended:
                        batch.failed(number, WORKER_HUNG)
                        ray.cancel(reference, force=True)
                for reference in ended:
                    number = waiting.pop(reference)
                    try:
                        result = batch.checked(number, outcome_of(reference), jobs[number])
                    except (_WrongAnswerError, ray.exceptions.TaskCancelledError) as exc:
                        if isinstance(exc, _WrongAnswerError):
                            batch.failed(number, GARBAGE)
                        waiting[task.remote(batch.setup, number, pickled[number])] = number
                    except _DiedError:
                        raise given_up(WORKER_LOST) from None
                    else:
                        yield number, result
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)
            batch.close()
            self.record_done()

    shares_disk = False

    def pool(self, opener: Callable[[], Resource], needs: Needs, *, per_worker: bool = False) -> RayPool[Resource]:
        """See ``Executor.pool``: one resource for each graphics card, or for each ``needs.threads`` processors of a
        machine (None: for each machine), as far as its memory allows."""
        return RayPool(self, opener, needs)

    def close(self) -> None:
        """See ``Executor.close``. A Ray that was started for this program ends."""
        import ray

        if self._helper is not None:
            with contextlib.suppress(Exception):
                ray.kill(self._helper)
            self._helper = None
        if self._connected:
            ray.shutdown()

    # For the pool

    def pickled(self, thing: object) -> bytes:
        """``thing`` with the paths of models as references, which a worker resolves on its own disk."""
        stream = io.BytesIO()
        _pickler(stream, self._models).dump(thing)
        return stream.getvalue()

    def batch(self, advance: Advance) -> Batch:
        """The next jobs, of which workers tell the helper."""
        setup = Setup(self._kernels, offline.admitted(), self._running_helper(), next(self._batches))
        return Batch(setup, advance, self)

    def places(self, needs: Needs) -> list[dict[str, Any]]:
        """The options of the actor of each worker, after the choice was said. Raises ``RunError`` if none fits."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        machines = self.machines()
        placements = place(list(machines.values()), needs)
        if (line := in_words(placements, needs)) not in self._said:
            self._said.add(line)
            self.progress.say(line)
        found: list[dict[str, Any]] = []
        for node, its in zip(machines, placements, strict=True):
            where = NodeAffinitySchedulingStrategy(node, soft=True)
            resources = {"num_cpus": its.threads, "num_gpus": int(self._on_card), "memory": needs.memory or None}
            found += [{**resources, "scheduling_strategy": where}] * its.workers
        return found

    def machines(self) -> dict[str, Machine]:
        """What each machine of the cluster offers, by Ray's name of it. The memory that is free is what its Ray was
        started with, or less where the machine says so when it is first asked."""
        import ray

        nodes = [node for node in ray.nodes() if node["Alive"]]
        asked = {node["NodeID"]: self._ask(node["NodeID"]) for node in nodes if node["NodeID"] not in self._free}
        if asked:
            ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_SECONDS)
            for name, reference in asked.items():
                with contextlib.suppress(
                    _DiedError, ray.exceptions.GetTimeoutError, ray.exceptions.TaskUnschedulableError
                ):
                    self._free[name] = outcome_of(reference, timeout=0)
        found, names = dict[str, Machine](), self.machine_names()
        for node in nodes:
            offered = node["Resources"]
            memory, free = int(offered.get("memory", 0)), self._free.get(node["NodeID"])
            cards = int(offered.get("GPU", 0)) if self._on_card else None
            free = memory if free is None else min(memory, free)
            found[node["NodeID"]] = Machine(names[node["NodeID"]], int(offered.get("CPU", 0)), free, cards)
        return found

    def machine_names(self) -> dict[str, str]:
        """What messages call each machine that has ever been in the cluster: its name, and its address where two have
        the same name."""
        import ray

        nodes = ray.nodes()
        names = Counter(node["NodeManagerHostname"] for node in nodes)
        return {
            node["NodeID"]: node["NodeManagerHostname"]
            + (f" ({node['NodeManagerAddress']})" if names[node["NodeManagerHostname"]] > 1 else "")
            for node in nodes
        }

    def count(self, shares: Mapping[str, Share]) -> None:
        """Add what machines have done to what is recorded of each by ``record_done``."""
        for node, its in shares.items():
            share = self._done.setdefault(node, Share())
            share.jobs, share.units = share.jobs + its.jobs, share.units + its.units
            share.seconds += its.seconds

    def record_done(self) -> None:
        """Record what each machine has done since the last call."""
        names = self.machine_names() if self._done else {}
        for node, its in self._done.items():
            seconds = round(its.seconds, 3)
            self.record(JOBS_DONE, host=names.get(node, node), jobs=its.jobs, units=its.units, seconds=seconds)
        self._done = {}

    def _ask(self, node: str) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(free_memory).options(num_cpus=0, scheduling_strategy=where).remote()

    def _running_helper(self) -> Any:
        """The actor of ``Helper`` on this machine, started with the first jobs."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self._helper is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor = ray.remote(Helper).options(num_cpus=0, scheduling_strategy=here)
            self._helper = actor.remote(self._models)
        return self._helper


class RayPool(Generic[Resource]):
    """The ``Pool`` whose resources are open in actors. A job goes to an actor when that has next to nothing to do, so
    that a slow one gets fewer."""

    def __init__(self, executor: RayExecutor, opener: Callable[[], Resource], needs: Needs) -> None:
        self._executor = executor
        self._opener = opener
        self._needs = needs
        self._starting: dict[Any, tuple[Any, dict[str, Any]]] = {}
        """The actors that have not answered yet and their options, by the reference of their first answer."""
        self._ready: dict[Any, dict[str, Any]] = {}
        """The options of the actors that have."""
        self._died_in_a_row = 0
        """Actors that died as they started, since one answered."""

    def completed(
        self, jobs: Sequence[Callable[[Resource, Advance], Result]], advance: Advance = ignore
    ) -> Generator[tuple[int, Result], None, None]:
        """See ``Pool.completed``. Raises ``RunError`` as ``RayExecutor.completed`` does."""
        import ray

        if not jobs:
            return
        if not (self._starting or self._ready):
            for options in self._executor.places(self._needs):
                self._start(options)
        batch = self._executor.batch(advance)
        queue = deque(range(len(jobs)))
        running: dict[Any, tuple[Any, int]] = {}
        try:
            while queue or running:
                for actor in self._idle(running, len(queue))[: len(queue)]:
                    number = queue.popleft()
                    reference = actor.run.remote(batch.setup, number, self._executor.pickled(jobs[number]))
                    running[reference] = actor, number
                ended, _ = ray.wait([*running, *self._starting], num_returns=1, timeout=POLL_SECONDS)
                hung = batch.follow()
                for reference in ended:
                    if reference in self._starting:
                        self._answered(reference)
                        continue
                    actor, number = running[reference]
                    try:
                        result = batch.checked(number, outcome_of(reference), jobs[number])
                    except _WrongAnswerError:
                        self._replace(actor, running, queue)
                        batch.failed(number, GARBAGE)
                        break  # what else has ended may have been of the same actor
                    except _DiedError:
                        batch.failed(self._replace(actor, running, queue), WORKER_LOST)
                        break
                    del running[reference]
                    yield number, result
                for actor, number in [its for its in running.values() if its[1] in hung]:
                    self._replace(actor, running, queue)
                    batch.failed(number, WORKER_HUNG)
        except BaseException:
            self.close()  # what still runs there is not wanted any more
            raise
        finally:
            batch.close()

    def close(self) -> None:
        """See ``Pool.close``."""
        for actor in [*self._ready, *(actor for actor, _ in self._starting.values())]:
            _kill(actor)
        self._ready, self._starting = {}, {}
        self._executor.record_done()

    def _idle(self, running: Mapping[Any, tuple[Any, int]], waiting: int) -> list[Any]:
        """The actors without a job; as long as many jobs are waiting, an actor has a second one ready as well, so that
        it goes on while this process is busy with a result."""
        has = Counter(id(actor) for actor, _ in running.values())
        most = 2 if waiting > 2 * len(self._ready) else 1
        return sorted((actor for actor in self._ready if has[id(actor)] < most), key=lambda actor: has[id(actor)])

    def _start(self, options: dict[str, Any]) -> None:
        import ray

        actor = ray.remote(Keeper).options(**options).remote(self._executor.pickled(self._opener))
        self._starting[actor.answer.remote()] = actor, options

    def _answered(self, reference: Any) -> None:
        actor, options = self._starting.pop(reference)
        try:
            outcome_of(reference)
        except _DiedError:  # its machine may be gone, or it cannot start anywhere
            self._executor.record(WORKER_LOST, host="unknown, as it started")
            self._died_in_a_row += 1
            if self._died_in_a_row == MAX_TRIES:
                problem = f"{MAX_TRIES} workers of Ray died as they started"
                raise RunError(f"{problem}; see their logs in /tmp/ray/session_latest/logs") from None
            self._start(options)
        else:
            self._died_in_a_row = 0
            self._ready[actor] = options

    def _replace(self, actor: Any, running: dict[Any, tuple[Any, int]], queue: deque[int]) -> int:
        """End an actor that died or is not to be trusted, and start another one; its jobs wait again. The number of the
        job that it had first, and so was busy with."""
        _kill(actor)
        theirs = [running.pop(reference)[1] for reference, (its, _) in list(running.items()) if its is actor]
        queue.extendleft(reversed(theirs))
        self._start(self._ready.pop(actor))
        return theirs[0]


# In the driver


class _DiedError(Exception):
    """A worker died with a job."""


class _WrongAnswerError(Exception):
    """What came back for a job cannot be its result."""


@dataclass(slots=True)
class Batch:
    """The jobs of one call: their units are told, workers that fail are recorded, and answers checked."""

    setup: Setup
    advance: Advance
    executor: RayExecutor
    told: int = 0
    lost: int = 0
    tries: Counter[int] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)

    def follow(self) -> list[int]:
        """Tell what has happened since the last call; the jobs whose workers hang."""
        report = self._report()
        if report.done > self.told:
            self.advance(report.done - self.told)
            self.told = report.done
        for node in report.lost[self.lost :]:
            self.executor.record(WORKER_LOST, host=self._name(node))
        self.lost = len(report.lost)
        if len(report.shares) > 1:
            self.executor.progress.note(_in_words({self._name(node): its for node, its in report.shares.items()}))
        limit = max(HANG_SECONDS, HANG_FACTOR * report.longest)
        return [number for number, seconds in report.silent.items() if seconds > limit]

    def checked(self, number: int, answer: Any, job: object) -> Any:
        """What a job returned. Raises ``_WrongAnswerError`` if ``answer`` is damaged, or the job does not accept it."""
        try:
            result = answer.result(self.setup.batch, number)
        except Exception as exc:  # whatever it is, it is not what a worker sends
            raise _WrongAnswerError from exc
        if not accepted(job, result):
            raise _WrongAnswerError
        return result

    def failed(self, number: int, event: str) -> None:
        """Record that a worker failed at a job. Raises ``RunError`` if it was the third one."""
        node = outcome_of(self.setup.helper.given_up.remote(self.setup.batch, number))
        self.executor.record(event, host=self._name(node) if node else "unknown, before its job")
        self.tries[number] += 1
        if self.tries[number] == MAX_TRIES:
            raise given_up(event)

    def close(self) -> None:
        """Count what each machine has done."""
        self.executor.progress.note("")
        with contextlib.suppress(RunError):  # the helper may be gone, with the head
            self.executor.count(self._report().shares)

    def _report(self) -> Report:
        try:
            report: Report = outcome_of(self.setup.helper.report.remote(self.setup.batch))
        except _DiedError as exc:
            raise RunError("the worker of Ray beside this process died; run the same command again") from exc
        return report

    def _name(self, node: str) -> str:
        if node not in self.names:
            self.names = self.executor.machine_names()
        return self.names.get(node, node)


def _in_words(shares: Mapping[str, Share]) -> str:
    """How far and how fast each machine is, such as "a: 12 done, 31 a second; b: 4 done, 9.5 a second"."""
    rates = {name: its.units / its.elapsed if its.elapsed else 0.0 for name, its in shares.items()}
    return "; ".join(f"{name}: {its.jobs} done, {rates[name]:.3g} a second" for name, its in sorted(shares.items()))


def _connect(address: str) -> bool:
    """Connect to Ray, with its dashboard and usage statistics off; whether it was not connected before."""
    os.environ.update(offline.ENVIRONMENT)
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # who has no token runs nothing here
    import ray

    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    try:
        if address != THIS_MACHINE:
            host, port = host_and_port(address)
            if not offline.is_local_host(host):
                offline.admit(host, port)
            ray.init(address=f"{host}:{port}", **quiet)
            return True
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(address="local", include_dashboard=False, _node_ip_address=OWN_ADDRESS, **quiet)
    except S3LocalError:
        raise
    except Exception as exc:  # Ray raises many kinds, some of them private
        problem = str(exc).strip().partition("\n")[0]
        raise RunError(
            f"--workers {address}: no Ray can be reached ({problem}); run 'ray start' on this machine with the address "
            f"and the token of the cluster, see docs/scale.md"
        ) from exc
    return True


def _pickler(stream: io.BytesIO, models: Mapping[Path, str]) -> Any:
    from ray import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def persistent_id(self, thing: object) -> tuple[str, str] | None:
            checksum = models.get(thing) if isinstance(thing, Path) else None
            return None if checksum is None else (str(thing), checksum)

    return Pickler(stream)


def outcome_of(reference: Any, timeout: float | None = None) -> Any:
    """What a task or a call of an actor returned. Raises the error of its job, ``_DiedError`` if its worker died,
    ``RunError`` if that is not usable; Ray's errors for one that was cancelled, placed nowhere or not ready in time."""
    import ray
    from ray import exceptions

    try:
        return ray.get(reference, timeout=timeout)
    except (exceptions.TaskCancelledError, exceptions.TaskUnschedulableError, exceptions.GetTimeoutError):
        raise
    except exceptions.RayTaskError as exc:
        cause = exc.cause
        if isinstance(cause, ImportError) and str(cause.name).startswith("s3local"):
            problem = f"a worker of Ray has no s3local like this one ({cause})"
            raise RunError(f"{problem}; install {__version__} there") from exc
        raise cause from (None if isinstance(cause, S3LocalError) else exc)
    except (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,
    ) as exc:
        raise _DiedError from exc
    except exceptions.RayError as exc:
        raise RunError(f"Ray failed: {' '.join(str(exc).split())}") from exc


def _kill(actor: Any) -> None:
    """End an actor, also one that does not listen any more."""
    import ray

    with contextlib.suppress(Exception):
        ray.kill(actor)


def given_up(event: str) -> RunError:
    """The error after ``MAX_TRIES`` workers failed at the same job; ``event`` says how the last one did."""
    how = {
        WORKER_LOST: "died, probably because memory ran out",
        WORKER_HUNG: f"reported nothing for {HANG_SECONDS / 60:.0f} minutes or more",
        GARBAGE: "returned something else than a result",
    }
    return RunError(
        f"{MAX_TRIES} workers failed at the same job, the last one {how[event]}; the same command resumes, with other "
        "--workers if need be"
    )
