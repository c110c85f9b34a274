"""Feed every parser of the program with damaged files for as long as you like; the tests do it for some seconds.

    python benchmarks/fuzz.py --minutes 60 --json benchmarks/results/fuzz.json

Hypothesis makes the files (tests/worlds/parsers.py says how), from a new seed each turn. A parser gives a value or an
error of one line; anything else ends the program with the smallest file that shows it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "worlds")]

from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from parsers import PARSERS  # noqa: E402

EXAMPLES = 1000
"""Files for each parser in a turn."""


def turn(name: str, number: int) -> int:
    """The files that one parser was given."""
    parser, count = PARSERS[name], 0
    with tempfile.TemporaryDirectory() as folder:
        parser.make(Path(folder))

        @seed(number)
        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None, database=None)
        @given(parser.strategy(Path(folder)))
        def law(content: bytes) -> None:
            nonlocal count
            count += 1
            parser.lawful(Path(folder), content)

        law()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="minutes of the processor (60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    files: Counter[str] = Counter()
    end = time.process_time() + 60 * options.minutes
    while time.process_time() < end:
        for name in PARSERS:
            files[name] += turn(name, chance.getrandbits(32))
        print(f"{files.total():,} files", flush=True)
    found = {"minutes": options.minutes, "seed": options.seed, "files": dict(files), "faults": 0}
    print(f"{files.total():,} files for {len(files)} parsers, no fault")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
