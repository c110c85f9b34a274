"""100,000 unlabelled rows: minutes, memory, and the same rows after a kill.

    python benchmarks/unlabelled.py --json benchmarks/results/unlabelled.json      some 10 minutes

A file of unlabelled rows is made from a dataset's pool: recombined halves of its texts, repeated rows, copies of test
rows, rows of other datasets, and broken ones. Two rounds of a run take rows from it, with the real embedder and judges;
no teacher is asked and no student is trained. The same is done again in a process that is killed (SIGKILL) at random
moments and started again each time. Both must take the same rows, by their SHA-256. Memory is the resident one of the
process: when the judges are ready and no row is read, and its peak from then on, while the judges read rows. Linux
tells it. Needs ../shared/datasets.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared import CHECKOUT, DATASETS

from s3local.allocation import divide_rows
from s3local.comparison.cells import draw_gold
from s3local.embedder import CachedEmbedder
from s3local.executor import executor_for
from s3local.progress import Silent
from s3local.records import read_jsonl, write_jsonl
from s3local.runner.context import RunContext, divide_dev
from s3local.runner.generation import Curation
from s3local.runner.models import TeacherSource, configuration, find_models
from s3local.runner.relabel import Relabeller
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import kind_of
from s3local.runner.unlabelled import UnlabelledRows
from s3local.runner.unlabelled_pool import MARKER
from s3local.task.model import load_task
from s3local.task.rows import load_dev, load_rows
from s3local.teacher.fake import FakeTeacher

OTHERS = ("trec", "ag_news", "imdb")
TAKEN = ("round-0/unlabelled.jsonl", "round-1/unlabelled.jsonl")


def made_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """``--unlabelled`` rows, one at a time."""
    chance = random.Random(0)

    def texts(name: str, file: str) -> list[str]:
        return [row["text"] for _, row in read_jsonl(options.datasets / name / file)]

    pool, test = texts(options.dataset, "pool.jsonl"), texts(options.dataset, "test.jsonl")
    foreign = [text for name in OTHERS if name != options.dataset for text in texts(name, "pool.jsonl")]
    earlier: list[str] = []
    for _ in range(options.unlabelled):
        first, second = chance.choice(pool).split(), chance.choice(pool).split()
        text = " ".join([*first[: len(first) // 2 + 1], *second[len(second) // 2 :]])
        draw = chance.random()
        if draw < 0.15 and earlier:
            text = chance.choice(earlier)
        elif draw < 0.2:
            text = chance.choice(test)
        elif draw < 0.3:
            text = chance.choice(foreign)
        elif draw < 0.33:
            text = text * 40
        elif draw < 0.35:
            text = "".join(chr(0x430 + ord(letter) % 32) if letter.isalpha() else letter for letter in text)
        if len(earlier) < 1000:
            earlier.append(text)
        yield {"text": text}


def take(options: argparse.Namespace, folder: Path) -> None:
    """Take the rows of two rounds into ``folder``/run, or go on with it; add a line to ``folder``/sittings.jsonl."""
    started = time.perf_counter()
    task = load_task(folder / "task")
    settings = RunSettings(rows=options.take, generate=False)
    models = find_models(settings, teacher=lambda: FakeTeacher(lambda _: ""))
    config = configuration(task, settings, models)
    models = dataclasses.replace(models, embedder=CachedEmbedder(models.embedder))
    dev = load_dev(task)
    assert task.test is not None
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(RunFolder.open(folder / "run", config))
        executor = stack.enter_context(contextlib.closing(executor_for(1)))
        kind, teacher = kind_of(task, dev, [], settings), TeacherSource(models.teacher, models.style, executor)
        context = RunContext(task, kind, dev, settings, state, Silent(), models, teacher, executor)
        relabeller = Relabeller(context, divide_dev(task, dev, settings))
        if not relabeller.prepare().applied:
            sys.exit("the judges do not explain dev better than chance; choose another dataset or more gold rows")
        before = memory_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        curation = Curation(context, [row.text for row in load_rows(task.test, task)])
        rows = UnlabelledRows(context, relabeller, curation)
        quotas = divide_rows(options.take // 2, dict.fromkeys(task.label_names, 1.0))
        first, _ = rows.take(0, quotas, [], [])
        relabeller.read("round-0", first)
        second, _ = rows.take(1, quotas, dev[:: max(1, len(dev) // 10)], first)
        relabeller.read("round-1", second)
    line = {"seconds": round(time.perf_counter() - started, 1), "before_mib": before, "peak_mib": memory_mib("VmHWM")}
    with (folder / "sittings.jsonl").open("a") as stream:
        stream.write(json.dumps({**line, "taken": len(first) + len(second)}) + "\n")


def memory_mib(name: str) -> int:
    """A figure of this process's memory: VmRSS, what is resident now, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Write the task with its gold, test and unlabelled rows."""
    source = options.datasets / options.dataset
    whole = load_task(CHECKOUT / "data" / options.dataset, source / "pool.jsonl", source / "test.jsonl")
    task = folder / "task"
    task.mkdir(parents=True)
    (task / "task.yaml").write_bytes((CHECKOUT / "data" / options.dataset / "task.yaml").read_bytes())
    write_jsonl(task / "dev.jsonl", (row.to_row() for row in draw_gold(load_dev(whole), options.gold, 0)))
    (task / "test.jsonl").write_bytes((source / "test.jsonl").read_bytes())
    write_jsonl(task / "unlabelled.jsonl", made_rows(options))


def child(options: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    arguments = [str(Path(__file__).resolve()), options.dataset, "--child", str(folder), "--take", str(options.take)]
    return subprocess.Popen([sys.executable, *arguments])


def taken_sha256(folder: Path) -> str:
    files = [*TAKEN, "round-0/judged.jsonl", "round-1/judged.jsonl"]
    return hashlib.sha256(b"".join((folder / "run" / name).read_bytes() for name in files)).hexdigest()


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run both, and compare."""
    for name in ("whole", "killed"):
        prepare(options, work / name)
    if child(options, work / "whole").wait():
        sys.exit("the first run failed")
    (line,) = [row for _, row in read_jsonl(work / "whole" / "sittings.jsonl")]
    pool = json.loads((work / "whole" / "run" / MARKER).read_text())
    print(f"{options.unlabelled:,} rows: {line}", flush=True)
    chance, kills = random.Random(options.seed), []
    for number in range(options.kills):
        process = child(options, work / "killed")
        wait = chance.uniform(0.1, 0.9) * line["seconds"] / (1 if number == 0 else 2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        if process.poll() is None:
            process.kill()
            process.wait()
            kills.append(round(wait, 1))
            print(f"killed after {wait:.0f} s", flush=True)
    if child(options, work / "killed").wait():
        sys.exit("the run that was killed did not go on")
    resumed = [row for _, row in read_jsonl(work / "killed" / "sittings.jsonl")][-1]
    return {
        **line,
        "pool": pool,
        "file_mib": round((work / "whole" / "task" / "unlabelled.jsonl").stat().st_size / 2**20, 1),
        "killed_after_seconds": kills,
        "last_sitting": resumed,
        "sha256": taken_sha256(work / "whole"),
        "same_after_kill": taken_sha256(work / "whole") == taken_sha256(work / "killed"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", choices=("trec", "sst2", "ag_news", "imdb"), default="sst2")
    parser.add_argument("--datasets", type=Path, default=DATASETS)
    parser.add_argument("--unlabelled", type=int, default=100_000, help="rows of the file (100000)")
    parser.add_argument("--take", type=int, default=1000, help="rows to take, over two rounds (1000)")
    parser.add_argument("--gold", type=int, default=60, help="gold rows (60)")
    parser.add_argument("--kills", type=int, default=1, help="how often the second run is killed (1)")
    parser.add_argument("--seed", type=int, default=0, help="for the moments of the kills (0)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        take(options, options.child)
        return
    if not options.datasets.is_dir():
        parser.error(f"{options.datasets} is not here; the benchmark data belongs there")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    print(json.dumps(found, indent=1))
    if options.json is not None:
        chosen = {key: value for key, value in vars(options).items() if not isinstance(value, Path) and key != "child"}
        options.json.write_text(json.dumps({"options": chosen, "measured": found}, indent=1) + "\n")
    if not found["same_after_kill"]:
        sys.exit("the killed run took other rows")


if __name__ == "__main__":
    main()
