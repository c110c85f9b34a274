"""Break runs off at random moments, again and again, and compare their datasets with that of an unbroken run.

    python benchmarks/soak.py --kills 100 --json benchmarks/results/soak.json
    python benchmarks/soak.py --kills 10 --teacher embedded --json benchmarks/results/soak.json
    python benchmarks/soak.py --power-cuts --json benchmarks/results/soak.json

The scripted teacher has a tiny transformer for its student, so that a run takes seconds. The embedded one is asked in
`s3local run support_desk` with judges, rounds, rationales and model selection. Every run is a process of its own that
gets SIGKILL. With --power-cuts, the power fails at each sync and each renaming of a run with the scripted teacher, one
run each: the run goes on with what was synced. The JSON has one entry for each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "worlds")]

import pytest  # noqa: E402
import torch  # noqa: E402
from lossy_disk import LossyDisk  # noqa: E402
from small_world import make_task, settings, toy_models  # noqa: E402
from tiny_body import write_tiny_bert  # noqa: E402

from s3local.runner.loop import run  # noqa: E402
from s3local.storage import sha256_of  # noqa: E402
from s3local.task.model import Task  # noqa: E402

Begin = Callable[[Path], int]
"""Begins a run in a folder, or goes on with it, in a child process, and returns its process id."""

REAL = ("support_desk", "--rows", "24", "--rounds", "1", "--quiet")
"""The run with the embedded teacher."""


def scripted(place: Path) -> Begin:
    """Runs with the scripted teacher."""
    make_task(place / "task")
    write_tiny_bert(place / "body")

    def begin(folder: Path) -> int:
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            scripted_run(place, folder)
            status = 0
        finally:
            os._exit(status)

    return begin


def scripted_run(place: Path, folder: Path) -> None:
    """A run with the scripted teacher, of the task and with the model in ``place``, in this process."""
    torch.set_num_threads(1)
    chosen = settings(place / "body", rounds=1, rows=16, label_check=False, with_gold=False)
    run(Task.load(place / "task"), chosen, folder=folder, models=toy_models(chosen))


def embedded(place: Path) -> Begin:
    """Runs with the embedded teacher."""

    def begin(folder: Path) -> int:
        command = [sys.executable, "-m", "s3local.cli.main", "run", *REAL, "--out", str(folder)]
        with (place / "log").open("a") as log:
            return subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log).pid

    return begin


def stage_of(folder: Path) -> str:
    """The stage that a killed run was in."""
    file = folder / "events.jsonl"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    stages = [line.split('"stage": "')[1].split('"')[0] for line in lines if '"event": "stage begun"' in line]
    return stages[-1] if stages else "before the first stage"


def ended_before(child: int, end: float) -> bool:
    """Whether the child ended by itself before the time ``end``. Ends the program if it failed."""
    while time.perf_counter() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                sys.exit("a run that was begun or resumed failed")
            return True
        time.sleep(0.005)
    return False


def soak(begin: Begin, place: Path, kills: int, chance: random.Random) -> dict[str, object]:
    """Kill runs ``kills`` times. Ends the program if a dataset differs from that of the run without a kill."""
    started = time.perf_counter()
    ended_before(begin(place / "whole"), float("inf"))
    seconds = time.perf_counter() - started
    wanted = sha256_of(place / "whole" / "final" / "dataset.jsonl")
    rows = (place / "whole" / "final" / "dataset.jsonl").read_bytes().count(b"\n")
    stages: Counter[str] = Counter()
    runs = 0
    while stages.total() < kills:
        runs += 1
        folder = place / f"run-{runs}"
        attempt = 0
        while True:
            child = begin(folder)
            longest = seconds * (0.3 + 0.1 * attempt) if stages.total() < kills else float("inf")
            if ended_before(child, time.perf_counter() + chance.random() * longest):
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            stages[stage_of(folder)] += 1
            attempt += 1
        found = sha256_of(folder / "final" / "dataset.jsonl")
        if found != wanted:
            sys.exit(f"after {stages.total()} kills, run {runs} has another dataset: {found}, not {wanted}")
    return {
        "kills": stages.total(),
        "runs": runs,
        "identical": runs,
        "rows": rows,
        "seconds_of_a_run": round(seconds, 1),
        "stages": dict(sorted(stages.items())),
    }


def power_cuts(place: Path) -> dict[str, object]:
    """Cut the power at every moment of a run at which the disk changes for good. Ends the program if what follows has
    another dataset."""
    make_task(place / "task")
    write_tiny_bert(place / "body")
    scripted_run(place, place / "whole")
    wanted = sha256_of(place / "whole" / "final" / "dataset.jsonl")
    for moment in itertools.count():
        root, after = place / "before", place / "after"
        root.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            disk = LossyDisk(root, patch)
            disk.cut_after = moment
            try:
                scripted_run(place, root / "run")
                whole = True
            except KeyboardInterrupt:
                whole = False
        disk.after_the_cut(after)
        scripted_run(place, after / "run")
        found = sha256_of(after / "run" / "final" / "dataset.jsonl")
        if found != wanted:
            sys.exit(f"after a power cut at moment {moment}, the dataset is another one: {found}, not {wanted}")
        shutil.rmtree(root)
        shutil.rmtree(after)
        if whole:
            return {"moments": moment, "identical": moment}
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--teacher", choices=("scripted", "embedded"), default="scripted")
    parser.add_argument("--power-cuts", action="store_true", help="cut the power in place of killing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the figures to, beside those of the other teacher")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if options.power_cuts:
            key, found = "power cuts", power_cuts(place)
            said = f"the power was cut at {found['moments']} moments; every run went on to the same dataset"
        else:
            begin = (scripted if options.teacher == "scripted" else embedded)(place)
            key, found = options.teacher, soak(begin, place, options.kills, random.Random(options.seed))
            said = f"{found['kills']} kills in {found['runs']} runs; all datasets are that of the run without a kill"
    if options.json is not None:
        known = json.loads(options.json.read_text(encoding="utf-8")) if options.json.is_file() else {}
        known[key] = {"seed": options.seed, **found}
        options.json.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", encoding="utf-8")
    print(said)


if __name__ == "__main__":
    main()
