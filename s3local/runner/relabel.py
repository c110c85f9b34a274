"""Relabelling of a run's synthetic rows: the judges and the label model say what label a text probably has.

The judges are trained on dev before the first student, one for each fold. Each predicts the dev rows of its own fold,
which calibrates them, and all of them predict every synthetic row, round by round. The label model turns their
predictions and the requested labels into the label probabilities that students learn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.interruption import stop_if_asked
from s3local.progress import Advance, ignore
from s3local.records import Candidate, Example, is_unlabelled
from s3local.relabelling.judge import Judges
from s3local.relabelling.label_model import UNREQUESTED, Calibration, calibrate, label_probabilities
from s3local.results import FINAL, JudgesResult, LabelCheckResult, LabelModelFigures, ReadingResult
from s3local.runner.context import JUDGES, Folds, RunContext
from s3local.runner.task_kinds import Targets, TrainingSet

DEV_FILE, DEV_MARKER = "judges/dev.jsonl", "judges/judges.json"


@dataclass(frozen=True, slots=True)
class Relabelled:
    """Synthetic rows as students learn them: ``targets`` (n_rows, n_labels) are label probabilities, None where the
    requested labels stay; then there are no ``figures``."""

    rows: Sequence[Example]
    targets: Targets | None
    figures: LabelModelFigures | None


class Relabeller:
    """The judges of a run, and the label probabilities of its synthetic rows.

    Judges are trained when their predictions are first needed. Predictions are artefacts of the round whose rows they
    are for, so that a resumed run trains no judges for rounds that are done.
    """

    def __init__(self, context: RunContext, folds: Folds) -> None:
        self.context = context
        self.folds = folds
        self._judges: Judges | None = None
        self._predictions: dict[str, NDArray[np.float32]] = {}

    def prepare(self) -> JudgesResult:
        """Train the judges and calibrate them on dev, or say why the requested labels stay."""
        return self.context.state.once(DEV_MARKER, JudgesResult, self._calibrate)

    def read(self, stage: str, candidates: Sequence[Candidate]) -> ReadingResult | None:
        """Let the judges predict a round's new rows; writes its judged.jsonl. None where the requested labels stay."""
        if not self.prepare().applied:
            return None
        state = self.context.state

        def compute() -> ReadingResult:
            rows = [candidate.example for candidate in candidates]
            with self.context.progress.step(f"{stage}: the judges read", len(rows), "texts") as advance:
                self._write(f"{stage}/judged.jsonl", rows, advance)
            return ReadingResult(rows=len(rows))

        reading = state.once(f"{stage}/judged.json", ReadingResult, compute)
        self.recall(f"{stage}/judged.jsonl")
        return reading

    def predict_into(self, file: str, rows: Sequence[Example]) -> NDArray[np.float32]:
        """Each judge's label probabilities (n_judges, n_rows, n_labels), which are in ``file`` afterwards.

        If it is there, it holds those of the same rows, and they are read from it.
        """
        if not rows:
            return np.zeros((1, 0, len(self.context.task.label_names)), np.float32)
        if not (self.context.state.path / file).is_file():
            self._write(file, rows)
        self.recall(file)
        return np.stack([self._predictions[row.id] for row in rows], axis=1)

    def recall(self, file: str) -> None:
        """Take the predictions that are in ``file``, if it is there. Their rows are not read by judges again."""
        state = self.context.state
        for row in state.read_rows(file) if (state.path / file).is_file() else []:
            self._predictions[row["id"]] = np.array(row["probabilities"], dtype=np.float32)

    def _write(self, file: str, rows: Sequence[Example], advance: Advance = ignore) -> None:
        """Write each judge's label probabilities of ``rows``, in 5 digits; only those without any are predicted."""
        new = [row for row in rows if row.id not in self._predictions]
        advance(len(rows) - len(new))
        if new:
            predictions = self._trained().predict_proba(new, advance)
            self._predictions |= {row.id: predictions[:, place] for place, row in enumerate(new)}
        self.context.state.write_rows(
            file, ({"id": row.id, "probabilities": self._predictions[row.id].round(5).tolist()} for row in rows)
        )
        stop_if_asked()

    def relabel(self, candidates: Sequence[Candidate]) -> Relabelled:
        """All of ``candidates``, which were read, as students learn them."""
        rows = [candidate.example for candidate in candidates]
        judges = self.prepare()
        if not judges.applied:
            return Relabelled(rows, None, None)
        labels, requested = self.context.task.label_names, self._requested(candidates)
        predictions = self._of_candidates(candidates).mean(axis=0)
        model = label_probabilities(predictions, requested, _calibration(judges))
        likeliest, asked = model.targets.argmax(axis=1), requested != UNREQUESTED
        figures = LabelModelFigures(
            correct=dict(zip(labels, model.correct.round(4).tolist(), strict=True)),
            correct_overall=round(float(model.correct[requested[asked]].mean()) if asked.any() else 0.0, 4),
            relabelled=int((likeliest != requested)[asked].sum()),
        )
        renamed = [dataclasses.replace(row, label=labels[best]) for row, best in zip(rows, likeliest, strict=True)]
        return Relabelled(renamed, np.asarray(model.targets, dtype=np.float32), figures)

    def fold_targets(self, candidates: Sequence[Candidate], fold: int) -> Targets | None:
        """Label probabilities (n_candidates, n_labels) by the one judge that was not trained on the fold; None where
        the requested labels stay."""
        judges = self.prepare()
        if not judges.applied:
            return None
        requested = self._requested(candidates)
        predictions = self._of_candidates(candidates)[fold]
        return np.asarray(label_probabilities(predictions, requested, _calibration(judges)).targets, np.float32)

    def finish(self, candidates: Sequence[Candidate]) -> tuple[LabelCheckResult, Relabelled]:
        """Relabel all rows of the run, write the dataset, and free the judges' memory."""
        relabelled = self.relabel(candidates)
        self._judges = None
        state, judges = self.context.state, self.prepare()

        def compute() -> LabelCheckResult:
            rows = candidates
            if relabelled.targets is not None:
                pairs = zip(candidates, relabelled.targets, strict=True)
                rows = [self._with_probabilities(candidate, values) for candidate, values in pairs]
            state.write_rows(f"{FINAL}/dataset.jsonl", (row.to_row() for row in rows))
            return LabelCheckResult(judges=judges, figures=relabelled.figures)

        return state.once(f"{FINAL}/label_check.json", LabelCheckResult, compute), relabelled

    def _calibrate(self) -> JudgesResult:
        context, folds = self.context, self.folds
        if not (context.settings.label_check and context.kind.has_labels):
            return JudgesResult(outcome="off")
        if not folds.count:
            return JudgesResult(outcome="undivided")
        judges = self._trained()
        with context.progress.step("the judges read dev", len(context.dev), "texts") as advance:
            predictions = judges.predict_proba(context.dev, advance)  # (n_folds, n_dev, n_labels)
        places = np.array(folds.divided(range(len(context.dev))))
        unseen = predictions[folds.of_row[places], places]
        context.state.write_rows(
            DEV_FILE,
            (
                {"id": context.dev[place].id, "probabilities": values.round(5).tolist()}
                for place, values in zip(places.tolist(), unseen, strict=True)
            ),
        )
        found = calibrate(unseen, context.label_numbers(folds.divided(context.dev)))
        return JudgesResult(
            outcome="applied" if found.holds else "no_gain",
            judges=folds.count,
            **dataclasses.asdict(found),
        )

    def _trained(self) -> Judges:
        if self._judges is None:
            context, folds = self.context, self.folds
            settings, count = context.settings.judging, self.folds.count
            seeds = [context.seed_for(JUDGES, fold) for fold in range(count)]
            with context.progress.step("the judges train", settings.passes * count, "texts") as advance:
                self._judges = context.models.train_judges(
                    context.models.judge,
                    context.dev,
                    context.task.label_names,
                    folds.of_row,
                    settings,
                    seeds,
                    context.kind.descriptions(),
                    advance,
                    context.executor,
                )
        return self._judges

    def _requested(self, candidates: Sequence[Candidate]) -> NDArray[np.int64]:
        """The number of the label that each text was requested as (n_candidates,); ``UNREQUESTED`` for real texts."""
        numbers = self.context.label_numbers([candidate.example for candidate in candidates])
        real = [is_unlabelled(candidate) for candidate in candidates]
        return np.where(real, UNREQUESTED, numbers)

    def _of_candidates(self, candidates: Sequence[Candidate]) -> NDArray[np.float32]:
        """The predictions of each judge, (n_judges, n_candidates, n_labels)."""
        return np.stack([self._predictions[candidate.example.id] for candidate in candidates], axis=1)

    def _with_probabilities(self, candidate: Candidate, probabilities: NDArray[Any]) -> Candidate:
        """The candidate with its likeliest label; the requested label, if there was one, and all probabilities go into
        its origin."""
        labels = self.context.task.label_names
        rounded = {label: round(float(value), 4) for label, value in zip(labels, probabilities, strict=True)}
        asked = {} if is_unlabelled(candidate) else {"asked": candidate.origin.get("asked", candidate.example.label)}
        origin = {**candidate.origin, **asked, "probabilities": rounded}
        return Candidate(dataclasses.replace(candidate.example, label=labels[int(np.argmax(probabilities))]), origin)


def training_set(
    context: RunContext, rows: Sequence[Example], targets: Targets | None, gold: Sequence[Example], seed: int
) -> TrainingSet:
    """Synthetic ``rows`` with their label probabilities ``targets`` (None: their own labels), and then ``gold`` rows,
    which a classifier learns last."""
    if targets is not None:
        own = np.eye(len(context.task.label_names), dtype=np.float32)[context.label_numbers(gold)]
        targets = np.concatenate([targets / targets.sum(axis=1, keepdims=True), own])
    return TrainingSet([*rows, *gold], seed, targets, len(gold) if context.kind.has_labels else 0)


def _calibration(judges: JudgesResult) -> Calibration:
    return Calibration(judges.n_rows, judges.exponent, judges.accuracy, judges.gain)
