"""The first answer: a student of dev alone, cross-validated and exported in about a minute, without a teacher.

It is the gold-only student that a run with the same rows, seed and models compares its own with.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from s3local import offline
from s3local.evaluation.calibration import fit_temperature
from s3local.evaluation.metrics import share_interval
from s3local.executor import Executor, unrecorded
from s3local.progress import Advance, Progress
from s3local.records import Example
from s3local.results import QUICK_FILE, QuickResult, write_result
from s3local.runner.context import MODEL_SELECTION, STUDENT, divide_dev
from s3local.runner.settings import RunSettings
from s3local.runner.task_kinds import Scores, Texts, TrainingSet, kind_of
from s3local.seeds import derive_seed
from s3local.storage import sha256_of_folder
from s3local.student.training import StudentSettings, Trained
from s3local.task.model import Task
from s3local.task.rows import load_dev, load_rows


def train_quickly(
    task: Task, settings: RunSettings, body: Path, folder: Path, executor: Executor, progress: Progress
) -> QuickResult:
    """Train the gold-only student on ``body``, score it by cross-validation, and export it to ``folder``.

    The folds and the final training run side by side in ``executor``. Of ``settings``, those of trainings and folds
    and the seed count. The folder, with the figures in quick.json, appears complete or not at all, and replaces an
    earlier exported student.
    Raises as ``run`` does.
    """
    offline.engage()
    started = time.perf_counter()
    dev = load_dev(task)
    test = load_rows(task.test, task) if task.test else []
    kind = kind_of(task, dev, test, settings)
    folds = divide_dev(task, dev, settings)
    whole = kind.training_settings(body)
    brief = dataclasses.replace(whole, brief=True)
    final = TrainingSet(dev, derive_seed(settings.seed, STUDENT, settings.rounds + 1))
    training = partial(_train, kind, body, final, whole)
    scoring: list[Callable[[Advance], Scores]] = []
    passes, places = final.passes(whole), list[int]()
    for fold in range(folds.count):
        rows = TrainingSet(folds.outside(fold, dev), derive_seed(settings.seed, MODEL_SELECTION, fold))
        scoring.append(partial(_score, kind, body, rows, brief, folds.inside(fold, dev)))
        places += folds.inside(fold, range(len(dev)))
        passes += rows.passes(brief)
    executor.prepare({body: sha256_of_folder(body)}, unrecorded, progress)
    with progress.step("the student trains, and is cross-validated", passes, "texts") as advance:
        jobs: list[Callable[[Advance], Trained | Scores]] = [training, *scoring]
        done = dict(executor.completed(jobs, advance))
    student, scores = done[0], [its for _, its in sorted(done.items()) if isinstance(its, Scores)]
    assert isinstance(student, Trained)
    values = np.concatenate([its.values for its in scores]) if scores else np.empty(0)
    with progress.step("exporting to ONNX", None, "steps"):
        temperature, report = kind.export(student, folder, _temperature(task, [dev[place] for place in places], scores))
    metrics = None
    if test:
        with progress.step("predicting test", len(test), "rows") as advance:
            metrics = kind.evaluate(folder, test, advance).metrics
    score = float(values.mean()) if len(values) else None
    low, high = share_interval(score, len(values)) if score is not None else (None, None)
    result = QuickResult(
        task=task.name,
        rows=len(dev),
        scored=len(values),
        score=score,
        low=low,
        high=high,
        test=metrics,
        temperature=temperature,
        export=report,
        seconds=round(time.perf_counter() - started, 3),
    )
    write_result(folder / QUICK_FILE, result)
    return result


def _train(kind: Texts, body: Path, rows: TrainingSet, settings: StudentSettings, advance: Advance) -> Trained:
    return kind.train(body, rows, settings, advance)


def _score(
    kind: Texts,
    body: Path,
    rows: TrainingSet,
    settings: StudentSettings,
    held_out: Sequence[Example],
    advance: Advance,
) -> Scores:
    return kind.scores(kind.train(body, rows, settings, advance), held_out)


def _temperature(task: Task, rows: Sequence[Example], scores: Sequence[Scores]) -> float:
    """The temperature that fits the held-out logits; 1 where there are none."""
    logits = [its.logits for its in scores if its.logits is not None]
    if not logits:
        return 1.0
    return fit_temperature(np.concatenate(logits), [task.label_names.index(row.label) for row in rows])
