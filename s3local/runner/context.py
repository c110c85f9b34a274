"""What the stages of a run share: the task and its kind, dev, the settings, the folder, and how a student is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3local.progress import Progress
from s3local.records import Example
from s3local.results import StudentResult, TrainingFigures
from s3local.runner.models import Models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import Texts, TrainingSet
from s3local.task.model import Task

RATIONALES, SYNTHESIS, STUDENT, JUDGES, GUARD = 0, 1, 2, 3, 4
"""What a seed is for: the second part of every seed derived from the run's own."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run's."""

    task: Task
    kind: Texts
    dev: Sequence[Example]
    settings: RunSettings
    state: RunFolder
    progress: Progress
    models: Models

    def seed_for(self, *purpose: int) -> int:
        """The seed of what ``purpose`` names, from the run's own."""
        return int(np.random.SeedSequence([self.settings.seed, *purpose]).generate_state(1)[0])

    def train(self, stage: str, training_set: TrainingSet) -> Any:
        """A fresh student that has learned ``training_set``."""
        settings = self.kind.fitted(self.models.body)
        with self.progress.step(
            f"{stage}: the student trains", settings.passes(len(training_set.rows)), "texts"
        ) as advance:
            return self.kind.train(self.models.body, training_set, settings, advance)

    def judged(
        self, stage: str, student: Any, training_set: TrainingSet, temperature: float | None = None
    ) -> StudentResult:
        """Export the student to the stage's folder, and let the exported model predict dev; its figures.

        Writes the predictions and errors of dev as well. ``temperature`` None: fitted on dev, which the student has
        not seen then.
        """
        rows = training_set.rows
        folder = self.state.path / stage / "student"
        with self.progress.step(f"{stage}: exporting to ONNX", None, "steps"):
            temperature, report = self.kind.export(student, folder, temperature)
        judged = self.kind.judge(folder, self.dev)
        self.state.write_rows(f"{stage}/predictions.jsonl", judged.predictions)
        self.state.write_rows(f"{stage}/errors.jsonl", (error.to_row() for error in judged.errors))
        settings = student.settings
        training = TrainingFigures(
            rows=len(rows),
            rows_per_label=dict(Counter(row.label for row in rows)),
            seed=training_set.seed,
            learning_rate=settings.learning_rate,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            max_length=settings.max_length,
            contrast_passes=settings.contrast_passes,
            loss=student.loss,
            seconds=round(student.seconds, 3),
        )
        return StudentResult(
            stage=stage,
            training=training,
            dev=judged.metrics,
            errors=len(judged.errors),
            temperature=temperature,
            export=report,
        )
