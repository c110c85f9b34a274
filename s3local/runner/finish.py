"""The end of a run after its last round: relabelling, the final students, and the selected one.

The final student learns all synthetic rows with their label probabilities, and dev. Model selection compares it with
the gold-only student; the selected model is the best average of their weights, or the gold-only student itself.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from s3local.records import Candidate
from s3local.results import (
    AVERAGED,
    FINAL,
    FINAL_WITHOUT_GOLD,
    GOLD_ONLY,
    LARGE,
    LabelCheckResult,
    ModelSelectionResult,
    RoundResult,
    StudentResult,
)
from s3local.runner.context import STUDENT, RunContext
from s3local.runner.model_selection import NO_SYNTHETIC, select_model
from s3local.runner.relabel import Relabelled, Relabeller, training_set
from s3local.runner.task_kinds import TrainingSet
from s3local.storage import make_folder, replace_durably, translated_errors
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
    finals = Finals(
        label_check=check,
        model_selection=ModelSelectionResult(outcome="off"),
        final=students.final(FINAL, settings.with_gold),
        final_without_gold=students.final(FINAL_WITHOUT_GOLD, False) if settings.both_finals else None,
    )
    if not (settings.model_selection and settings.with_gold):
        return finals, students
    if not folds.count:
        return dataclasses.replace(finals, model_selection=ModelSelectionResult(outcome="undivided")), students
    selection = select_model(context, folds, candidates, partial(relabeller.fold_targets, candidates))
    gold_only = students.gold_only(selection.temperatures[NO_SYNTHETIC])
    finals = dataclasses.replace(finals, model_selection=selection.result, gold_only=gold_only, selected=GOLD_ONLY)
    if selection.share == NO_SYNTHETIC:
        return finals, students
    average = students.averaged(selection.share, selection.temperatures[selection.share])
    return dataclasses.replace(finals, averaged=average, selected=AVERAGED), students


class FinalStudents:
    """Trains the final students of a run. All of them begin with the same weights, so that they can be averaged."""

    def __init__(self, context: RunContext, relabelled: Relabelled, rounds: Sequence[RoundResult]) -> None:
        self._context = context
        self._relabelled = relabelled
        self._last = rounds[-1]
        self._seed = context.seed_for(STUDENT, len(rounds))
        self._trained: dict[str, Trained] = {}

    def final(self, stage: str, with_gold: bool) -> StudentResult:
        """The student of all synthetic rows and, if ``with_gold``, dev.

        Without dev it has the rows of the last round's student, and is that one, unless the rows were reviewed.
        """
        last, relabelled = self._last.student, self._relabelled.targets is not None
        if not with_gold and self._relabelled.reviewed:
            return self._make(stage, self._all_rows(with_gold), None)
        if not with_gold:
            return self._context.state.once(f"{stage}/metrics.json", StudentResult, lambda: self._adopt(last, stage))
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
        """Train and export a student; it stays in memory if it may be averaged."""

        def compute() -> StudentResult:
            student = self._context.train(stage, rows)
            if self._context.settings.model_selection and stage != FINAL_WITHOUT_GOLD:
                self._trained[stage] = student
            return self._context.export(stage, student, rows, temperature)

        return self._context.state.once(f"{stage}/metrics.json", StudentResult, compute)

    def _adopt(self, student: StudentResult, stage: str) -> StudentResult:
        """Copy the student of a round, with its predictions, to ``stage``; its figures.

        The copy is on the disk before it gets its name, so that the stage's marker cannot outlive it.
        """
        source, target = self._context.state.path / student.stage, self._context.state.path / stage
        for name in ("student", "predictions.jsonl", "errors.jsonl"):
            with translated_errors(target / name):
                make_folder(target)
                part = target / f".{name}.{os.getpid()}.part"
                shutil.rmtree(part, ignore_errors=True)
                if (source / name).is_dir():
                    shutil.copytree(source / name, part)
                else:
                    shutil.copyfile(source / name, part)
                replace_durably(part, target / name)
        return dataclasses.replace(student, stage=stage)
