"""Executors: every job once, wherever it runs; errors end all; workers reach no network."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from jobs import Counting, connecting, counted, dying, failing, squared
from toys import LABELS, SETTINGS, reviews

from s3local import executor as executor_module
from s3local.exceptions import ModelError, NetworkError, RunError
from s3local.executor import Executor, InThisProcess, WorkerProcesses, executor_for, unrecorded
from s3local.placement import Needs
from s3local.progress import Advance, Silent, ignore
from s3local.student.training import train

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def workers() -> Iterator[WorkerProcesses]:
    executor = WorkerProcesses(2)
    yield executor
    executor.close()


@pytest.fixture(params=["in this process", "workers"])
def executor(request: pytest.FixtureRequest, workers: WorkerProcesses) -> Executor:
    return workers if request.param == "workers" else InThisProcess()


def logits_of(body: Path, seed: int, _: Advance) -> np.ndarray:
    return train(body, reviews(), LABELS, SETTINGS, seed=seed).predict_logits(reviews())


def test_every_job_ends_once_and_all_its_units_are_told(executor: Executor) -> None:
    told: list[int] = []
    found = dict(executor.completed([partial(squared, number) for number in range(7)], told.append))
    assert found == {number: number**2 for number in range(7)}
    assert sum(told) == 2 * sum(range(7))
    assert list(executor.completed([])) == []


def test_an_error_in_a_job_comes_out_as_it_is_and_the_executor_goes_on(executor: Executor) -> None:
    with pytest.raises(ModelError, match="it is damaged"):
        list(executor.completed([failing, partial(squared, 3)]))
    assert dict(executor.completed([partial(squared, 3)])) == {0: 9}


@pytest.mark.slow
def test_a_worker_trains_the_same_student(workers: WorkerProcesses, tiny_bert: Path) -> None:
    found = dict(workers.completed([partial(logits_of, tiny_bert, seed) for seed in (1, 2)]))
    assert (found[0] != found[1]).any()
    for place, seed in enumerate((1, 2)):
        np.testing.assert_array_equal(found[place], logits_of(tiny_bert, seed, ignore))


def test_a_worker_reaches_no_network(workers: WorkerProcesses) -> None:
    with pytest.raises(NetworkError, match=r"192\.0\.2\.1"):
        list(workers.completed([connecting]))


def test_a_worker_that_dies_is_one_line(workers: WorkerProcesses) -> None:
    with pytest.raises(RunError, match="--workers 1"):
        list(workers.completed([dying]))
    assert dict(workers.completed([partial(squared, 2)])) == {0: 4}


def test_a_script_needs_no_guard_against_being_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from functools import partial
            from s3local.executor import WorkerProcesses

            def double(number, advance):
                return 2 * number

            executor = WorkerProcesses(2)
            print(sorted(executor.completed([partial(double, n) for n in (1, 2)])))
            executor.close()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "[(0, 2), (1, 4)]\n"), done.stderr


@dataclasses.dataclass
class Said(Silent):
    """Keeps what is said."""

    lines: list[str] = dataclasses.field(default_factory=list)

    def say(self, message: str) -> None:
        self.lines.append(message)


def chosen(workers: int | None, cores: int, gigabytes: float | None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the executor says that ``executor_for`` chooses on a machine; "" for this process alone."""
    memory = None if gigabytes is None else int(gigabytes * 2**30)
    monkeypatch.setattr(executor_module, "physical_cores", lambda: cores)
    monkeypatch.setattr(executor_module, "available_memory_bytes", lambda: memory)
    found, said = executor_for(workers), Said()
    for _ in range(2):
        found.prepare({}, unrecorded, said)
    assert isinstance(found, InThisProcess | WorkerProcesses)
    return said.lines


def test_workers_are_as_many_as_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(1, 8, 64, monkeypatch) == [] == chosen(None, 1, 64, monkeypatch) == chosen(3, 1, 64, monkeypatch)
    assert chosen(None, 4, None, monkeypatch) == ["this machine: 4 workers of 1 thread (4 cores)"]
    assert chosen(2, 4, 64, monkeypatch) == ["this machine: 2 workers of 2 threads (4 cores)"]
    assert chosen(8, 4, 64, monkeypatch) == ["this machine: 4 workers of 1 thread (4 cores)"]
    with pytest.raises(ValueError, match="workers"):
        executor_for(0)


def test_missing_memory_takes_away_workers_and_changes_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(None, 4, 6.5, monkeypatch) == ["this machine: 3 workers of 1 thread (there is memory for 3)"]
    assert chosen(2, 4, 2.5, monkeypatch) == ["this machine: 1 worker of 2 threads (there is memory for 1)"]
    said = "trainings run in this process: there is no memory for a worker"
    assert chosen(None, 4, 1, monkeypatch) == [said]
    with pytest.raises(
        RunError, match=r"memory for one worker: it needs about 2\.0 GiB, this machine has 1\.0 GiB free"
    ):
        chosen(2, 4, 1, monkeypatch)


def test_resources_of_each_worker_start_as_memory_allows(
    workers: WorkerProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "available_memory_bytes", lambda: 8 << 30)
    said = Said()
    workers.prepare({}, unrecorded, said)
    pool = workers.pool(Counting, Needs("worker", None, 5 << 30), per_worker=True)
    found = dict(pool.completed([partial(counted, number) for number in range(4)]))
    assert len({its[2] for its in found.values()}) == 1
    assert said.lines == ["this machine: 1 worker of 1 thread (there is memory for 1)"]
    pool.close()
    with pytest.raises(RunError, match="memory for one worker"):
        workers.pool(Counting, Needs("worker", None, 9 << 30), per_worker=True)


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_stopped_program_leaves_no_workers(tmp_path: Path, number: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, time
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
            from functools import partial
            from pathlib import Path
            from s3local.executor import WorkerProcesses

            def long(path, advance):
                Path(path).write_text(str(os.getpid()))
                time.sleep(600)

            list(WorkerProcesses(1).completed([partial(long, "pid")]))
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    pipe = subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env=environment, stderr=pipe, start_new_session=True
    )
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert process.poll() is None
        time.sleep(0.1)
    worker = psutil.Process(int((tmp_path / "pid").read_text()))
    os.kill(process.pid, number)
    assert process.wait() != 0
    assert not psutil.wait_procs([worker], timeout=60)[1]
