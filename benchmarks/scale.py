"""What workers cost and gain: Ray against this process, one worker of two threads against two of one, and a simulation.

    python benchmarks/scale.py same --json benchmarks/results/scale.json       # the dataset of this process and of Ray
    python benchmarks/scale.py overhead --json benchmarks/results/scale.json   # a run without Ray, and on Ray
    python benchmarks/scale.py threads --json benchmarks/results/scale.json    # generation, judges: 1 x 2 and 2 x 1
    python benchmarks/scale.py compare --json benchmarks/results/scale.json    # 6 methods x 3 seeds, scripted teacher
    python benchmarks/scale.py simulate RUN ... --json benchmarks/results/scale.json   # 10, 100 and 1,000 workers

Each comparison is made in one sitting, one after the other; only ratios count. ``simulate`` takes the shards of
finished runs of the demonstration, by one worker of this machine. Each call replaces its own section of the file.
``threads`` and ``compare`` need ../shared/datasets.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import heapq
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import CHECKOUT, DATASETS

from s3local.comparison.cells import draw_gold
from s3local.comparison.compare import CompareSettings, compare
from s3local.embedder import LazyEmbedder, Vectors
from s3local.evaluation.cross_validation import divide_into_folds
from s3local.executor import Executor, InThisProcess, WorkerProcesses, executor_for
from s3local.placement import Needs
from s3local.progress import Advance, Silent, ignore
from s3local.ray_executor import RayExecutor
from s3local.relabelling.judge import JudgeSettings, train_judges
from s3local.runner.context import RunContext
from s3local.runner.generation import Generation
from s3local.runner.loop import RunResult, run
from s3local.runner.models import TeacherSource, find_models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import kind_of
from s3local.storage import write_text
from s3local.student.training import TrainingSettings
from s3local.synthesis.planning import Reply
from s3local.task.model import load_task
from s3local.task.rows import load_dev, load_rows
from s3local.teacher.engine import EngineSettings
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request, Teacher
from s3local.teacher.recommend import PROMPT
from s3local.weights.store import find_encoder, find_judge

DEMONSTRATION = CHECKOUT / "data" / "support_desk"
METHODS = ("gold", "probe", "judge", "zerogen", "goldgen", "s3")
SHARDS, SHARD_TEXTS, SHARD_TOKENS = 8, 128, 24
GOLD_ROWS = 60
FAILURE_RATE = 1e-5
"""Workers that die in a second: one in 28 hours."""
SLOWEST = 1.5
"""How many times as long the slowest worker of the simulation takes."""


def timed(call: Callable[[], object]) -> float:
    """The seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ratio_of(first: float, second: float) -> dict[str, float]:
    """Two times in seconds, and the second as a multiple of the first."""
    return {"first": round(first, 1), "second": round(second, 1), "ratio": round(second / first, 3)}


# Ray and this process


def short(rows: int) -> RunSettings:
    """Settings of a run whose trainings are short, so that it takes minutes."""
    return RunSettings(
        rows=rows, rounds=1, folds=2, training=TrainingSettings(passes=200), judging=JudgeSettings(passes=100)
    )


def run_of(settings: RunSettings, executor: Executor) -> RunResult:
    """The demonstration in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        return run(load_task(DEMONSTRATION), settings, folder=Path(folder) / "run", executor=executor)


def same(rows: int) -> dict[str, Any]:
    """The SHA-256 of the demonstration's dataset from this process, and from Ray; trainings have one thread in both."""
    torch.set_num_threads(1)
    hashes = dict[str, str]()
    executors: dict[str, Callable[[], Executor]] = {"this process": InThisProcess, "Ray": RayExecutor}
    for name, opener in executors.items():
        with contextlib.closing(opener()) as executor:
            hashes[name] = run_of(short(rows), executor).summary.dataset_sha256
        print(f"{name}: {hashes[name]}", flush=True)
    if len(set(hashes.values())) > 1:
        sys.exit("the datasets differ")
    return {"rows": rows, "sha256": hashes["Ray"]}


def overhead(rows: int) -> dict[str, Any]:
    """The same run, with trainings in processes of this machine, and with one teacher and the trainings on Ray."""
    with contextlib.closing(executor_for(None)) as executor:
        here = timed(lambda: run_of(RunSettings(rows=rows), executor))
    with contextlib.closing(RayExecutor()) as executor:
        there = timed(lambda: run_of(RunSettings(rows=rows), executor))
    return {"rows": rows, "a whole run: without Ray, on Ray": ratio_of(here, there)}


# Threads and workers


def shard(number: int, teacher: Teacher, advance: Advance) -> int:
    """A shard of texts that all have the same prompt; how many tokens it has."""
    requests = [Request(PROMPT, SHARD_TEXTS * number + place, SHARD_TOKENS) for place in range(SHARD_TEXTS)]
    return sum(completion.n_tokens for completion in teacher.generate(requests, advance))


def generation(workers: int, thread_count: int) -> float:
    """The seconds of ``SHARDS`` shards by as many teachers of Ray, without the time to start them."""
    models = find_models(RunSettings(engine=EngineSettings(threads=thread_count)))
    with contextlib.closing(RayExecutor()) as executor:
        executor.prepare(models.files, lambda name, **_: None)
        pool = executor.pool(models.teacher, Needs("teacher", thread_count, models.teacher_memory))
        for _ in range(2):  # until all teachers are open
            list(pool.completed([partial(shard, number) for number in range(workers)]))
        seconds = timed(lambda: list(pool.completed([partial(shard, number) for number in range(SHARDS)])))
        pool.close()
    return seconds


def judges(executor: Executor, rows: int) -> float:
    """The seconds of training four judges of ``GOLD_ROWS`` rows, after one short training that starts the workers."""
    task = load_task(CHECKOUT / "data" / "trec", DATASETS / "trec" / "pool.jsonl")
    gold = draw_gold(load_dev(task), GOLD_ROWS, 0)
    folds = divide_into_folds([row.label for row in gold], 4, 0, [row.text for row in gold])
    encoder, labels = find_judge(), task.label_names
    assert encoder is not None
    call = partial(train_judges, encoder, gold, labels, folds, seeds=range(4), executor=executor)
    call(settings=JudgeSettings(passes=16))
    return timed(lambda: call(settings=JudgeSettings(passes=rows)))


def threads(rows: int) -> dict[str, Any]:
    """Generation and judges: one worker of two threads, and two of one."""
    written = ratio_of(generation(1, 2), generation(2, 1))
    print(f"generation {written}", flush=True)
    torch.set_num_threads(2)
    alone = judges(InThisProcess(), rows)
    with contextlib.closing(WorkerProcesses(2, 1)) as executor:
        trained = ratio_of(alone, judges(executor, rows))
    return {
        "generation: 1 worker x 2 threads, 2 x 1": written,
        "judges: 1 x 2, 2 x 1": {"passes": rows, **trained},
    }


def compared(rows: int) -> dict[str, Any]:
    """``METHODS`` with three seeds on trec, scripted teacher: one worker of two threads, and two of one.

    Trainings are short, so that the whole takes minutes.
    """
    task = load_task(CHECKOUT / "data" / "trec", DATASETS / "trec" / "pool.jsonl", DATASETS / "trec" / "test.jsonl")
    chosen = short(rows)
    settings = CompareSettings(METHODS, (0, 1, 2), (GOLD_ROWS,), run=chosen)
    models = find_models(chosen, teacher=FakeTeacher)
    found = dict[int, float]()
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(WorkerProcesses(count)) as executor:
            call = partial(compare, task, settings, folder=Path(folder) / "c", models=models, executor=executor)
            found[count] = timed(partial(call, side_by_side=True))
        print(f"{count} workers: {found[count]:.0f} s", flush=True)
    return {"rows": rows, "compare, 6 methods x 3 seeds: 1 x 2, 2 x 1": ratio_of(found[1], found[2])}


# Simulation


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a shard costs: ``seconds`` of a worker, one of these; of the driver, the seconds of ``embedding`` its texts
    and of the ``rest`` of their curation; and the bytes of its answer."""

    seconds: Sequence[float]
    embedding: float
    rest: float
    answer: int


@dataclasses.dataclass(frozen=True)
class Simulated:
    """How long a wave took, how busy the driver and the workers were (0 to 1), the workers that died, and the bytes a
    second that the driver received."""

    seconds: float
    driver: float
    workers: float
    deaths: int
    received: float


def simulate(shards: int, workers: int, costs: Costs, seed: int = 0) -> Simulated:
    """A wave of ``shards`` on ``workers``; each takes one of the measured times at random, and then its part of the
    driver's time, in the order of the shards.

    Workers differ in speed by up to a factor of ``SLOWEST``, and die at ``FAILURE_RATE``; then the shard begins again
    on the next free worker.
    """
    chance = random.Random(seed)
    free = [(0.0, number) for number in range(workers)]
    speed = [1 + (SLOWEST - 1) * (number + 0.5) / workers for number in range(workers)]
    ends, busy, deaths = [], 0.0, 0
    for _ in range(shards):
        work = chance.choice(costs.seconds)
        while True:
            at, number = heapq.heappop(free)
            lasts, dies = work * speed[number], chance.expovariate(FAILURE_RATE)
            heapq.heappush(free, (at + min(lasts, dies), number))
            busy += min(lasts, dies)
            if lasts <= dies:
                ends.append(at + lasts)
                break
            deaths += 1
    driver, ready, each = 0.0, 0.0, costs.embedding + costs.rest
    for end in ends:
        ready = max(ready, end)
        driver = max(driver, ready) + each
    return Simulated(driver, shards * each / driver, busy / (workers * driver), deaths, shards * costs.answer / driver)


class TimedEmbedder:
    """The embedded sentence encoder, and the seconds of a processor that it took."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._embedder = LazyEmbedder(find_encoder())

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """See ``Embedder.embed``."""
        started = time.process_time()
        vectors = self._embedder.embed(texts, advance)
        self.seconds += time.process_time() - started
        return vectors


def measured(folders: Sequence[Path]) -> Costs:
    """The costs of a whole shard. Workers' times are those in the events of the runs, scaled from the texts that the
    shard had; small ones, which are slower, are left out. The driver's are measured now, on one core: it filters the
    shards again.
    """
    torch.set_num_threads(1)
    size, seconds, answers = RunSettings().shard_size, list[float](), list[int]()
    task, settings, embedder = load_task(DEMONSTRATION), RunSettings(), TimedEmbedder()
    models = dataclasses.replace(find_models(settings, teacher=FakeTeacher), embedder=embedder)
    dev, test = load_dev(task), load_rows(task.test, task) if task.test else []
    texts, embedding, whole = 0, 0.0, 0.0
    for folder in folders:
        state = RunFolder(folder)
        teacher = TeacherSource(models.teacher, models.style)
        kind = kind_of(task, dev, test, settings)
        context = RunContext(task, kind, dev, settings, state, Silent(), models, teacher)
        generation = Generation(context, [row.fields[task.target_field] for row in test])
        generation.curation.begin([])
        for event in state.events():
            if event["event"] != "shard done":
                continue
            path = folder / event["stage"] / "shards" / f"{event['shard']:04d}.jsonl"
            replies = list(map(Reply.from_row, state.read_rows(str(path.relative_to(folder)))))
            before, started = embedder.seconds, time.process_time()
            generation.curation.filter(generation._candidates(replies, f"{event['stage']}-{event['shard']:04d}"))
            whole += time.process_time() - started
            embedding += embedder.seconds - before
            texts += len(replies)
            if len(replies) >= size / 2:
                seconds.append(float(event["seconds"]) * size / len(replies))
                answers.append(path.stat().st_size * size // len(replies))
    if not seconds:
        sys.exit(f"none of these folders has a shard of at least {size // 2} texts")
    return Costs(seconds, embedding / texts * size, (whole - embedding) / texts * size, round(float(np.mean(answers))))


def simulated(folders: Sequence[Path], rows: int) -> dict[str, Any]:
    """A wave of ``rows`` by 1, 10, 100 and 1,000 workers; and the same where workers embed the texts that they write,
    so that the driver does the rest."""
    costs, shards = measured(folders), rows // RunSettings().shard_size
    mean = float(np.mean(costs.seconds))
    worker = mean * (1 + SLOWEST) / 2
    waves = []
    elsewhere = dataclasses.replace(costs, seconds=[its + costs.embedding for its in costs.seconds], embedding=0.0)
    for where, its in (("driver", costs), ("workers", elsewhere)):
        alone = simulate(shards, 1, its).seconds
        for workers in (1, 10, 100, 1000):
            wave = simulate(shards, workers, its)
            waves.append(
                {
                    "workers": workers,
                    "embedding": where,
                    "hours": round(wave.seconds / 3600, 2),
                    "times as fast": round(alone / wave.seconds, 1),
                    "driver busy": round(wave.driver, 3),
                    "workers busy": round(wave.workers, 3),
                    "died": wave.deaths,
                    "kilobytes a second": round(wave.received / 1000, 1),
                }
            )
    return {
        "rows": rows,
        "shards": shards,
        "seconds of a shard": round(mean, 1),
        "driver's seconds of a shard": {"embedding": round(costs.embedding, 3), "rest": round(costs.rest, 3)},
        "bytes of a shard": costs.answer,
        "workers that keep the driver busy": {
            "driver embeds": round(worker / (costs.embedding + costs.rest)),
            "workers embed": round(worker / costs.rest),
        },
        "waves": waves,
    }


def save(path: Path, section: str, found: Mapping[str, Any]) -> None:
    """Replace one section of the file."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_text(path, json.dumps({**content, section: found}, indent=2) + "\n")


MODES: Mapping[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "same": (same, 60),
    "overhead": (overhead, 300),
    "threads": (threads, 400),
    "compare": (compared, 60),
}
"""What is measured, and its size: synthetic rows, or for the judges of "threads" the texts of a training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MODES, "simulate"])
    parser.add_argument("folders", nargs="*", type=Path, help="finished runs of the demonstration, for simulate")
    sizes = ", ".join(f"{name} {size}" for name, (_, size) in MODES.items())
    parser.add_argument(
        "--rows", type=int, help=f"synthetic rows, for threads the texts of a training [{sizes}, simulate 1,000,000]"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if options.what == "simulate":
        found = simulated(options.folders, options.rows or 1_000_000)
    else:
        measure, size = MODES[options.what]
        found = measure(options.rows or size)
    print(json.dumps(found, indent=2))
    if options.json is not None:
        save(options.json, options.what, found)


if __name__ == "__main__":
    main()
