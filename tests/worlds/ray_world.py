"""Whole runs and comparisons of seconds for tests of workers, which import this module too."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from small_world import make_task, settings, toy_models, write
from toys import SETTINGS

from s3local.comparison.compare import CompareSettings, compare
from s3local.executor import Executor
from s3local.results import CellResult
from s3local.runner.loop import RunResult, run
from s3local.teacher.engine import EngineSettings
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request, Teacher

LAST_TEXT = 16
"""Of the first teacher: it writes 12 texts for the rationales, so this one is in its first shard."""


def teacher_of() -> FakeTeacher:
    return FakeTeacher(write)


@dataclasses.dataclass
class DiesOnce:
    """Opens the toy teacher, whose process ends with ``LAST_TEXT``, once: ``mark`` is there afterwards."""

    mark: Path
    texts: int = 0

    def __call__(self) -> FakeTeacher:
        return FakeTeacher(self._write)

    def _write(self, request: Request) -> str:
        self.texts += 1
        if self.texts == LAST_TEXT:
            try:
                self.mark.touch(exist_ok=False)
            except FileExistsError:
                return write(request)
            os._exit(1)
        return write(request)


def start(
    body: Path,
    folder: Path,
    executor: Executor,
    teacher: Callable[[], Teacher] = teacher_of,
    threads: int | None = None,
) -> RunResult:
    """A run whose first round is a wave of three shards, with judges, folds and final students."""
    engine = EngineSettings(threads=threads)
    chosen = settings(body, rows=40, rounds=1, seed_share=0.6, model_selection=True, engine=engine)
    task = make_task(folder.parent / "task")
    return run(task, chosen, folder=folder, models=toy_models(chosen, teacher), executor=executor)


def compared(body: Path, folder: Path, executor: Executor, *, side_by_side: bool = False) -> list[CellResult]:
    """The cells, without their times, of a baseline and two methods that share a run."""
    training = dataclasses.replace(SETTINGS, passes=64)
    run_settings = settings(body, rows=16, training=training, engine=EngineSettings(threads=1))
    chosen = CompareSettings(("gold", "s3", "s3+gold"), (0, 1), (12,), run=run_settings)
    task, models = make_task(folder.parent / "task"), toy_models(run_settings, teacher_of)
    result = compare(task, chosen, folder=folder, models=models, executor=executor, side_by_side=side_by_side)
    return [dataclasses.replace(cell, seconds=0) for cell in result.summary.cells]
