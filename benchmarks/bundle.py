"""Carry the program to another machine, as far as one machine can show it: size and seconds of each step.

    python benchmarks/bundle.py --json benchmarks/results/bundle.json

`s3local bundle create` makes an archive with the network. Everything after that happens in a network namespace without
a usable interface, by a Python without packages and with no compiler on the path: the archive verifies and installs
itself, and what it installed does a run with every stage. Needs Linux with user namespaces, and some GB in --folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROWS = 60


def seconds_of(command: Sequence[str | Path], *, network: bool = False) -> float:
    """The seconds of a command. Ends the program with what the command said if it fails."""
    whole = [str(part) for part in command]
    environment = dict(os.environ)
    if not network:
        whole = [shutil.which("unshare") or "unshare", "-rn", *whole]
        environment = {"PATH": str(Path(sys.base_prefix) / "bin"), "HOME": os.environ["HOME"]}
    started = time.perf_counter()
    done = subprocess.run(whole, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(whole)}\nended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return round(time.perf_counter() - started, 1)


def megabytes(path: Path) -> int:
    """The size of a file or of all files in a folder, without links."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return round(sum(file.stat().st_size for file in files) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the archive and the installation are made (a temporary one)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    python = Path(sys.base_prefix) / "bin" / "python3"
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        archive, installed, run = (Path(name) / part for part in ("carry.zip", "installed", "run"))
        program = installed / "bin" / "s3local"
        steps: dict[str, list[str | Path]] = {
            "verify": [python, archive, "verify"],
            "install": [python, archive, "install", installed],
            "check": [program, "check", "support_desk"],
            f"run, {ROWS} rows": [program, "run", "support_desk", "--rows", str(ROWS), "--out", run, "--quiet"],
            "report": [program, "report", run],
        }
        create: list[str | Path] = [sys.executable, "-m", "s3local.cli.main", "bundle", "create", archive]
        found: dict[str, object] = {"seconds": {"create": seconds_of(create, network=True)}}
        found["archive_mb"] = megabytes(archive)
        for step, command in steps.items():
            found["seconds"][step] = seconds_of(command)  # type: ignore[index]
            print(step, found["seconds"][step], flush=True)  # type: ignore[index]
        found["installed_mb"] = megabytes(installed)
        found["of_it_models_mb"] = megabytes(installed / "share" / "s3local" / "models")
    print(json.dumps(found, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
