"""Jobs on a Ray cluster: the ``Executor`` past one machine.

The driver, which is this process, reads and writes all files. Workers hold no state but open models. Each worker is
checked before its first job: it needs the same program, libraries and kind of processor as the driver, since others
compute other numbers. A model reaches a worker by its checksum: the worker takes the file on its own disk or, if it has
none, gets it once from the driver.

Trainings and cells are Ray tasks, which Ray repeats elsewhere if their worker dies. What keeps a resource open, such as
a teacher, is an actor; if it dies, its jobs go to the others, and a new actor takes its place where there is one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import itertools
import logging
import os
import pickle
import platform
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from filelock import FileLock
from platformdirs import user_cache_path

from s3local import __version__, offline
from s3local.exceptions import ModelError, RunError, S3LocalError
from s3local.executor import POLL_SECONDS, Executor, Record, Resource, Result, executor_for
from s3local.hardware import cpu_name, torch_device
from s3local.progress import Advance, ignore
from s3local.storage import replace_durably, sha256_of, sha256_of_folder, translated_errors
from s3local.weights.manifest import models_folder

THIS_MACHINE = "ray"
SCHEME = "ray://"

OWN_ADDRESS = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""By which the processes of a Ray that is started for this program alone find each other. On Linux, Ray would replace
127.0.0.1 by an address of the network, and there may be none."""

SAME_PACKAGES = ("llama-cpp-python", "numpy", "onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers")
"""Another version of one of these may compute other numbers."""

WORKER_LOST = "worker lost"
"""The event of a worker that died with a job."""

MAX_TRIES = 3
"""A job whose worker died this many times is given up."""

CHUNK_BYTES = 64 << 20
"""The most bytes of a model in one message."""


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
        self._address = address
        self._models: dict[Path, str] = {}
        self._record: Record = _unrecorded
        self._batches = itertools.count()
        self._on_card = torch_device() == "cuda"
        self._kernels = Kernels.here(on_card=self._on_card)
        self._helper: Any = None

    def prepare(self, models: Mapping[Path, str], record: Record) -> None:
        """See ``Executor.prepare``."""
        self._models, self._record = dict(models), record
        if self._helper is not None:
            _result(self._helper.serve.remote(self._models))

    def completed(
        self, jobs: Sequence[Callable[[Advance], Result]], advance: Advance = ignore
    ) -> Iterator[tuple[int, Result]]:
        """See ``Executor.completed``. Raises ``RunError`` if the workers of one job died three times, or if a worker is
        not like this machine."""
        import ray

        if not jobs:
            return
        task = ray.remote(_run).options(
            num_cpus=1, num_gpus=int(self._on_card), max_retries=MAX_TRIES - 1, name="s3local"
        )
        batch = self.batch(advance)
        waiting = {task.remote(batch.setup, place, self.pickled(job)): place for place, job in enumerate(jobs)}
        try:
            while waiting:
                ended, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_SECONDS)
                batch.report()
                for reference in ended:
                    yield waiting.pop(reference), _result(reference)
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    shares_disk = False

    def pool(
        self, opener: Callable[[], Resource], threads: int | None = None, *, per_worker: bool = False
    ) -> RayPool[Resource]:
        """See ``Executor.pool``: one resource for each graphics card, or for each ``threads`` processors of a machine
        (None: for each machine)."""
        return RayPool(self, opener, threads)

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

    def batch(self, advance: Advance) -> _Batch:
        """The counts of the next jobs."""
        setup = _Setup(self._kernels, offline.admitted(), self._running_helper(), next(self._batches))
        return _Batch(setup, advance, self._record)

    def places(self, threads: int | None) -> list[dict[str, Any]]:
        """The options of the actor of each resource. Raises ``RunError`` if there is none."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        found: list[dict[str, Any]] = []
        for node in ray.nodes():
            offered = node["Resources"] if node["Alive"] else {}
            processors, cards = (int(offered.get(name, 0)) for name in ("CPU", "GPU"))
            each = min(threads or processors, processors)
            count = cards if self._on_card else (processors // each if each else 0)
            needs = {"num_cpus": processors // cards if self._on_card and cards else each}
            needs["num_gpus"] = int(self._on_card)
            where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
            found += [{**needs, "scheduling_strategy": where}] * count
        if not found:
            what = "graphics card" if self._on_card else "processor"
            raise RunError(f"the Ray of --workers {self._address} offers no {what}")
        return found

    def record_lost(self) -> None:
        """Record that a worker died before it had a job."""
        self._record(WORKER_LOST, host="unknown, as it started")

    def _running_helper(self) -> Any:
        """The actor of ``_Helper`` on this machine, started with the first jobs."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self._helper is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor = ray.remote(_Helper).options(num_cpus=0, scheduling_strategy=here)
            self._helper = actor.remote(self._models)
        return self._helper


class RayPool(Generic[Resource]):
    """The ``Pool`` whose resources are open in actors."""

    def __init__(self, executor: RayExecutor, opener: Callable[[], Resource], threads: int | None) -> None:
        self._executor = executor
        self._opener = opener
        self._threads = threads
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
        from ray.exceptions import RayActorError

        if not jobs:
            return
        if not (self._starting or self._ready):
            for options in self._executor.places(self._threads):
                self._start(options)
        batch = self._executor.batch(advance)
        queue, lost = deque(range(len(jobs))), Counter[int]()
        running: dict[Any, tuple[Any, int]] = {}
        try:
            while queue or running:
                for actor in self._idle(running, len(queue))[: len(queue)]:
                    place = queue.popleft()
                    reference = actor.run.remote(batch.setup, place, self._executor.pickled(jobs[place]))
                    running[reference] = actor, place
                ended, _ = ray.wait([*running, *self._starting], num_returns=1, timeout=POLL_SECONDS)
                batch.report()
                for reference in ended:
                    if reference in self._starting:
                        self._answered(reference)
                        continue
                    actor, place = running.pop(reference)
                    try:
                        result = _result(reference)
                    except RayActorError:
                        lost[place] += 1
                        if lost[place] == MAX_TRIES:
                            raise _given_up() from None
                        queue.appendleft(place)
                        self._replace(actor)
                    else:
                        yield place, result
        except BaseException:
            self.close()  # what still runs there is not wanted any more
            raise

    def close(self) -> None:
        """See ``Pool.close``."""
        import ray

        for actor in [*self._ready, *(actor for actor, _ in self._starting.values())]:
            with contextlib.suppress(Exception):
                ray.kill(actor)
        self._ready, self._starting = {}, {}

    def _idle(self, running: Mapping[Any, tuple[Any, int]], waiting: int) -> list[Any]:
        """The actors without a job; as long as many jobs are waiting, an actor has a second one ready as well, so that
        it goes on while this process is busy with a result."""
        has = Counter(id(actor) for actor, _ in running.values())
        most = 2 if waiting > 2 * len(self._ready) else 1
        return sorted((actor for actor in self._ready if has[id(actor)] < most), key=lambda actor: has[id(actor)])

    def _start(self, options: dict[str, Any]) -> None:
        import ray

        batch = self._executor.batch(ignore)
        actor = ray.remote(_Keeper).options(**options).remote(batch.setup, self._executor.pickled(self._opener))
        self._starting[actor.answer.remote()] = actor, options

    def _answered(self, reference: Any) -> None:
        from ray.exceptions import RayActorError

        actor, options = self._starting.pop(reference)
        try:
            _result(reference)
        except RayActorError:  # its machine may be gone, or it cannot start anywhere
            self._executor.record_lost()
            self._died_in_a_row += 1
            if self._died_in_a_row == MAX_TRIES:
                problem = f"{MAX_TRIES} workers of Ray died as they started"
                raise RunError(f"{problem}; see their logs in /tmp/ray/session_latest/logs") from None
            self._start(options)
        else:
            self._died_in_a_row = 0
            self._ready[actor] = options

    def _replace(self, actor: Any) -> None:
        """Start another actor for one that died, once."""
        options = self._ready.pop(actor, None)
        if options is not None:
            self._start(options)


# In the driver


def _unrecorded(event: str, **facts: Any) -> None:
    """A ``Record`` that keeps nothing."""


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


def _result(reference: Any) -> Any:
    """What a task returned. Raises the error of its job; ``RunError`` if its worker is not usable or died too often."""
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except exceptions.RayActorError:
        raise
    except exceptions.RayTaskError as exc:
        cause = exc.cause
        if isinstance(cause, ImportError) and str(cause.name).startswith("s3local"):
            problem = f"a worker of Ray has no s3local like this one ({cause})"
            raise RunError(f"{problem}; install {__version__} there") from exc
        raise cause from (None if isinstance(cause, S3LocalError) else exc)
    except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError) as exc:
        raise _given_up() from exc
    except exceptions.RayError as exc:
        raise RunError(f"Ray failed: {' '.join(str(exc).split())}") from exc


def _given_up() -> RunError:
    return RunError(
        f"{MAX_TRIES} workers died with the same job, probably because memory ran out; the same command resumes, with "
        "other --workers if need be"
    )


@dataclass(slots=True)
class _Batch:
    """The jobs of one call, whose progress and lost workers are told."""

    setup: _Setup
    advance: Advance
    record: Record
    told: int = 0
    lost: int = 0

    def report(self) -> None:
        """Tell what has happened since the last call."""
        from ray.exceptions import RayActorError

        try:
            done, lost = _result(self.setup.helper.counts.remote(self.setup.batch))
        except RayActorError as exc:
            raise RunError("the worker of Ray beside this process died; run the same command again") from exc
        if done > self.told:
            self.advance(done - self.told)
            self.told = done
        for host in lost[self.lost :]:
            self.record(WORKER_LOST, host=host)
        self.lost = len(lost)


# In workers


@dataclass(frozen=True, slots=True)
class _Setup:
    """What a worker needs beside its job: the driver's kernels, the addresses that the user named, the helper, and
    which of its counts are the job's."""

    kernels: Kernels
    admitted: tuple[tuple[str, int], ...]
    helper: Any
    batch: int


@dataclass(slots=True)
class _Counts:
    """The units that each job has done, the host where it runs, and the hosts whose worker died with a job."""

    done: dict[int, int] = field(default_factory=dict)
    hosts: dict[int, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


class _Helper:
    """The actor beside the driver: it counts what jobs report, and hands out the files of ``models``."""

    def __init__(self, models: Mapping[Path, str]) -> None:
        self._models = models
        self._counts: dict[int, _Counts] = {}

    def serve(self, models: Mapping[Path, str]) -> None:
        """Hand out these models from now on."""
        self._models = models

    def begun(self, batch: int, place: int, host: str) -> None:
        """A job begins on ``host``; if it began before, its worker died."""
        counts = self._counts.setdefault(batch, _Counts())
        if place in counts.hosts:
            counts.lost.append(counts.hosts[place])
        counts.hosts[place] = host
        counts.done[place] = 0

    def advanced(self, batch: int, place: int, count: int) -> None:
        """A job has done ``count`` more units."""
        self._counts[batch].done[place] += count

    def counts(self, batch: int) -> tuple[int, list[str]]:
        """The units that the jobs of a batch have done, and the host of each worker that died with one of them."""
        counts = self._counts.setdefault(batch, _Counts())
        return sum(counts.done.values()), counts.lost

    def files(self, model: Path) -> list[tuple[str, int]]:
        """The files of a model with their sizes, by their paths in its folder; "" for a model that is one file."""
        if model not in self._models:
            raise ValueError(f"{model} is no model of this run")
        if model.is_file():
            return [("", model.stat().st_size)]
        return [
            (path.relative_to(model).as_posix(), path.stat().st_size)
            for path in sorted(model.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        ]

    def read(self, model: Path, name: str, start: int) -> bytes:
        """Up to ``CHUNK_BYTES`` of one of ``files``, from the byte ``start`` on."""
        if name not in dict(self.files(model)):
            raise ValueError(f"{model} has no file {name}")
        with (model / name if name else model).open("rb") as stream:
            stream.seek(start)
            return stream.read(CHUNK_BYTES)


class _Keeper:
    """The actor that keeps a resource open. It is opened with the first job, so that an error belongs to that."""

    def __init__(self, setup: _Setup, opener: bytes) -> None:
        self._opener = opener
        self._resource: Any = None

    def answer(self) -> None:
        """Return when the actor has started."""

    def run(self, setup: _Setup, place: int, job: bytes) -> Any:
        """Run a job with the resource."""
        _begin(setup)
        if self._resource is None:
            self._resource = _unpickled(self._opener, setup.helper)()
        call = _unpickled(job, setup.helper)
        with _advancing(setup, place) as advance:
            return call(self._resource, advance)


def _run(setup: _Setup, place: int, job: bytes) -> Any:
    """Run a job without a resource."""
    _begin(setup)
    call = _unpickled(job, setup.helper)
    with _advancing(setup, place) as advance:
        return call(advance)


def _begin(setup: _Setup) -> None:
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
def _advancing(setup: _Setup, place: int) -> Iterator[Advance]:
    """The ``Advance`` of a job, which tells the helper now and then, and at the end."""
    import ray

    waiting, told = 0, time.monotonic()
    ray.get(setup.helper.begun.remote(setup.batch, place, platform.node()))

    def advance(count: int) -> None:
        nonlocal waiting, told
        waiting += count
        if time.monotonic() - told >= POLL_SECONDS:
            setup.helper.advanced.remote(setup.batch, place, waiting)
            waiting, told = 0, time.monotonic()

    yield advance
    ray.get(setup.helper.advanced.remote(setup.batch, place, waiting))


def _unpickled(thing: bytes, helper: Any) -> Any:
    class Unpickler(pickle.Unpickler):
        def persistent_load(self, reference: tuple[str, str]) -> Path:
            path, checksum = reference
            return find_model(Path(path), checksum, lambda model, target: _receive(helper, model, target))

    return Unpickler(io.BytesIO(thing)).load()


_found: dict[tuple[Path, str], Path] = {}
"""The models that this worker has found, by the driver's path and the checksum."""


def find_model(path: Path, checksum: str, receive: Callable[[Path, Path], None]) -> Path:
    """Where the driver's model ``path``, a file or a folder, lies on this machine.

    It is looked for at the same path and in the folder of models. If it is at neither, ``receive`` writes it to a path
    in this user's cache, once. Raises ``ModelError`` if a model of that name has another checksum here.
    """
    key = path, checksum
    if key in _found and _found[key].exists():
        return _found[key]
    for candidate in (path, models_folder() / path.name, models_folder() / path.parent.name / path.name):
        if candidate.exists():
            if _checksum(candidate) != checksum:
                raise ModelError(
                    f"the worker on {platform.node()} has another {path.name}: the checksum of {candidate} is not that "
                    f"of the model here; fetch the same one there, or delete it there, so that it is sent"
                )
            return _found.setdefault(key, candidate)
    target = user_cache_path("s3local") / "models" / checksum[:32] / path.name
    with translated_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".lock"):
            if not (target.exists() and _checksum(target) == checksum):
                with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                    part = Path(folder) / path.name
                    receive(path, part)
                    if _checksum(part) != checksum:
                        raise ModelError(
                            f"{path.name} arrived damaged on {platform.node()}; run the same command again"
                        )
                    replace_durably(part, target)
    return _found.setdefault(key, target)


def _checksum(path: Path) -> str:
    return sha256_of_folder(path) if path.is_dir() else sha256_of(path)


def _receive(helper: Any, model: Path, target: Path) -> None:
    """Write the driver's ``model`` to ``target``."""
    import ray

    for name, size in ray.get(helper.files.remote(model)):
        path = target / name if name else target
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            while stream.tell() < size:
                stream.write(ray.get(helper.read.remote(model, name, stream.tell())))
