"""What is known of a run's selected student: from which rows, how good it is, and beside which baselines.

A figure counts only if the student was not trained on its rows. In order of preference: the test rows; the dev rows in
the cross-validation of model selection; and the dev rows as the last round's student predicts them, which was trained
on synthetic rows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from s3local.comparison.significance import Comparison, compare_pair
from s3local.evaluation.metrics import ClassificationMetrics, classification_metrics, share_interval
from s3local.evaluation.predictions import Prediction
from s3local.evaluation.squad import AnswerMetrics, exact_match
from s3local.report.run_record import RunRecord
from s3local.results import (
    AVERAGED,
    FINAL_WITHOUT_GOLD,
    GOLD_ONLY,
    NO_SYNTHETIC,
    SHARES,
    Metrics,
    StudentResult,
    Verdict,
)

Source = Literal["test", "cross-validation", "last round"]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean score from 0 to 1 with its 95 % interval, over ``n_rows`` rows."""

    value: float
    low: float
    high: float
    n_rows: int

    @classmethod
    def of(cls, value: float, n_rows: int) -> Score:
        """The score with the interval of ``share_interval``."""
        return cls(value, *share_interval(value, n_rows), n_rows)

    @classmethod
    def from_metrics(cls, metrics: Metrics) -> Score:
        """The score that sums up ``metrics``."""
        if isinstance(metrics, AnswerMetrics):
            return cls(metrics.f1, metrics.f1_low, metrics.f1_high, metrics.n_rows)
        return cls(metrics.accuracy, metrics.accuracy_low, metrics.accuracy_high, metrics.n_rows)


@dataclass(frozen=True, slots=True)
class Judged:
    """Held-out rows as a student predicts them, in parallel: ids, own and predicted labels (or answers), the
    probability of the prediction, and whether it is right. An answer is right if it matches exactly."""

    ids: Sequence[str]
    gold: Sequence[str]
    predicted: Sequence[str]
    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of the selected student, and on which rows.

    ``selected`` is None if the selected student was not measured on rows that it was not trained on; then ``judged``
    and ``metrics`` are those of the last round's student, whose score is ``last_round``. ``gold_only`` and
    ``seed_only`` are the baselines on the same kind of rows, ``most_frequent`` the share of the most frequent label.
    ``difference`` compares the selected student with the gold-only one, row by row; None where they are the same one,
    or where it is unknown. ``judged`` is None where single predictions are not known.
    """

    source: Source
    selected: Score | None
    last_round: Score
    gold_only: Score | None
    seed_only: Score | None
    most_frequent: float | None
    difference: Comparison | None
    judged: Judged | None
    metrics: ClassificationMetrics | None


def find_evidence(record: RunRecord) -> Evidence:
    """The best evidence that the run holds, see the module."""
    summary = record.summary
    if summary.selected_student.test is not None:
        return _from_test(record, summary.selected_student)
    verdict = summary.model_selection.verdict
    if verdict is not None and record.folds and summary.selected in (GOLD_ONLY, AVERAGED):
        return _from_cross_validation(record, verdict)
    return _from_last_round(record)


def _from_test(record: RunRecord, selected: StudentResult) -> Evidence:
    summary = record.summary
    assert selected.test is not None
    judged = _judged(record.test_predictions[selected.stage])
    gold_only = summary.gold_only
    difference = None
    if gold_only is not None and gold_only.test is not None and gold_only is not selected and record.labels:
        right = {its.id: its.right for its in record.test_predictions[gold_only.stage]}
        difference = compare_pair(judged.right[None], np.array([[right[name] for name in judged.ids]]))
    last, seed = summary.rounds[-1].student.test, summary.rounds[0].student.test
    assert last is not None and seed is not None  # all students are scored on test, or none
    return Evidence(
        source="test",
        selected=Score.from_metrics(selected.test),
        last_round=Score.from_metrics(last),
        gold_only=None if gold_only is None or gold_only.test is None else Score.from_metrics(gold_only.test),
        seed_only=_seed_score(record, seed),
        most_frequent=_most_frequent(record, judged.gold),
        difference=difference,
        judged=judged,
        metrics=_metrics(record, judged),
    )


def _from_cross_validation(record: RunRecord, verdict: Verdict) -> Evidence:
    """The held-out rows of all folds, as the average with the selected share predicts them."""
    summary, folds = record.summary, record.folds
    place = SHARES.index(verdict.share)
    scores = {share: np.concatenate([fold.scores[SHARES.index(share)] for fold in folds]) for share in SHARES}
    ids = [name for fold in folds for name in fold.ids]
    judged, difference = None, None
    logits = [fold.logits[place] for fold in folds if fold.logits is not None]
    if logits:
        own = {its.id: str(its.label) for its in record.rounds[-1].predictions}
        values = np.concatenate([np.asarray(rows) for rows in logits]) / summary.selected_student.temperature
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        predicted = [record.labels[best] for best in probabilities.argmax(axis=1).tolist()]
        gold = [own[name] for name in ids]
        right = np.array(gold) == np.array(predicted)
        judged = Judged(ids, gold, predicted, probabilities.max(axis=1), right)
        if verdict.share != NO_SYNTHETIC:
            difference = compare_pair(scores[verdict.share][None] > 0.5, scores[NO_SYNTHETIC][None] > 0.5)
    return Evidence(
        source="cross-validation",
        selected=Score(verdict.selected, verdict.low, verdict.high, verdict.n_rows),
        last_round=Score.from_metrics(summary.rounds[-1].student.dev),
        gold_only=Score.of(verdict.gold_only, verdict.n_rows),
        seed_only=_seed_score(record, summary.rounds[0].student.dev),
        most_frequent=None if judged is None else _most_frequent(record, judged.gold),
        difference=difference,
        judged=judged,
        metrics=None if judged is None else _metrics(record, judged),
    )


def _from_last_round(record: RunRecord) -> Evidence:
    """Dev as the last round's student predicts it. Without gold that is the selected student."""
    summary, last = record.summary, record.summary.rounds[-1].student
    score = Score.from_metrics(last.dev)
    judged = _judged(record.rounds[-1].predictions)
    is_selected = not summary.with_gold and summary.selected in ("final", FINAL_WITHOUT_GOLD)
    return Evidence(
        source="last round",
        selected=score if is_selected else None,
        last_round=score,
        gold_only=None,
        seed_only=_seed_score(record, summary.rounds[0].student.dev),
        most_frequent=_most_frequent(record, judged.gold),
        difference=None,
        judged=judged,
        metrics=_metrics(record, judged),
    )


def _seed_score(record: RunRecord, metrics: Metrics) -> Score | None:
    """The score of the first round's student, which learned the seed alone; None if that round is no seed."""
    return None if record.config["settings"].get("extrapolate") == "dev" else Score.from_metrics(metrics)


def _judged(predictions: Sequence[Prediction]) -> Judged:
    own = [(its.gold,) if isinstance(its.gold, str) else its.gold for its in predictions]
    right = [
        exact_match(its.predicted, answers) == 1 if its.right is None else its.right
        for its, answers in zip(predictions, own, strict=True)
    ]
    return Judged(
        [its.id for its in predictions],
        [answers[0] for answers in own],
        [its.predicted for its in predictions],
        np.array([its.probability for its in predictions], dtype=np.float64),
        np.array(right, dtype=np.bool_),
    )


def _metrics(record: RunRecord, judged: Judged) -> ClassificationMetrics | None:
    return classification_metrics(judged.gold, judged.predicted, record.labels) if record.labels else None


def _most_frequent(record: RunRecord, gold: Sequence[str]) -> float | None:
    return Counter(gold).most_common(1)[0][1] / len(gold) if record.labels and gold else None


def dev_predictions(record: RunRecord, evidence: Evidence) -> Mapping[str, tuple[str, float]]:
    """The predicted label and its probability of each dev row, by its id: in cross-validation, else by the last round's
    student. No student was trained on the row that it predicts."""
    if evidence.source == "cross-validation" and evidence.judged is not None:
        judged = evidence.judged
        guesses: list[tuple[str, Any]] = list(zip(judged.predicted, judged.confidence.tolist(), strict=True))
        return dict(zip(judged.ids, guesses, strict=True))
    return {its.id: (its.predicted, its.probability) for its in record.rounds[-1].predictions}
