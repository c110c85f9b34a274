"""What all stages of a run use: the task and its dev rows, the settings, the folder, the models, and how a student is
trained and exported."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from s3local.curation.privacy import Pseudonymiser, find_personal_data
from s3local.evaluation.cross_validation import NO_FOLD, divide_into_folds
from s3local.executor import Executor, InThisProcess
from s3local.progress import Progress
from s3local.records import Example
from s3local.results import StudentResult, TrainingFigures
from s3local.runner.models import Models, TeacherSource
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import Texts, TrainingSet
from s3local.seeds import derive_seed
from s3local.student.training import Trained
from s3local.synthesis.prompts import Prompts, token_cap
from s3local.task.model import Task
from s3local.teacher.protocol import Teacher
from s3local.text import normal_form
from s3local.weights.manifest import PromptStyle

RATIONALES, SYNTHESIS, STUDENT, JUDGES, MODEL_SELECTION, UNLABELLED_ROWS = 0, 1, 2, 3, 4, 5
"""What a seed is for: the second part of every seed that is derived from the run's own."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Folds:
    """Dev divided for cross-validation.

    ``of_row`` (n_dev,) is the fold of each row, from 0, or ``NO_FOLD``. Each method takes a sequence that is parallel
    to dev.
    """

    of_row: NDArray[np.int64]

    @property
    def count(self) -> int:
        """The number of folds; 0 if dev cannot be divided."""
        return int(self.of_row.max()) + 1

    def inside(self, fold: int, items: Sequence[T]) -> list[T]:
        """The items of a fold's rows."""
        return [item for item, its in zip(items, self.of_row, strict=True) if its == fold]

    def outside(self, fold: int, items: Sequence[T]) -> list[T]:
        """The items of all other rows."""
        return [item for item, its in zip(items, self.of_row, strict=True) if its != fold]

    def divided(self, items: Sequence[T]) -> list[T]:
        """The items of the rows that are in a fold."""
        return [item for item, its in zip(items, self.of_row, strict=True) if its != NO_FOLD]


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run. ``kind`` holds what differs between kinds of task; ``teacher`` is loaded when a stage opens it,
    ``executor`` runs trainings side by side."""

    task: Task
    kind: Texts
    dev: Sequence[Example]
    settings: RunSettings
    state: RunFolder
    progress: Progress
    models: Models
    teacher: TeacherSource
    executor: Executor = field(default_factory=InThisProcess)

    def seed_for(self, *purpose: int) -> int:
        """The seed for ``purpose``, derived from the run's own."""
        return derive_seed(self.settings.seed, *purpose)

    @property
    def target_texts(self) -> list[str]:
        """The texts of dev in the field that the teacher writes."""
        return [row.fields[self.task.target_field] for row in self.dev]

    def redacted(self, rows: Sequence[Example]) -> Sequence[Example]:
        """``rows`` as a prompt may show them: with invented values for personal data, if the settings say so."""
        if not self.settings.privacy.redact:
            return rows
        pseudonymiser = Pseudonymiser(self.settings.seed, self.task.language)
        return [pseudonymiser.example(row) for row in rows]

    def redacted_values(self) -> dict[str, int] | None:
        """How many values of each kind ``redacted`` replaces in dev; None if the settings do not ask for it."""
        if not self.settings.privacy.redact:
            return None
        found = (its.kind for row in self.dev for text in row.fields.values() for its in find_personal_data(text))
        return dict(Counter(found).most_common())

    def label_numbers(self, rows: Sequence[Example]) -> NDArray[np.int64]:
        """The number of each row's label, (n_rows,)."""
        labels = self.task.label_names
        return np.array([labels.index(row.label) for row in rows], dtype=np.int64)

    def prompts(self) -> Prompts:
        """The prompts for the teacher, which is opened."""
        return prompts_for(self.kind, self.teacher.style, self.teacher.open())

    def divide_dev(self) -> Folds:
        """See ``divide_dev``."""
        return divide_dev(self.task, self.dev, self.settings)

    def train(self, stage: str, training_set: TrainingSet, body: Path | None = None, *, brief: bool = False) -> Trained:
        """A fresh student, trained on ``training_set``; ``body`` None takes the run's own.

        ``brief``: as in ``StudentSettings``, for a student that is only scored.
        """
        body = body or self.models.body
        settings = self.kind.training_settings(body)
        if brief:
            settings = dataclasses.replace(settings, brief=True)
        with self.progress.step(f"{stage}: the student trains", training_set.passes(settings), "texts") as advance:
            return self.kind.train(body, training_set, settings, advance)

    def export(
        self, stage: str, student: Trained, training_set: TrainingSet, temperature: float | None = None
    ) -> StudentResult:
        """Export the student to the stage's folder, and score the exported model on dev.

        Writes predictions.jsonl and errors.jsonl of dev. ``temperature`` None: it is fitted on dev, which the student
        must not have been trained on.
        """
        folder = self.state.path / stage / "student"
        with self.progress.step(f"{stage}: exporting to ONNX", None, "steps"):
            temperature, report = self.kind.export(student, folder, temperature)
        evaluated = self.kind.evaluate(folder, self.dev)
        self.state.write_rows(f"{stage}/predictions.jsonl", (its.to_row() for its in evaluated.predictions))
        self.state.write_rows(f"{stage}/errors.jsonl", (error.to_row() for error in evaluated.errors))
        return StudentResult(
            stage=stage,
            training=_figures(student, training_set),
            dev=evaluated.metrics,
            errors=len(evaluated.errors),
            temperature=temperature,
            export=report,
        )


def divide_dev(task: Task, dev: Sequence[Example], settings: RunSettings) -> Folds:
    """The folds of dev, always the same ones. Duplicates, and rows on the same source text, share a fold."""
    groups = [
        tuple(row.fields[name] for name in task.source_fields) or normal_form(row.text) or row.text for row in dev
    ]
    seed = derive_seed(settings.seed, JUDGES)
    numbers = divide_into_folds([row.label for row in dev], settings.folds, seed, groups)
    return Folds(numbers if numbers.max() > 0 else np.full_like(numbers, NO_FOLD))


def prompts_for(kind: Texts, style: PromptStyle, teacher: Teacher) -> Prompts:
    """The prompts for ``teacher``: its tokenizer and chat template are part of them."""
    task = kind.task
    written = [row.fields[task.target_field] for row in kind.dev]
    cap = token_cap(written, task.length_of_texts(kind.dev), teacher.count_tokens)
    return Prompts(task, style, cap, teacher.chat, teacher.count_tokens, kind.settings.prompt_tokens)


def _figures(student: Trained, training_set: TrainingSet) -> TrainingFigures:
    settings = student.settings  # without None
    return TrainingFigures(
        rows=len(training_set.rows),
        rows_per_label=dict(Counter(row.label for row in training_set.rows)),
        seed=training_set.seed,
        learning_rate=settings.learning_rate,
        passes=training_set.passes(settings),
        batch_size=settings.batch_size,
        max_length=settings.max_length,
        loss=student.loss,
        seconds=round(student.seconds, 3),
    )
