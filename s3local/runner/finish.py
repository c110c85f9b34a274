"""After the last round: the label check, the final student, and the guard that compares it with gold rows alone.

Dev is divided into folds. A judge learns from the gold rows outside a fold and reads that fold and all synthetic
rows; together the judges, and the teacher where that explains gold better, say how probable each label of a synthetic
row is, and the final student learns that beside dev. The guard does the same without a fold: what a student learns
from the other gold rows, and from the synthetic rows that do not descend from the fold, is compared on the fold with
what one learns from the other gold rows alone, and with the means of their weights. Knows nothing of test.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.calibration import fit_temperature, log_likelihood
from s3local.evaluation.cross_validation import NO_FOLD, divide_into_folds
from s3local.records import Candidate, Example
from s3local.relabelling.label_model import (
    LEAST_GOLD,
    JudgePredictions,
    LabelCheck,
    check_labels,
    evidence,
    in_question,
    tempered,
)
from s3local.results import (
    AVERAGED,
    FINAL,
    FINAL_WITHOUT_GOLD,
    GOLD_ONLY,
    FoldResult,
    JudgeResult,
    LabelCheckResult,
    LabelModelFigures,
    ModelSelectionResult,
    RoundResult,
    ScarceLabel,
    StudentResult,
    TeacherReading,
    Verdict,
)
from s3local.runner.context import GUARD, JUDGES, STUDENT, RunContext
from s3local.runner.model_selection import GOLD_ALONE, SHARES, weigh
from s3local.runner.task_kinds import Targets, TrainingSet
from s3local.storage import translated_errors
from s3local.student.training import averaged
from s3local.text import normal_form

Reading = Callable[[Sequence[Example], NDArray[np.bool_]], NDArray[np.float64]]
"""The log-probability (nats) of each row's text under each label, (n_rows, n_labels), read where the second argument,
of that shape, is True; NaN elsewhere."""

GUARD_PASSES = 1000
"""Rows that each of the guard's students is fine-tuned on, at most: half of what the final one gets, and about what a
student of a few dozen gold rows gets. The warm-up is half as long, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals:
    """What the end of a run found, and the stage of the selected student; see ``RunSummary``."""

    label_check: LabelCheckResult
    model_selection: ModelSelectionResult
    final: StudentResult
    final_without_gold: StudentResult | None = None
    gold_only: StudentResult | None = None
    averaged: StudentResult | None = None
    selected: str = FINAL


class Finish:
    """The end of one run, whose rows are ``kept``. ``reading`` is the teacher's, of any rows."""

    def __init__(
        self, bench: RunContext, kept: Sequence[Candidate], rounds: Sequence[RoundResult], reading: Reading
    ) -> None:
        self.context = bench
        self.reading = reading
        self.kept = kept
        self.rounds = rounds
        self.rows = [candidate.example for candidate in kept]
        dev, settings = bench.dev, bench.settings
        groups = [  # a row that stands in dev twice must not be judged by what learned its twin
            tuple(row.fields[name] for name in bench.task.source_fields) or normal_form(row.text) or row.text
            for row in dev
        ]
        folds = divide_into_folds([row.label for row in dev], settings.folds, bench.seed_for(JUDGES), groups)
        self.fold_of = folds if folds.max() > 0 else np.full_like(folds, NO_FOLD)
        self.n_folds = int(self.fold_of.max()) + 1
        self._students: dict[str, Any] = {}

    def run(self) -> Finals:
        """Check the labels, train the final students, and select one of them."""
        state, settings = self.context.state, self.context.settings
        check = state.once(f"{FINAL}/label_check.json", LabelCheckResult, self._check_labels)
        final = self._final(FINAL, settings.with_gold, check)
        goldless = self._final(FINAL_WITHOUT_GOLD, False, check) if settings.both_finals else None
        off = not (settings.guard and settings.with_gold)
        if off or not self.n_folds:
            selection = ModelSelectionResult(outcome="off" if off else "undivided")
            return Finals(label_check=check, model_selection=selection, final=final, final_without_gold=goldless)
        folds = [
            state.once(f"{FINAL}/guard-{fold}.json", FoldResult, lambda fold=fold: self._guard(fold, check.applied))  # type: ignore[misc]
            for fold in range(self.n_folds)
        ]
        verdict, temperatures = self._verdict(folds)
        gold_only = state.once(
            f"{GOLD_ONLY}/metrics.json",
            StudentResult,
            lambda: self._made(GOLD_ONLY, self._gold_training_set(), temperatures[GOLD_ALONE]),
        )
        averaged = None
        if verdict.share != GOLD_ALONE:
            averaged = state.once(
                f"{AVERAGED}/metrics.json",
                StudentResult,
                lambda: self._average(check, verdict.share, temperatures[verdict.share]),
            )
        seconds = round(sum(fold.seconds for fold in folds), 3)
        return Finals(
            label_check=check,
            model_selection=ModelSelectionResult(outcome="done", verdict=verdict, seconds=seconds),
            final=final,
            final_without_gold=goldless,
            gold_only=gold_only,
            averaged=averaged,
            selected=GOLD_ONLY if averaged is None else AVERAGED,
        )

    # Label check

    def _check_labels(self) -> LabelCheckResult:
        """Write final/dataset.jsonl: all synthetic rows and, where labels are checked, the probability of each.

        Where dev has too few rows for judges or cannot be divided, or the check does not hold, the labels stay as the
        teacher was asked for them.
        """
        bench = self.context
        rows: Sequence[Candidate] = self.kept
        result = LabelCheckResult(outcome="off")
        if bench.settings.label_check and bench.kind.has_labels:
            fewest, count = min(Counter(row.label for row in bench.dev).items(), key=lambda item: item[1])
            if count < LEAST_GOLD:
                scarce = ScarceLabel(label=fewest, rows=count, least=LEAST_GOLD)
                result = LabelCheckResult(outcome="too_few_rows", scarce=scarce)
            elif self.n_folds:
                rows, result = self._judged_rows()
            else:
                result = LabelCheckResult(outcome="undivided")
        bench.state.write_rows(f"{FINAL}/dataset.jsonl", (candidate.to_row() for candidate in rows))
        return result

    def _judged_rows(self) -> tuple[Sequence[Candidate], LabelCheckResult]:
        """All rows as the judges, and the teacher where it is heard, would label them, and what they come from; as they
        are where the check does not hold."""
        bench = self.context
        for fold in range(self.n_folds):
            bench.state.once(f"{FINAL}/judge-{fold}.json", JudgeResult, lambda fold=fold: self._judge(fold))  # type: ignore[misc]
        of_dev, of_rows = self._judge_predictions()
        judged = of_rows.mean(axis=0)
        reading = bench.state.once(f"{FINAL}/teacher.json", TeacherReading, lambda: self._ask_teacher(of_dev, judged))
        check = self._checked(of_dev, judged)
        rows: Sequence[Candidate] = self.kept
        if check.holds:
            rows = [self._with_label(*pair) for pair in zip(self.kept, check.targets, strict=True)]
        found = check.gold.argmax(axis=1) == self._numbers(self._judged)
        figures = LabelModelFigures(
            gain=round(check.gain, 3),
            teacher_used=reading.used,
            pool_weights=check.pool_weights,
            scale=round(check.scale, 4),
            correct=dict(zip(bench.task.label_names, check.right.round(4).tolist(), strict=True)),
            correct_overall=round(float(check.right[self._numbers(self.rows)].mean()), 4),
            dev_accuracy=float(found.mean()),
            relabelled=sum(a.example.label != b.example.label for a, b in zip(rows, self.kept, strict=True)),
        )
        outcome: Literal["applied", "no_gain"] = "applied" if check.holds else "no_gain"
        return rows, LabelCheckResult(outcome=outcome, judges=self.n_folds, figures=figures)

    def _judge(self, fold: int) -> JudgeResult:
        """What a judge that has not seen the fold says of dev and of all rows."""
        bench = self.context
        learned = [row for row, its in zip(bench.dev, self.fold_of, strict=True) if its != fold]
        labels, settings, models = bench.task.label_names, bench.settings.judge, bench.models
        name = f"label check: judge {fold + 1} of {self.n_folds}"
        with bench.progress.step(name, settings.passes + len(bench.dev) + len(self.rows), "texts") as advance:
            judge = models.judge(models.body, learned, labels, settings, bench.seed_for(JUDGES, fold), advance)
            probabilities = judge.predict_proba([*bench.dev, *self.rows], advance)
        bench.state.write_rows(
            f"{FINAL}/judge-{fold}.jsonl",
            (
                {"id": row.id, "probabilities": [round(float(value), 5) for value in values]}
                for row, values in zip([*bench.dev, *self.rows], probabilities, strict=True)
            ),
        )
        return JudgeResult(gold_rows=len(learned))

    def _judge_predictions(self) -> tuple[Targets, Targets]:
        """Label probabilities of the dev rows that are in a fold (n_judged, n_labels), each by the judge that did not
        learn from it, and those of all rows by each judge (n_folds, n_rows, n_labels)."""
        files = [self.context.state.read_rows(f"{FINAL}/judge-{fold}.jsonl") for fold in range(self.n_folds)]
        values = np.array([[row["probabilities"] for row in rows] for rows in files], dtype=np.float32)
        places = np.flatnonzero(self.fold_of != NO_FOLD)
        n_dev = len(self.context.dev)
        return values[self.fold_of[places], places], values[:, n_dev:]

    def _ask_teacher(self, of_dev: Targets, of_rows: Targets) -> TeacherReading:
        """Let the teacher read dev, and all rows as well if what it says of dev helps the judges.

        Under which label it finds a text likeliest is a judgement that no gold row was used for. Where the teacher
        knows better than the few gold rows show, it decides, between the labels that are in question by what the judges
        say, ``of_dev`` and ``of_rows``; where it does not, it costs the reading of dev.
        """
        bench, rows = self.context, self._judged
        if not bench.settings.teacher_reads or bench.task.source_fields:
            return TeacherReading(used=False)
        of_gold = self.reading(rows, in_question(of_dev))
        gain = evidence([of_dev], tempered(of_gold), self._numbers(rows))
        said = of_gold
        if gain > 0:
            said = np.concatenate([of_gold, self.reading(self.rows, in_question(of_rows))])
        bench.state.write_rows(
            f"{FINAL}/teacher.jsonl",
            (
                {"id": row.id, "logprobs": [None if np.isnan(value) else round(float(value), 3) for value in values]}
                for row, values in zip([*rows, *self.rows], said, strict=False)
            ),
        )
        return TeacherReading(used=gain > 0, gain=round(gain, 3))

    def _checked(self, of_dev: Targets, of_rows: Targets) -> LabelCheck:
        """The label check with the judges' opinions, and the teacher's where it is heard."""
        opinions = {"judges": JudgePredictions(of_dev, of_rows)}
        reading = self.context.state.read(f"{FINAL}/teacher.json", TeacherReading)
        heard = reading is not None and reading.used
        if heard:
            rows = self.context.state.read_rows(f"{FINAL}/teacher.jsonl")
            said = tempered(np.array([row["logprobs"] for row in rows], dtype=np.float64))
            opinions["teacher"] = JudgePredictions(said[: len(of_dev)], said[len(of_dev) :])
        gold, asked = self._numbers(self._judged), self._numbers(self.rows)
        return check_labels(opinions, gold, asked, teacher_judges=heard)

    @property
    def _judged(self) -> list[Example]:
        """The dev rows that are in a fold."""
        return [row for row, fold in zip(self.context.dev, self.fold_of, strict=True) if fold != NO_FOLD]

    def _numbers(self, rows: Sequence[Example]) -> Any:
        labels = self.context.task.label_names
        return np.array([labels.index(row.label) for row in rows], dtype=np.int64)

    def _with_label(self, candidate: Candidate, probabilities: Any) -> Candidate:
        """The candidate with its likeliest label; what the teacher was asked for goes into its origin."""
        labels = self.context.task.label_names
        rounded = {label: round(float(value), 4) for label, value in zip(labels, probabilities, strict=True)}
        origin = {**candidate.origin, "asked": candidate.example.label, "probabilities": rounded}
        return Candidate(dataclasses.replace(candidate.example, label=labels[int(np.argmax(probabilities))]), origin)

    # Students

    def _final(self, stage: str, with_gold: bool, check: LabelCheckResult) -> StudentResult:
        """A student of all synthetic rows, their labels checked, and, if asked for, dev.

        Without dev and without a label check it has the rows of the last round's student, and so is that one.
        """
        bench, last = self.context, self.rounds[-1]
        if not with_gold and not check.applied:
            return bench.state.once(f"{stage}/metrics.json", StudentResult, lambda: self._adopt(last, stage))
        # a student that has seen dev is too sure of it: the label check's targets are calibrated as they are, and
        # one that learned plain labels is as sure as the last round's, which had not seen dev
        temperature = 1.0 if check.applied else last.student.temperature
        training_set = self._final_training_set(with_gold, check)
        return bench.state.once(
            f"{stage}/metrics.json", StudentResult, lambda: self._made(stage, training_set, temperature)
        )

    def _final_training_set(self, with_gold: bool, check: LabelCheckResult) -> TrainingSet:
        """All synthetic rows, as they were checked, and, if asked for, dev."""
        bench = self.context
        rows, targets = self.rows, None
        if check.applied:
            checked = [Candidate.from_row(row) for row in bench.state.read_rows(f"{FINAL}/dataset.jsonl")]
            rows = [candidate.example for candidate in checked]
            targets = np.array([list(row.origin["probabilities"].values()) for row in checked], dtype=np.float32)
        return self._training_set(rows, targets, bench.dev if with_gold else [], self._seed)

    def _gold_training_set(self) -> TrainingSet:
        """Dev alone, with the seed of the final student: both begin with the same weights."""
        return TrainingSet(self.context.dev, self._seed)

    @property
    def _seed(self) -> int:
        return self.context.seed_for(STUDENT, len(self.rounds))

    def _made(self, stage: str, training_set: TrainingSet, temperature: float) -> StudentResult:
        """The figures of a student of ``training_set``; where it may be averaged, it is kept."""
        student = self.context.train(stage, training_set)
        if self.context.settings.guard and stage != FINAL_WITHOUT_GOLD:
            self._students[stage] = student
        return self.context.judged(stage, student, training_set, temperature)

    def _average(self, check: LabelCheckResult, share: float, temperature: float) -> StudentResult:
        """The figures of the mean of the final student, which has ``share``, and that of gold alone.

        Both are at hand, unless the run was interrupted in between: then they are trained again.
        """
        training_sets = {FINAL: self._final_training_set(True, check), GOLD_ONLY: self._gold_training_set()}
        final, gold = (
            self._students[stage] if stage in self._students else self.context.train(stage, training_set)
            for stage, training_set in training_sets.items()
        )
        return self.context.judged(AVERAGED, averaged(final, gold, share), training_sets[FINAL], temperature)

    def _training_set(
        self, rows: Sequence[Example], targets: Targets | None, gold: Sequence[Example], seed: int
    ) -> TrainingSet:
        """Synthetic rows, their label probabilities where there are any, and gold rows."""
        if targets is not None:
            own = np.eye(len(self.context.task.label_names), dtype=np.float32)[self._numbers(gold)]
            targets = np.concatenate([targets / targets.sum(axis=1, keepdims=True), own])
        return TrainingSet([*rows, *gold], seed, targets)

    def _adopt(self, last: RoundResult, stage: str) -> StudentResult:
        """Make the last round's student the final one; its figures."""
        source, target = self.context.state.path / last.stage, self.context.state.path / stage
        with translated_errors(target):
            shutil.copytree(source / "student", target / "student", dirs_exist_ok=True)
            for name in ("predictions.jsonl", "errors.jsonl"):
                shutil.copyfile(source / name, target / name)
        return dataclasses.replace(last.student, stage=stage)

    # Guard

    def _guard(self, fold: int, checked: bool) -> FoldResult:
        """What the final student, the one of gold alone and their means score on each row of the fold, which none of
        them has seen."""
        bench = self.context
        held_out = [row for row, its in zip(bench.dev, self.fold_of, strict=True) if its == fold]
        learned = [row for row, its in zip(bench.dev, self.fold_of, strict=True) if its != fold]
        names = {row.id for row in held_out}
        free = [place for place, row in enumerate(self.kept) if not names & set(ancestors(row))]
        rows = [self.rows[place] for place in free]
        targets = None
        if checked and rows:
            of_dev, of_rows = self._judge_predictions()
            targets = np.asarray(self._checked(of_dev, of_rows[fold]).targets, np.float32)[free]
        seed = bench.seed_for(GUARD, fold)
        name = f"guard: fold {fold + 1} of {self.n_folds}"
        final = self._half_trained(self._training_set(rows, targets, learned, seed), f"{name}, final")
        gold = self._half_trained(TrainingSet(learned, seed), f"{name}, gold")
        scores = {share: bench.kind.scores(averaged(final, gold, share), held_out) for share in SHARES}
        logits = [its.logits for its in scores.values() if its.logits is not None]
        return FoldResult(
            synthetic_rows=len(rows),
            ids=tuple(row.id for row in held_out),
            scores=tuple(tuple(its.values.tolist()) for its in scores.values()),
            logits=tuple(tuple(map(tuple, values.tolist())) for values in logits) if logits else None,
        )

    def _half_trained(self, training_set: TrainingSet, name: str) -> Any:
        """A student of ``training_set``, see ``GUARD_PASSES``."""
        bench = self.context
        settings = bench.kind.fitted(bench.models.body).resolved(len(training_set.rows))
        epochs = min(settings.epochs or 1, max(1, round(GUARD_PASSES / len(training_set.rows))))
        settings = dataclasses.replace(settings, epochs=epochs, contrast_passes=settings.contrast_passes // 2)
        with bench.progress.step(name, settings.passes(len(training_set.rows)), "texts") as advance:
            return bench.kind.train(bench.models.body, training_set, settings, advance)

    def _verdict(self, folds: Sequence[FoldResult]) -> tuple[Verdict, dict[float, float]]:
        """The guard's, from what the students of all folds said of the rows held out; and the temperature of each
        share."""
        counts = [fold.synthetic_rows for fold in folds]
        scores = {share: np.concatenate([fold.scores[n] for fold in folds]) for n, share in enumerate(SHARES)}
        known = [fold.logits for fold in folds if fold.logits is not None]
        if not known:
            return weigh(scores, counts), dict.fromkeys(SHARES, 1.0)
        logits = {share: np.concatenate([values[n] for values in known]) for n, share in enumerate(SHARES)}
        by_id = {row.id: row for row in self.context.dev}
        own = self._numbers([by_id[name] for fold in folds for name in fold.ids])
        verdict = weigh(scores, counts, {share: log_likelihood(values, own) for share, values in logits.items()})
        return verdict, {share: fit_temperature(values, own) for share, values in logits.items()}


def ancestors(candidate: Candidate) -> list[str]:
    """The ids of the gold rows that a text's prompt showed, not of those that it was set against."""
    origin = candidate.origin
    return [name for name in (origin.get("error"), origin.get("context"), *origin.get("shots", ())) if name]
