"""Kill runs at random moments, again and again, and compare their datasets with that of a run that was never killed.

    python benchmarks/soak.py --kills 100

The teacher is a scripted one, the student a tiny transformer; every run is a process of its own that gets SIGKILL.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "worlds")]

import torch  # noqa: E402
from small_world import make_task, settings, toy_models  # noqa: E402
from tiny_body import write_tiny_bert  # noqa: E402

from s3local.runner.loop import run  # noqa: E402
from s3local.storage import sha256_of  # noqa: E402


def sitting(task: Path, body: Path, folder: Path) -> int:
    """Begin or go on with the run in ``folder`` in a child process; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        from s3local.task.model import Task

        torch.set_num_threads(1)
        chosen = settings(body, rounds=1, rows=16, label_check=False, with_gold=False)
        run(Task.load(task), chosen, folder=folder, models=toy_models(chosen))
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_task(place / "task")
        write_tiny_bert(place / "body")
        started = time.perf_counter()
        _, status = os.waitpid(sitting(place / "task", place / "body", place / "whole"), 0)
        if status:
            sys.exit("the run that was not killed failed")
        seconds = time.perf_counter() - started
        wanted = sha256_of(place / "whole" / "final" / "dataset.jsonl")
        kills = runs = 0
        while kills < arguments.kills:
            runs += 1
            folder = place / f"run-{runs}"
            for attempt in range(1000):
                child = sitting(place / "task", place / "body", folder)
                end = time.perf_counter() + chance.uniform(0, seconds * (0.3 + 0.1 * attempt))
                while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.perf_counter() < end:
                    time.sleep(0.005)
                if ended != (0, 0):
                    if ended[1]:
                        sys.exit(f"a resumed run failed: {folder}")
                    break
                if kills == arguments.kills:
                    if os.waitpid(child, 0)[1]:
                        sys.exit(f"a resumed run failed: {folder}")
                    break
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                kills += 1
            found = sha256_of(folder / "final" / "dataset.jsonl")
            if found != wanted:
                sys.exit(f"after {kills} kills, run {runs} has another dataset: {found}, not {wanted}")
        print(f"{kills} kills in {runs} runs; all {runs} datasets are identical to the one of the run without a kill")


if __name__ == "__main__":
    main()
