"""One finished toy run for all tests that only read it, and what was trained on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_world import Watched, make_task, settings, toy_models, write

from s3local.runner import model_selection, task_kinds
from s3local.runner.loop import RunResult, run
from s3local.runner.task_kinds import TrainingSet
from s3local.student.training import Trained
from s3local.task.model import Task
from s3local.teacher.fake import FakeTeacher


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_task(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def watched(task: Task, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A run with rounds, label check, both final students and model selection, that was never interrupted."""
    seen = Watched(None)  # type: ignore[arg-type]
    train, train_briefly, average = task_kinds.train, model_selection._train_briefly, model_selection.averaged

    def opened() -> FakeTeacher:
        seen.teachers.append(FakeTeacher(write))
        return seen.teachers[-1]

    def watched_train(*args: Any, **kwargs: Any) -> Any:
        seen.open_while_training.append(sum(not teacher.closed for teacher in seen.teachers))
        return train(*args, **kwargs)

    def watched_briefly(kind: Any, body: Path, rows: TrainingSet, advance: Any) -> Trained:
        seen.fold_rows.append(rows)
        return train_briefly(kind, body, rows, advance)

    def watched_average(first: Trained, second: Trained, share: float) -> Trained:
        seen.averages.append((first.n_rows, second.n_rows, share))
        return average(first, second, share)

    chosen = settings(tiny_bert, model_selection=True, both_finals=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_kinds, "train", watched_train)
        patch.setattr(model_selection, "_train_briefly", watched_briefly)
        patch.setattr(model_selection, "averaged", watched_average)
        folder = tmp_path_factory.mktemp("finished") / "run"
        seen.result = run(task, chosen, folder=folder, models=toy_models(chosen, opened))
    yield seen


@pytest.fixture(scope="session")
def finished(watched: Watched) -> RunResult:
    return watched.result
