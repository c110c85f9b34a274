"""How long it takes to refuse each hostile file of the tests, and how much memory.

    python benchmarks/hostile_files.py

Prints a table in Markdown: the file, seconds, and the growth of the process's peak memory.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "worlds")]

from hostile_files import HOSTILE  # noqa: E402

from s3local.exceptions import S3LocalError  # noqa: E402


def refused(name: str, folder: Path) -> tuple[float, str]:
    """Open the file in this process; the seconds it takes, and what is said."""
    started = time.perf_counter()
    try:
        HOSTILE[name](folder)
        said = "NOT REFUSED"
    except S3LocalError as exc:
        said = str(exc).replace(str(folder), "…")
    except Exception as exc:
        said = f"TRACEBACK {type(exc).__name__}: {exc}"
    return time.perf_counter() - started, said


def main() -> None:
    slowest = largest = 0.0
    print("| file | seconds | MB more | message |\n|---|--:|--:|---|")
    for name in HOSTILE:
        reader, writer = os.pipe()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["S3LOCAL_MODELS"] = folder
            child = os.fork()
            if not child:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                seconds, said = refused(name, Path(folder))
                more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
                os.write(writer, f"{seconds}\t{more}\t{said[:100]}".encode())
                os._exit(0)
            os.waitpid(child, 0)
            os.close(writer)
            seconds, more, said = os.read(reader, 10_000).decode(errors="replace").split("\t")
            os.close(reader)
        slowest, largest = max(slowest, float(seconds)), max(largest, float(more))
        print(f"| {name} | {float(seconds):.2f} | {float(more):.0f} | {said.replace('|', '/')} |", flush=True)
    print(f"\n{len(HOSTILE)} files; the slowest took {slowest:.1f} s, the largest {largest:.0f} MB more memory")


if __name__ == "__main__":
    main()
