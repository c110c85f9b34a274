"""Relabelling of a run's synthetic rows: judges, the teacher's likelihood and the label model say what label a text
probably has.

A judge for each fold of dev is trained on the dev rows outside the fold. It predicts the fold, and every candidate. The
label model turns the judges' predictions, the teacher's where these explain dev better, and the requested labels into
label probabilities. See ``relabelling`` for each of the parts; here they are trained, asked and written down.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.progress import Advance
from s3local.records import Candidate, Example
from s3local.relabelling.judge import Judge
from s3local.relabelling.label_model import (
    LEAST_GOLD,
    JudgePredictions,
    LabelCheck,
    check_labels,
    evidence,
    in_question,
    tempered,
)
from s3local.relabelling.teacher_likelihood import label_logprobs
from s3local.results import (
    JudgeResult,
    LabelCheckResult,
    LabelModelFigures,
    ScarceLabel,
    StageResult,
    TeacherReading,
)
from s3local.runner.context import JUDGES, Folds, RunContext
from s3local.runner.task_kinds import Targets, TrainingSet

JUDGES_FOLDER = "judges"
"""Folder of what judges and teacher say of dev."""


@dataclass(frozen=True, slots=True)
class Relabelled:
    """Synthetic rows as students learn them: ``targets`` (n_rows, n_labels) are label probabilities, None where the
    requested labels stay."""

    result: LabelCheckResult
    rows: Sequence[Example]
    targets: Targets | None


class Relabeller:
    """The judges of a run, and the label probabilities of any of its candidates.

    Judges are trained when they are first needed, and once until ``release``. They predict dev once for the run, and
    the candidates of each stage that asks. All predictions are artefacts, so that a resumed run trains no judge for a
    stage that is done.
    """

    def __init__(self, context: RunContext, folds: Folds) -> None:
        self.context = context
        self.folds = folds
        self._judges: dict[int, Judge] = {}

    def relabel(self, stage: str, candidates: Sequence[Candidate]) -> Relabelled:
        """The candidates with their label probabilities, which are written to the stage's dataset.jsonl.

        The requested labels stay where no check was asked for, where dev has too few rows for judges or cannot be
        divided, and where the judges explain dev no better than chance.
        """
        state = self.context.state
        result = state.once(f"{stage}/label_check.json", LabelCheckResult, lambda: self._check(stage, candidates))
        if not result.applied:
            return Relabelled(result, [candidate.example for candidate in candidates], None)
        rows = [Candidate.from_row(row) for row in state.read_rows(f"{stage}/dataset.jsonl")]
        targets = np.array([list(row.origin["probabilities"].values()) for row in rows], dtype=np.float32)
        return Relabelled(result, [row.example for row in rows], targets)

    def fold_targets(self, stage: str, candidates: Sequence[Candidate], fold: int) -> Targets:
        """Label probabilities (n_candidates, n_labels) of a stage that was relabelled, by the one judge that was not
        trained on the fold."""
        of_judge = self._predictions(stage, candidates)[fold]
        return np.asarray(self._label_model(stage, candidates, of_judge).targets, np.float32)

    def release(self) -> None:
        """Free the judges' memory; who asks again has them trained again, to the same weights."""
        self._judges.clear()

    def _check(self, stage: str, candidates: Sequence[Candidate]) -> LabelCheckResult:
        rows: Sequence[Candidate] = candidates
        result = self._obstacle()
        if result is None:
            rows, result = self._checked(stage, candidates)
        self.context.state.write_rows(f"{stage}/dataset.jsonl", (candidate.to_row() for candidate in rows))
        return result

    def _obstacle(self) -> LabelCheckResult | None:
        """Why no labels are checked; None if they are."""
        context = self.context
        if not (context.settings.label_check and context.kind.has_labels):
            return LabelCheckResult(outcome="off")
        fewest, count = min(Counter(row.label for row in context.dev).items(), key=lambda item: item[1])
        if count < LEAST_GOLD:
            scarce = ScarceLabel(label=fewest, rows=count, least=LEAST_GOLD)
            return LabelCheckResult(outcome="too_few_rows", scarce=scarce)
        return None if self.folds.count else LabelCheckResult(outcome="undivided")

    def _checked(self, stage: str, candidates: Sequence[Candidate]) -> tuple[Sequence[Candidate], LabelCheckResult]:
        """The candidates with their likeliest labels, or as they are if the check does not hold; and the figures."""
        of_candidates = self._predictions(stage, candidates).mean(axis=0)
        teacher_used = self._teacher_on_dev().used
        if teacher_used:
            self._let_teacher_read(stage, candidates, of_candidates)
        check = self._label_model(stage, candidates, of_candidates)
        rows = candidates
        if check.holds:
            rows = [self._with_label(*pair) for pair in zip(candidates, check.targets, strict=True)]
        correct = check.correct.round(4).tolist()
        figures = LabelModelFigures(
            gain=round(check.gain, 3),
            teacher_used=teacher_used,
            pool_weights=check.pool_weights,
            scale=round(check.scale, 4),
            correct=dict(zip(self.context.task.label_names, correct, strict=True)),
            correct_overall=round(float(check.correct[self._requested_labels(candidates)].mean()), 4),
            dev_accuracy=float((check.gold.argmax(axis=1) == self._gold_labels()).mean()),
            relabelled=sum(a.example.label != b.example.label for a, b in zip(rows, candidates, strict=True)),
        )
        outcome = LabelCheckResult(outcome="applied" if check.holds else "no_gain")
        return rows, dataclasses.replace(outcome, judges=self.folds.count, figures=figures)

    # Judges

    def _predictions_of_dev(self) -> Targets:
        """Label probabilities of the divided dev rows (n_divided, n_labels), each by the judge that was not trained on
        it."""
        dev, folds = self.context.dev, self.folds
        files = [self._predictions_in(f"{JUDGES_FOLDER}/dev-{fold}", fold, dev) for fold in range(folds.count)]
        places = np.array(folds.divided(range(len(dev))))
        return np.array(np.stack(files)[folds.of_row[places], places])

    def _predictions(self, stage: str, candidates: Sequence[Candidate]) -> Targets:
        """Label probabilities of the candidates by each judge, (n_folds, n_candidates, n_labels)."""
        rows = [candidate.example for candidate in candidates]
        return np.stack([self._predictions_in(f"{stage}/judge-{fold}", fold, rows) for fold in range(self.folds.count)])

    def _predictions_in(self, name: str, fold: int, rows: Sequence[Example]) -> Targets:
        """The predictions (n_rows, n_labels) of the fold's judge for ``rows``, which are kept under ``name``."""
        state = self.context.state
        state.once(f"{name}.json", JudgeResult, lambda: self._predict(name, fold, rows))
        return np.array([row["probabilities"] for row in state.read_rows(f"{name}.jsonl")], dtype=np.float32)

    def _predict(self, name: str, fold: int, rows: Sequence[Example]) -> JudgeResult:
        context = self.context
        passes = 0 if fold in self._judges else context.settings.judge.passes
        step = f"label check: judge {fold + 1} of {self.folds.count}"
        with context.progress.step(step, passes + len(rows), "texts") as advance:
            probabilities = self._judge(fold, advance).predict_proba(rows, advance)
        context.state.write_rows(
            f"{name}.jsonl",
            (
                {"id": row.id, "probabilities": [round(float(value), 5) for value in values]}
                for row, values in zip(rows, probabilities, strict=True)
            ),
        )
        return JudgeResult(gold_rows=len(self.folds.outside(fold, context.dev)))

    def _judge(self, fold: int, advance: Advance) -> Judge:
        """The judge that is not trained on the fold."""
        if fold not in self._judges:
            context, models = self.context, self.context.models
            gold, seed = self.folds.outside(fold, context.dev), context.seed_for(JUDGES, fold)
            self._judges[fold] = models.judge(
                models.body, gold, context.task.label_names, context.settings.judge, seed, advance
            )
        return self._judges[fold]

    # Teacher

    def _teacher_on_dev(self) -> TeacherReading:
        """Whether the teacher's likelihoods explain dev better together with the judges than the judges alone do.

        No gold row was used for the label under which the teacher finds a text likeliest. It reads a text only under
        the labels that are likely by the judges' predictions.
        """
        context = self.context
        if not context.settings.teacher_reads or context.task.source_fields:
            return TeacherReading(used=False)

        def compute() -> TeacherReading:
            of_judges = self._predictions_of_dev()
            logprobs = self._read(self._teacher_file(None), self.folds.divided(context.dev), in_question(of_judges))
            gain = evidence([of_judges], [tempered(logprobs)], self._gold_labels())
            return TeacherReading(used=gain > 0, gain=round(gain, 3))

        return context.state.once(f"{JUDGES_FOLDER}/teacher.json", TeacherReading, compute)

    def _let_teacher_read(self, stage: str, candidates: Sequence[Candidate], of_candidates: Targets) -> None:
        """Let the teacher read the candidates under their likely labels."""

        def compute() -> StageResult:
            rows = [candidate.example for candidate in candidates]
            self._read(self._teacher_file(stage), rows, in_question(of_candidates))
            return StageResult()

        self.context.state.once(f"{stage}/teacher.json", StageResult, compute)

    def _read(self, name: str, rows: Sequence[Example], likely: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The log-probability (nats) of each row's text under each label, (n_rows, n_labels), which are written to
        ``name``; NaN where ``likely``, of that shape, is False. Then the teacher is closed, as a student may train
        next."""
        context = self.context
        with context.progress.step("label check: the teacher reads", int(likely.sum()), "texts") as advance:
            texts = [row.text for row in rows]
            logprobs = label_logprobs(context.teacher.open(), context.prompts(), texts, likely=likely, advance=advance)
        context.teacher.close()
        context.state.write_rows(
            name,
            (
                {"id": row.id, "logprobs": [None if np.isnan(value) else round(float(value), 3) for value in values]}
                for row, values in zip(rows, logprobs, strict=True)
            ),
        )
        return logprobs

    def _teacher_file(self, stage: str | None) -> str:
        """The file of the teacher's log-probabilities of a stage's candidates; of dev, if ``stage`` is None."""
        return f"{stage or JUDGES_FOLDER}/teacher.jsonl"

    # Label model

    def _label_model(self, stage: str, candidates: Sequence[Candidate], of_candidates: Targets) -> LabelCheck:
        """The label model on the judges' predictions, with the teacher's where these are used."""
        judges = {"judges": JudgePredictions(self._predictions_of_dev(), of_candidates)}
        teacher_used = self._teacher_on_dev().used
        if teacher_used:
            # tempered together, as a label's mean over all rows is subtracted
            files = [self.context.state.read_rows(self._teacher_file(name)) for name in (None, stage)]
            of_teacher = tempered(np.array([row["logprobs"] for rows in files for row in rows], dtype=np.float64))
            judges["teacher"] = JudgePredictions(of_teacher[: len(files[0])], of_teacher[len(files[0]) :])
        requested = self._requested_labels(candidates)
        return check_labels(judges, self._gold_labels(), requested, teacher_judges=teacher_used)

    def _gold_labels(self) -> NDArray[np.int64]:
        """The number of each divided dev row's label."""
        return self.context.label_numbers(self.folds.divided(self.context.dev))

    def _requested_labels(self, candidates: Sequence[Candidate]) -> NDArray[np.int64]:
        """The number of the label that the teacher was asked for, for each candidate."""
        return self.context.label_numbers([candidate.example for candidate in candidates])

    def _with_label(self, candidate: Candidate, probabilities: NDArray[Any]) -> Candidate:
        """The candidate with its likeliest label; the requested label goes into its origin."""
        labels = self.context.task.label_names
        rounded = {label: round(float(value), 4) for label, value in zip(labels, probabilities, strict=True)}
        origin = {**candidate.origin, "asked": candidate.example.label, "probabilities": rounded}
        return Candidate(dataclasses.replace(candidate.example, label=labels[int(np.argmax(probabilities))]), origin)


def training_set(
    context: RunContext, rows: Sequence[Example], targets: Targets | None, gold: Sequence[Example], seed: int
) -> TrainingSet:
    """Synthetic ``rows`` with their label probabilities ``targets`` (None: their own labels), and ``gold`` rows."""
    if targets is not None:
        own = np.eye(len(context.task.label_names), dtype=np.float32)[context.label_numbers(gold)]
        targets = np.concatenate([targets / targets.sum(axis=1, keepdims=True), own])
    return TrainingSet([*rows, *gold], seed, targets)
