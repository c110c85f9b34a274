"""What workers cost and gain: Ray against this process, one worker of two threads against two of one, and a simulation.

    python benchmarks/scale.py overhead           # one run: in processes of this machine, and on Ray
    python benchmarks/scale.py threads            # shards and trainings: 1 worker x 2 threads against 2 x 1
    python benchmarks/scale.py compare            # 6 methods x 3 seeds on trec, scripted teacher: 1 and 2 workers
    python benchmarks/scale.py simulate RUN ...   # 10, 100 and 1,000 workers, from the shards of finished runs

Each comparison is made in one sitting, one after the other; only ratios count.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import heapq
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from s3local.comparison.compare import CompareSettings, compare
from s3local.executor import Executor, WorkerProcesses, executor_for
from s3local.ray_executor import RayExecutor
from s3local.runner.loop import run
from s3local.runner.models import find_models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.student.training import TrainingSettings
from s3local.task.model import Task, load_task
from s3local.teacher.engine import EngineSettings
from s3local.teacher.fake import FakeTeacher

METHODS = ("gold", "probe", "judge", "zerogen", "goldgen", "s3")
FAILURE_RATE = 1e-5
"""Workers that die in a second: one in 28 hours."""


def timed(call: Callable[[], object]) -> float:
    """The seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def seconds_of_run(task: Task, settings: RunSettings, executor: Executor) -> float:
    """The seconds of a whole run in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: run(task, settings, folder=Path(folder) / "run", executor=executor))


def overhead(rows: int) -> None:
    """The same run, with trainings in processes of this machine, and with one teacher and the trainings on Ray."""
    task, settings = load_task(Path("trec")), RunSettings(rows=rows)
    with contextlib.closing(executor_for(None)) as executor:
        here = seconds_of_run(task, settings, executor)
    with contextlib.closing(RayExecutor()) as executor:
        there = seconds_of_run(task, settings, executor)
    print(f"without Ray {here:.0f} s, with Ray {there:.0f} s: {there / here:.3f}")


def threads(rows: int) -> None:
    """Runs with waves of several shards: a teacher of two threads against two teachers of one, in the same Ray."""
    task, found = load_task(Path("trec")), dict[int, float]()
    for count in (2, 1):
        settings = RunSettings(rows=rows, rounds=0, shard_size=64, engine=EngineSettings(threads=count))
        with contextlib.closing(RayExecutor()) as executor:
            found[count] = seconds_of_run(task, settings, executor)
    print(f"1 x 2 threads {found[2]:.0f} s, 2 x 1 {found[1]:.0f} s: {found[1] / found[2]:.2f}")


def compared(rows: int) -> None:
    """A comparison with one and with two workers."""
    task = load_task(Path("trec"))
    chosen = RunSettings(rows=rows, training=TrainingSettings(epochs=3))
    settings = CompareSettings(METHODS, (0, 1, 2), (60,), run=chosen)
    models = find_models(chosen, teacher=FakeTeacher)
    found = dict[int, float]()
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(WorkerProcesses(count)) as executor:
            call = partial(compare, task, settings, folder=Path(folder) / "c", models=models, executor=executor)
            found[count] = timed(partial(call, side_by_side=True))
    print(f"1 worker {found[1]:.0f} s, 2 workers {found[2]:.0f} s: {found[1] / found[2]:.2f} times as fast")


@dataclasses.dataclass(frozen=True)
class Simulated:
    """How long a wave took, how busy the driver and the workers were (0 to 1), and the workers that died."""

    seconds: float
    driver: float
    workers: float
    deaths: int


def simulate(shards: int, workers: int, seconds: Sequence[float], curation: float, seed: int = 0) -> Simulated:
    """A wave of ``shards`` on ``workers``; each takes one of ``seconds`` at random, and ``curation`` of the driver.

    Workers differ in speed by up to a factor of 1.5, and die at ``FAILURE_RATE``; then the shard begins again on the
    next free worker.
    """
    chance = random.Random(seed)
    free = [(0.0, number) for number in range(workers)]
    speed = [chance.uniform(1.0, 1.5) for _ in range(workers)]
    ends, busy, deaths = [], 0.0, 0
    for _ in range(shards):
        work = chance.choice(seconds)
        while True:
            at, number = heapq.heappop(free)
            lasts, dies = work * speed[number], chance.expovariate(FAILURE_RATE)
            heapq.heappush(free, (at + min(lasts, dies), number))
            busy += min(lasts, dies)
            if lasts <= dies:
                ends.append(at + lasts)
                break
            deaths += 1
    driver = ready = 0.0
    for end in ends:  # in the order of the shards
        ready = max(ready, end)
        driver = max(driver, ready) + curation
    return Simulated(driver, shards * curation / driver, busy / (workers * driver), deaths)


def simulated(folders: Sequence[Path], rows: int) -> None:
    """A table for 10, 100 and 1,000 workers, from the times of finished runs with one worker.

    What a round's rows took beyond its shards and the rationales is the driver's time.
    """
    events = [event for folder in folders for event in RunFolder(folder).events()]
    seconds = [float(event["seconds"]) for event in events if event["event"] == "shard done"]
    if not seconds:
        raise SystemExit("none of these folders has a finished shard")
    stages = [(event["stage"], event["seconds"]) for event in events if event["event"] == "stage done"]
    whole = sum(its for stage, its in stages if stage.endswith("/synthesis.json"))
    others = sum(its for stage, its in stages if stage == "rationales.json") + sum(seconds)
    curation = max(0.0, whole - others) / len(seconds)
    shards = rows // RunSettings().shard_size
    alone = simulate(shards, 1, seconds, curation).seconds
    print(f"{shards:,} shards, {sum(seconds) / len(seconds):.1f} s each, {curation:.1f} s of the driver\n")
    print("| workers | hours | times as fast | driver busy | workers busy | died |\n|---|---|---|---|---|---|")
    for workers in (1, 10, 100, 1000):
        its = simulate(shards, workers, seconds, curation)
        print(
            f"| {workers:,} | {its.seconds / 3600:.1f} | {alone / its.seconds:.1f} | {its.driver:.0%} | "
            f"{its.workers:.0%} | {its.deaths} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "threads", "compare", "simulate"])
    parser.add_argument("folders", nargs="*", type=Path, help="finished runs, for simulate")
    parser.add_argument("--rows", type=int, help="synthetic rows [default: 300, for simulate 100,000]")
    arguments = parser.parse_args()
    if arguments.what == "simulate":
        simulated(arguments.folders, arguments.rows or 100_000)
    else:
        {"overhead": overhead, "threads": threads, "compare": compared}[arguments.what](arguments.rows or 300)


if __name__ == "__main__":
    main()
