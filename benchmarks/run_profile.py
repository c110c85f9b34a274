"""The share of teacher, student, evaluation, embedding and everything else in the time of a whole run.

    python benchmarks/run_profile.py                                     the demonstration task
    python benchmarks/run_profile.py --task TASK --rows 300 --json FILE  another task, and the shares as JSON

Each step is timed by the name that it reports its progress with. Everything outside of steps, such as planning, rules,
reading and writing, is everything else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from s3local import RunSettings, Task, run
from s3local.progress import Advance, ignore

ROOT = Path(__file__).resolve().parent.parent
PART_OF = (
    ("the teacher", "teacher"),
    ("judges", "student"),
    ("trains", "student"),
    ("model selection", "student"),
    ("exporting", "student"),
    ("predicting", "evaluation"),
    ("duplicates", "embedding"),
    ("to keep it apart", "embedding"),
    ("gap", "embedding"),
)
"""Words in a step's name, and the part that it belongs to; the first match counts."""


class Stopwatch:
    """A ``Progress`` that adds up the seconds of each kind of step."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        started = time.perf_counter()
        yield ignore
        part = next(part for words, part in PART_OF if words in name)
        self.seconds[part] += time.perf_counter() - started

    def say(self, message: str) -> None:
        print(message, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, default=ROOT / "data" / "support_desk", help="folder of the task")
    parser.add_argument("--rows", type=int, default=1000, help="synthetic rows (default 1000)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run(
            Task.load(arguments.task),
            RunSettings(rows=arguments.rows),
            folder=Path(folder) / "run",
            progress=stopwatch,
        )
        whole = time.perf_counter() - started
    seconds = {**stopwatch.seconds, "everything else": whole - stopwatch.seconds.total()}
    for part, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{part:16} {spent:7.1f} s {spent / whole:6.1%}")
    print(f"{'a whole run':16} {whole:7.1f} s")
    if arguments.json:
        shares = {part: round(spent / whole, 4) for part, spent in seconds.items()}
        result = {"task": arguments.task.name, "rows": arguments.rows, "seconds": round(whole, 1), "shares": shares}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
