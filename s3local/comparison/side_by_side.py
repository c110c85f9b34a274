"""Cells of a comparison side by side: each worker computes some of them, with an executor of its own process.

A job is a run with all cells that are read from it, or a baseline's cell. On one machine the workers write into the
comparison's folder, where they share the teacher's calls. On several, each has a folder of its own; the driver gets the
files of each finished job and writes them, the cells' markers last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path

from s3local.comparison.cells import CELL_FILE, Cell, CellComputer, Comparison
from s3local.comparison.methods import METHODS
from s3local.executor import Executor, InThisProcess
from s3local.placement import WORKER_BYTES, Needs
from s3local.progress import Advance, SignsOfLife
from s3local.results import CellResult
from s3local.runner.state import RunFolder
from s3local.storage import atomic_write

KEPT = ("cells", "runs")
"""The folders of a comparison whose files the driver gets."""


class CellWorker:
    """What a worker keeps from job to job: its folder, and what several cells need.

    ``folder`` None makes a temporary one.
    """

    def __init__(self, comparison: Comparison, folder: Path | None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory()
            folder = Path(self._temporary.name)
        self._folder = folder
        self._sent: set[Path] = set()
        self.computer = CellComputer(comparison, RunFolder(self._folder), InThisProcess())

    def new_files(self) -> dict[str, bytes]:
        """The files since the last call that the driver is to write, by their paths in the comparison's folder; none
        where this is its folder already."""
        if self._temporary is None:
            return {}
        paths = [path for name in KEPT for path in sorted((self._folder / name).rglob("*"))]
        new = [path for path in paths if path.is_file() and not path.name.startswith(".") and path not in self._sent]
        self._sent |= set(new)
        return {path.relative_to(self._folder).as_posix(): path.read_bytes() for path in new}

    def close(self) -> None:
        """Remove a temporary folder."""
        if self._temporary is not None:
            self._temporary.cleanup()


def compute_side_by_side(
    cells: Sequence[Cell], comparison: Comparison, state: RunFolder, executor: Executor
) -> Generator[dict[Cell, CellResult], None, None]:
    """Compute ``cells`` on the workers of ``executor``; the results of each job when it ends."""
    jobs = divided(cells)
    opener = partial(CellWorker, comparison, state.path if executor.shares_disk else None)
    memory = comparison.models.teacher_memory + WORKER_BYTES
    needs = Needs("worker", comparison.settings.engine.threads, memory)
    pool = executor.pool(opener, needs, per_worker=True)
    try:
        for _, (results, files) in pool.completed([partial(_compute, job) for job in jobs]):
            for name in sorted(files, key=lambda name: name.endswith(f"/{CELL_FILE}")):
                with atomic_write(state.path / name, "wb") as stream:
                    stream.write(files[name])
            if files:
                for cell in results:
                    state.event("cell done", cell=str(cell))
            yield results
    finally:
        pool.close()


def divided(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each job: those that are read from the same run are in one."""
    jobs: dict[tuple[str, int | None, int], list[Cell]] = {}
    for cell in cells:
        run = METHODS[cell.method].run
        jobs.setdefault((f"run {run}" if run else cell.method, cell.seed, cell.gold_rows), []).append(cell)
    return list(jobs.values())


def _compute(
    cells: Sequence[Cell], worker: CellWorker, advance: Advance
) -> tuple[dict[Cell, CellResult], Mapping[str, bytes]]:
    results = {cell: worker.computer.compute(cell, SignsOfLife(advance)) for cell in cells}
    return results, worker.new_files()
