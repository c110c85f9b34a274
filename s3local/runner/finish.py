"""The end of a run after its last round: relabelling, the final students, and the selected one.

The final student learns all synthetic rows with their label probabilities, and dev. Model selection compares it with
the gold-only student; the selected model is the best average of their weights, or the gold-only student itself.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from s3local.progress import Advance
from s3local.records import Candidate
from s3local.results import (
    AVERAGED,
    FINAL,
    FINAL_WITHOUT_GOLD,
    GOLD_ONLY,
    LARGE,
    NO_SYNTHETIC,
    FoldResult,
    LabelCheckResult,
    ModelSelectionResult,
    RoundResult,
    StudentResult,
)
from s3local.runner.context import STUDENT, RunContext
from s3local.runner.model_selection import FoldJob, fold_jobs, score_fold, select_model
from s3local.runner.relabel import Relabelled, Relabeller, training_set
from s3local.runner.task_kinds import Texts, TrainingSet
from s3local.student.training import Trained, averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals:
    """The results of the end of a run, and the stage of the selected student; see ``RunSummary``."""

    label_check: LabelCheckResult
    model_selection: ModelSelectionResult
    final: StudentResult
    final_without_gold: StudentResult | None = None
    gold_only: StudentResult | None = None
    averaged: StudentResult | None = None
    large: StudentResult | None = None
    selected: str = FINAL


def finish(
    context: RunContext,
    relabeller: Relabeller,
    candidates: Sequence[Candidate],
    rounds: Sequence[RoundResult],
) -> Finals:
    """Relabel the run's ``candidates``, train the final students, and select one of them."""
    finals, students = _small_finals(context, relabeller, candidates, rounds)
    if context.settings.size == "small":
        return finals
    return dataclasses.replace(finals, large=students.large(), selected=LARGE)


def _small_finals(
    context: RunContext,
    relabeller: Relabeller,
    candidates: Sequence[Candidate],
    rounds: Sequence[RoundResult],
) -> tuple[Finals, FinalStudents]:
    settings, folds = context.settings, relabeller.folds
    check, relabelled = relabeller.finish(candidates)
    students = FinalStudents(context, relabelled, rounds)
    selects = settings.model_selection and settings.with_gold
    if selects and folds.count:
        jobs = fold_jobs(context, folds, candidates, partial(relabeller.fold_targets, candidates))
        _train_side_by_side(context, students, jobs)
    finals = Finals(
        label_check=check,
        model_selection=ModelSelectionResult(outcome="undivided" if selects else "off"),
        final=students.final(FINAL, settings.with_gold),
        final_without_gold=students.final(FINAL_WITHOUT_GOLD, False) if settings.both_finals else None,
    )
    if not (selects and folds.count):
        return finals, students
    selection = select_model(context, folds)
    gold_only = students.gold_only(selection.temperatures[NO_SYNTHETIC])
    finals = dataclasses.replace(finals, model_selection=selection.result, gold_only=gold_only, selected=GOLD_ONLY)
    if selection.share == NO_SYNTHETIC:
        return finals, students
    average = students.averaged(selection.share, selection.temperatures[selection.share])
    return dataclasses.replace(finals, averaged=average, selected=AVERAGED), students


def _train_side_by_side(context: RunContext, students: FinalStudents, folds: Mapping[str, FoldJob]) -> None:
    """Train the final students and those of the ``folds``, by the names of their markers, in any order.

    The time from one fold to the next counts for the next, so that the folds' seconds add up to those of all.
    """
    finals = students.jobs()
    jobs: dict[str, Callable[[Advance], Any]] = {stage: partial(_train, job) for stage, job in finals.items()}
    jobs |= {name: partial(score_fold, job) for name, job in folds.items()}
    names = list(jobs)
    passes = sum(job.passes for job in finals.values()) + sum(job.passes for job in folds.values())
    started = time.perf_counter()
    with context.progress.step("final students and cross-validation", passes, "texts") as advance:
        for number, result in context.executor.completed(list(jobs.values()), advance):
            if isinstance(result, FoldResult):
                now = time.perf_counter()
                context.state.record(names[number], result, now - started)
                started = now
            else:
                students.keep(names[number], result)


@dataclass(frozen=True, slots=True)
class _StudentJob:
    """A student of ``rows``."""

    kind: Texts
    body: Path
    rows: TrainingSet

    @property
    def passes(self) -> int:
        return self.rows.passes(self.kind.training_settings(self.body))


def _train(job: _StudentJob, advance: Advance) -> Trained:
    return job.kind.train(job.body, job.rows, job.kind.training_settings(job.body), advance)


class FinalStudents:
    """Trains the final students of a run. All of them begin with the same weights, so that they can be averaged."""

    def __init__(self, context: RunContext, relabelled: Relabelled, rounds: Sequence[RoundResult]) -> None:
        self._context = context
        self._relabelled = relabelled
        self._last = rounds[-1]
        self._seed = context.seed_for(STUDENT, len(rounds))
        self._trained: dict[str, Trained] = {}

    def jobs(self) -> dict[str, _StudentJob]:
        """The trainings of the final and the gold-only student, by their stages, unless they are done."""
        context = self._context
        rows = {FINAL: self._all_rows(True), GOLD_ONLY: self._gold_rows()}
        return {
            stage: _StudentJob(context.kind, context.models.body, its)
            for stage, its in rows.items()
            if context.state.read(f"{stage}/metrics.json", StudentResult) is None
        }

    def keep(self, stage: str, student: Trained) -> None:
        """Take the student of one of ``jobs``."""
        self._trained[stage] = student

    def final(self, stage: str, with_gold: bool) -> StudentResult:
        """The student of all synthetic rows and, if ``with_gold``, dev."""
        last, relabelled = self._last.student, self._relabelled.targets is not None
        if not with_gold:
            return self._make(stage, self._all_rows(with_gold), None)
        # A student that was trained on dev is overconfident there. The label model's targets are calibrated already;
        # a student of plain labels gets the temperature of the last round's, which was not trained on dev.
        return self._make(stage, self._all_rows(with_gold), 1.0 if relabelled else last.temperature)

    def gold_only(self, temperature: float) -> StudentResult:
        """The gold-only student, trained on dev."""
        return self._make(GOLD_ONLY, self._gold_rows(), temperature)

    def averaged(self, share: float, temperature: float) -> StudentResult:
        """The average of the final student's weights, with ``share``, and the gold-only student's.

        Both are in memory, unless the run was interrupted in between; then they are trained again.
        """

        def compute() -> StudentResult:
            rows = self._all_rows(True)
            final = self._trained.get(FINAL) or self._context.train(FINAL, rows)
            gold_only = self._trained.get(GOLD_ONLY) or self._context.train(GOLD_ONLY, self._gold_rows())
            return self._context.export(AVERAGED, averaged(final, gold_only, share), rows, temperature)

        return self._context.state.once(f"{AVERAGED}/metrics.json", StudentResult, compute)

    def large(self) -> StudentResult:
        """The student of the judges' encoder, trained on what the final student was trained on."""
        context, rows = self._context, self._all_rows(self._context.settings.with_gold)

        def compute() -> StudentResult:
            student = context.train(LARGE, rows, context.models.judge)
            return context.export(LARGE, student, rows, 1.0)

        return context.state.once(f"{LARGE}/metrics.json", StudentResult, compute)

    def _all_rows(self, with_gold: bool) -> TrainingSet:
        gold = self._context.dev if with_gold else []
        return training_set(self._context, self._relabelled.rows, self._relabelled.targets, gold, self._seed)

    def _gold_rows(self) -> TrainingSet:
        return TrainingSet(self._context.dev, self._seed)

    def _make(self, stage: str, rows: TrainingSet, temperature: float | None) -> StudentResult:
        """Export a student, trained if it is not there yet; it stays in memory, as it may be averaged."""

        def compute() -> StudentResult:
            student = self._trained.get(stage) or self._context.train(stage, rows)
            self._trained[stage] = student
            return self._context.export(stage, student, rows, temperature)

        return self._context.state.once(f"{stage}/metrics.json", StudentResult, compute)
