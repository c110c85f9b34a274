"""A Ray on this machine: the same dataset as in one process, whichever workers there are and however they end."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jobs import (
    Counting,
    Paced,
    Wrong,
    connecting,
    counted,
    dying,
    failing,
    garbling,
    paced,
    path_of,
    squared,
    stopping,
    without_resource,
)
from ray_world import DiesOnce, compared, start

from s3local import ray_executor
from s3local.comparison.cells import Cell
from s3local.comparison.side_by_side import divided
from s3local.exceptions import ModelError, NetworkError, RunError, S3LocalError
from s3local.executor import InThisProcess, WorkerProcesses, unrecorded
from s3local.placement import Needs
from s3local.progress import Advance, Silent
from s3local.ray_executor import RayExecutor, executor_named, host_and_port
from s3local.ray_models import find_model, receive_model
from s3local.results import CellResult
from s3local.runner.loop import RunResult
from s3local.runner.state import RunFolder
from s3local.storage import sha256_of_folder

CHECKOUT = Path(__file__).parents[1]
ONE_THREAD = Needs("worker", 1)
MEMORY = 8 << 30
PATHS = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests/worlds")])


def needs_ray(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that works with Ray, which takes seconds to start."""
    absent = importlib.util.find_spec("ray") is None
    marked: Callable[..., None] = pytest.mark.slow(pytest.mark.skipif(absent, reason="needs the package ray")(test))
    return marked


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a Ray with two processors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATHS)  # workers import the jobs
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_worker_niceness", "0")
        import ray  # which reads the environment

        quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
        ray.init(address="local", num_cpus=2, object_store_memory=100 << 20, _memory=MEMORY, **quiet)
        yield f"ray://{ray.get_runtime_context().gcs_address}"
        ray.shutdown()


@pytest.fixture(scope="module")
def workers(address: str) -> Iterator[RayExecutor]:
    """An executor for which memory that other programs take changes nothing."""
    import ray

    executor = RayExecutor(address)
    executor._free = {node["NodeID"]: MEMORY for node in ray.nodes()}
    yield executor
    executor.close()


# Jobs


@needs_ray
def test_every_job_ends_once_and_all_its_units_are_told(workers: RayExecutor) -> None:
    told: list[int] = []
    found = dict(workers.completed([partial(squared, number) for number in range(7)], told.append))
    assert found == {number: number**2 for number in range(7)}
    assert sum(told) == 2 * sum(range(7))
    assert list(workers.completed([])) == []


@needs_ray
def test_an_error_in_a_job_comes_out_as_it_is_and_the_executor_goes_on(workers: RayExecutor) -> None:
    with pytest.raises(ModelError, match=r"^it is damaged$"):
        list(workers.completed([failing, partial(squared, 3)]))
    with pytest.raises(NetworkError, match=r"192\.0\.2\.1"):
        list(workers.completed([connecting]))
    assert dict(workers.completed([partial(squared, 3)])) == {0: 9}


@needs_ray
def test_a_resource_stays_open_from_job_to_job(workers: RayExecutor) -> None:
    pool, told = workers.pool(Counting, ONE_THREAD), list[int]()
    found = dict(pool.completed([partial(counted, number) for number in range(8)], told.append))
    assert {number: its[0] for number, its in found.items()} == {number: number for number in range(8)}
    processes = {its[2] for its in found.values()}
    assert len(processes) <= 2 and os.getpid() not in processes
    assert sum(its[1] for its in found.values()) == sum(
        sum(range(1, sum(its[2] == process for its in found.values()) + 1)) for process in processes
    )
    assert sum(told) == 8
    pool.close()


@needs_ray
def test_a_job_whose_workers_die_is_given_up(workers: RayExecutor, events: list[str]) -> None:
    with pytest.raises(RunError, match="3 workers failed at the same job, the last one died"):
        list(workers.completed([dying]))
    assert events == ["worker lost"] * 2  # the third is the error


@needs_ray
def test_a_worker_that_computes_other_numbers_is_refused(workers: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_kernels", dataclasses.replace(workers._kernels, program="0.0.9"))
    with pytest.raises(
        RunError, match=r"the worker on \S+ would compute other numbers: it has s3local \S+ \(here 0\.0\.9\)"
    ):
        list(workers.completed([partial(squared, 3)]))


class Said(Silent):
    """Keeps the lines and the notes of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def note(self, text: str) -> None:
        self.notes.append(text)


@needs_ray
def test_a_machine_says_how_much_of_its_memory_is_free(workers: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = workers.machines().values()
    assert (before.cores, before.memory) == (2, MEMORY)
    monkeypatch.setattr(workers, "_free", {})
    (machine,) = workers.machines().values()
    assert machine.memory is not None and 0 < machine.memory <= MEMORY
    assert list(workers._free.values()) != [MEMORY]


@needs_ray
def test_as_many_workers_start_as_memory_allows(workers: RayExecutor) -> None:
    (machine,) = workers.machines().values()
    assert machine.memory is not None
    said = Said()
    workers.prepare({}, unrecorded, said)
    for share, most in ((0.3, 2), (0.6, 1)):
        pool = workers.pool(Counting, Needs("teacher", 1, int(share * machine.memory)))
        found = dict(pool.completed([partial(counted, number) for number in range(6)]))
        assert len({its[2] for its in found.values()}) <= most
        pool.close()
    assert said.lines[0].endswith(": 2 teachers of 1 thread (2 cores)")
    assert said.lines[1].endswith(": 1 teacher of 1 thread (there is memory for 1)")
    pool = workers.pool(Counting, Needs("teacher", 1, 2 * machine.memory))
    with pytest.raises(
        RunError, match=r"no machine has memory for one teacher: it needs about \S+ GiB, \S+ has \S+ GiB"
    ):
        list(pool.completed([partial(counted, 0)]))


@pytest.fixture(params=["actors", "tasks"])
def completed(request: pytest.FixtureRequest, workers: RayExecutor) -> Iterator[Callable[..., dict[int, Any]]]:
    """Runs jobs in the actors of a pool, or as tasks; their results by number."""
    pool = workers.pool(Counting, ONE_THREAD)

    def run(*jobs: Callable[[Advance], object]) -> dict[int, Any]:
        if request.param == "tasks":
            return dict(workers.completed(jobs))
        return dict(pool.completed([partial(without_resource, job) for job in jobs]))

    yield run
    pool.close()


@pytest.fixture
def events(workers: RayExecutor) -> list[str]:
    """The events of workers that failed, as they are recorded."""
    found: list[str] = []
    workers.prepare({}, lambda name, **_: found.append(name) if name.startswith("worker") else None)
    return found


@needs_ray
def test_a_worker_that_hangs_is_ended_and_its_job_goes_elsewhere(
    completed: Callable[..., dict[int, Any]], events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "HANG_SECONDS", 6.0)
    jobs = [partial(stopping, tmp_path / "stopped", number) for number in range(4)]
    assert completed(*jobs) == {number: number for number in range(4)}
    assert events == ["worker hung"]


@needs_ray
def test_an_answer_that_was_damaged_on_its_way_is_computed_again(
    completed: Callable[..., dict[int, Any]], events: list[str], tmp_path: Path
) -> None:
    jobs = [partial(garbling, tmp_path / "garbled", number) for number in range(4)]
    assert completed(*jobs) == {number: number for number in range(4)}
    assert events == ["worker returned garbage"]


@needs_ray
def test_an_answer_that_its_job_does_not_accept_is_computed_again_up_to_three_times(
    workers: RayExecutor, events: list[str], tmp_path: Path
) -> None:
    assert dict(workers.completed([Wrong(number, tmp_path / "wrong") for number in range(4)])) == {
        0: 0,
        1: 1,
        2: 2,
        3: 3,
    }
    assert events == ["worker returned garbage"]
    pool = workers.pool(Counting, ONE_THREAD)
    for call in (workers.completed, pool.completed):
        events.clear()
        with pytest.raises(RunError, match="3 workers failed at the same job, the last one returned something else"):
            list(call([Wrong(1, None)]))  # type: ignore[operator]
        assert events == ["worker returned garbage"] * 3


@needs_ray
def test_a_slow_worker_gets_fewer_jobs_and_each_machine_has_its_share(workers: RayExecutor, tmp_path: Path) -> None:
    done: list[Mapping[str, Any]] = []
    workers.prepare({}, lambda name, **facts: done.append(facts) if name == "jobs done" else None)
    pool = workers.pool(partial(Paced, tmp_path / "slow"), ONE_THREAD)
    for _ in range(2):
        list(pool.completed([paced] * 2))  # both are open
    found = dict(pool.completed([paced] * 20))
    slow, fast = ([its for its in found.values() if its[0] == seconds] for seconds in (1.0, 0.1))
    assert len(slow) + len(fast) == 20 and len(fast) > 2 * len(slow)
    pool.close()
    assert [facts["jobs"] for facts in done] == [24] and done[0]["units"] == 24
    assert done[0]["seconds"] >= 1.0


# Models


def model(folder: Path) -> Path:
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "weights").write_bytes(os.urandom(1000))
    (folder / "config.json").write_text("{}")
    return folder


def test_a_worker_takes_its_own_model_or_gets_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here, there = model(tmp_path / "here/encoder"), tmp_path / "there/encoder"
    checksum, sent = sha256_of_folder(here), list[Path]()

    def receive(path: Path, target: Path) -> None:
        sent.append(path)
        shutil.copytree(here, target)

    assert find_model(here, checksum, receive) == here and not sent
    found = [find_model(there, checksum, receive) for _ in range(2)]
    assert found[0] == found[1] and sha256_of_folder(found[0]) == checksum and sent == [there]


def test_a_worker_with_another_model_is_refused(tmp_path: Path) -> None:
    mine, other = (sha256_of_folder(model(tmp_path / name / "encoder")) for name in ("mine", "other"))
    with pytest.raises(ModelError, match="has another encoder"):
        find_model(tmp_path / "other/encoder", mine, lambda *_: None)
    assert find_model(tmp_path / "other/encoder", other, lambda *_: None) == tmp_path / "other/encoder"


@needs_ray
def test_a_model_is_named_by_its_checksum_and_sent_in_parts(workers: RayExecutor, tmp_path: Path) -> None:
    folder = model(tmp_path / "encoder")
    workers.prepare({folder: sha256_of_folder(folder)}, lambda name, **_: None)
    assert dict(workers.completed([partial(path_of, folder)])) == {0: folder}
    receive_model(workers._running_helper(), folder, tmp_path / "arrived")
    assert sha256_of_folder(tmp_path / "arrived") == sha256_of_folder(folder)
    workers.prepare({folder: "0" * 64}, lambda name, **_: None)
    with pytest.raises(ModelError, match="has another encoder"):
        list(workers.completed([partial(path_of, folder)]))


# Runs


@pytest.fixture(scope="module")
def alone(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run in this process."""
    return start(tiny_bert, tmp_path_factory.mktemp("alone") / "run", InThisProcess())


@pytest.mark.slow
def test_processes_give_the_same_dataset(alone: RunResult, tiny_bert: Path, tmp_path: Path) -> None:
    executor = WorkerProcesses(2)
    assert start(tiny_bert, tmp_path / "run", executor).summary.dataset_sha256 == alone.summary.dataset_sha256
    executor.close()


@needs_ray
def test_two_workers_of_which_one_dies_give_the_same_dataset(
    alone: RunResult, workers: RayExecutor, tiny_bert: Path, tmp_path: Path
) -> None:
    result = start(tiny_bert, tmp_path / "run", workers, DiesOnce(tmp_path / "died"), threads=1)
    assert result.summary.dataset_sha256 == alone.summary.dataset_sha256
    assert [event["event"] for event in RunFolder(result.folder).events()].count("worker lost") == 1


@needs_ray
def test_a_run_whose_driver_was_killed_goes_on_with_other_workers(
    alone: RunResult, address: str, tiny_bert: Path, tmp_path: Path
) -> None:
    """It begins with one worker of Ray, and ends in this process."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            from ray_world import start
            from s3local.ray_executor import RayExecutor

            body, folder, address = sys.argv[1:]
            start(Path(body), Path(folder), RayExecutor(address))
            """
        )
    )
    command = [sys.executable, script, tiny_bert, tmp_path / "run", address]
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "run/round-0/shards/0000.jsonl").is_file():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "run/result.json").is_file()
    result = start(tiny_bert, tmp_path / "run", InThisProcess())
    assert result.summary.dataset_sha256 == alone.summary.dataset_sha256


# Comparisons


@pytest.fixture(scope="module")
def cells(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[CellResult]:
    """The cells, computed one after the other."""
    return compared(tiny_bert, tmp_path_factory.mktemp("cells") / "c", InThisProcess())


def test_cells_that_share_a_run_are_one_job() -> None:
    cells = [Cell(name, seed, 12) for seed in (0, 1) for name in ("gold", "s3", "zerogen", "s3+gold")]
    jobs = divided(cells)
    assert sorted(cell for job in jobs for cell in job) == sorted(cells)
    assert [[cell.method for cell in job] for job in jobs] == [["gold"], ["s3", "s3+gold"], ["zerogen"]] * 2


@pytest.mark.slow
def test_processes_compute_the_same_cells(cells: list[CellResult], tiny_bert: Path, tmp_path: Path) -> None:
    executor = WorkerProcesses(2)
    assert compared(tiny_bert, tmp_path / "c", executor, side_by_side=True) == cells
    executor.close()


@needs_ray
def test_workers_of_ray_compute_the_same_cells_and_the_driver_writes_them(
    cells: list[CellResult], workers: RayExecutor, tiny_bert: Path, tmp_path: Path
) -> None:
    assert compared(tiny_bert, tmp_path / "c", workers, side_by_side=True) == cells
    assert len(list((tmp_path / "c").glob("cells/*/cell.json"))) == len(cells)
    assert (tmp_path / "c/runs/s3-gold12-seed1/result.json").is_file()
    assert not list((tmp_path / "c").rglob("*.onnx"))
    assert compared(tiny_bert, tmp_path / "c", InThisProcess()) == cells  # all have their markers


# What the user says


@pytest.mark.parametrize(
    "address", ["ray://", "ray://host", "ray://host:x", "ray://:6379", "host:6379", "ray://a:70000"]
)
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValueError, match=r"ray, or an address such as ray://192\.168\.1\.10:6379"):
        host_and_port(address)
    assert host_and_port("ray://[::1]:6379") == ("::1", 6379)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(S3LocalError, match=r"^--workers ray needs the package ray: pip install 's3local\[ray\]'$"):
        executor_named("ray")
    assert isinstance(executor_named(1), InThisProcess)
