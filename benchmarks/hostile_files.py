"""How long it takes to refuse each hostile file of the tests, and how much memory.

    python benchmarks/hostile_files.py --json benchmarks/results/hostile-files.json

Prints a table in Markdown: the file, seconds, the processor's seconds, and the peak memory beyond that before, of the
process or of the child that renders a template.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "worlds")]

from hostile_files import HOSTILE  # noqa: E402
from shared import save  # noqa: E402

from s3local.exceptions import S3LocalError  # noqa: E402


def refused(name: str, folder: Path) -> dict[str, Any]:
    """Open the file in this process: seconds, the processor's seconds, MB beyond those of before, and what is said."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    try:
        HOSTILE[name](folder)
        said = "NOT REFUSED"
    except S3LocalError as exc:
        said = str(exc).replace(str(folder), "…")
    except Exception as exc:
        said = f"TRACEBACK {type(exc).__name__}: {exc}"
    seconds, cpu = time.perf_counter() - started, os.times()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu.user + cpu.system + cpu.children_user + cpu.children_system, 2),
        "mb": round(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024, 1),
        "said": said,
    }


def measured(name: str) -> dict[str, Any]:
    """``refused`` in a process of its own, so that no file profits from another one's memory."""
    reader, writer = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["S3LOCAL_MODELS"] = folder
        child = os.fork()
        if not child:
            os.write(writer, json.dumps(refused(name, Path(folder))).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with open(reader, encoding="utf-8") as stream:  # noqa: PTH123
            found: dict[str, Any] = json.load(stream)
    kind, _, file = name.partition(": ")
    return {"kind": kind, "file": file, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    print("| file | seconds | processor | MB more | message |\n|---|--:|--:|--:|---|")
    files = []
    for name in HOSTILE:
        files.append(row := measured(name))
        said = row["said"].replace("|", "/")[:100]
        print(f"| {name} | {row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['mb']:.0f} | {said} |", flush=True)
    slowest, largest = (max(row[key] for row in files) for key in ("seconds", "mb"))
    print(f"\n{len(files)} files; the slowest took {slowest:.1f} s, the largest {largest:.0f} MB more memory")
    save(options, files)


if __name__ == "__main__":
    main()
