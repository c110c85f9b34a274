"""Model selection: how far synthetic rows help, found by cross-validation on dev.

Between the gold-only student and the student of all rows lie the averages of their weights. The average of two models
that began with the same weights is itself a model, often better than both (Wortsman et al., "Model soups", 2022). For
each fold of dev, two students are trained without the fold and its descendants, and their averages are scored on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.calibration import fit_temperature, log_likelihood
from s3local.evaluation.metrics import share_interval
from s3local.progress import Advance, ignore
from s3local.records import Candidate, Example
from s3local.results import ALL_SYNTHETIC, NO_SYNTHETIC, SHARES, FoldResult, ModelSelectionResult, Verdict
from s3local.runner.context import MODEL_SELECTION, Folds, RunContext
from s3local.runner.relabel import training_set
from s3local.runner.task_kinds import Targets, Texts, TrainingSet
from s3local.student.training import StudentSettings, Trained, averaged

MOST_SHARE = 0.75
"""The largest share that is selected. Cross-validation cannot find it: the fold's gold-only students lack a fold of
gold rows, which costs them more than the others. On one draw of trec and of sst2, with 60 gold rows and 600 synthetic
ones, an average with this share was right on 82.1 and 79.9 % of other rows (means of three trainings), the final
student on 81.5 and 79.8 %."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The verdict with its cost, and the temperature of the average with each share."""

    result: ModelSelectionResult
    share: float
    temperatures: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class FoldJob:
    """Two students, of ``final`` and of ``gold_only``, whose averages are scored on ``held_out``."""

    kind: Texts
    body: Path
    final: TrainingSet
    gold_only: TrainingSet
    held_out: Sequence[Example]

    @property
    def passes(self) -> int:
        """The texts that go through both students while they train."""
        return sum(_passes(self.kind, self.body, rows) for rows in (self.final, self.gold_only))


def fold_jobs(
    context: RunContext,
    folds: Folds,
    candidates: Sequence[Candidate],
    fold_targets: Callable[[int], Targets | None],
) -> dict[str, FoldJob]:
    """The jobs of the folds that are still to be scored, by the names of their markers.

    ``fold_targets`` gives label probabilities (n_candidates, n_labels) that no row of the fold was used for; None where
    the requested labels stay.
    """
    return {
        name: _fold_job(context, folds, fold, candidates, fold_targets)
        for fold in range(folds.count)
        if context.state.read(name := _marker(fold), FoldResult) is None
    }


def score_fold(job: FoldJob, advance: Advance = ignore) -> FoldResult:
    """Score the average with each share on the fold, which neither of the two students was trained on."""
    final = _train_briefly(job.kind, job.body, job.final, advance)
    gold_only = _train_briefly(job.kind, job.body, job.gold_only, advance)
    scores = [job.kind.scores(averaged(final, gold_only, share), job.held_out) for share in SHARES]
    logits = [its.logits for its in scores if its.logits is not None]
    return FoldResult(
        synthetic_rows=len(job.final.rows) - len(job.gold_only.rows),
        ids=tuple(row.id for row in job.held_out),
        scores=tuple(tuple(its.values.tolist()) for its in scores),
        logits=tuple(tuple(map(tuple, values.tolist())) for values in logits) if logits else None,
    )


def select_model(context: RunContext, folds: Folds) -> Selection:
    """Choose how much of the final student's weights goes into the selected average, by the folds' markers.

    ``folds`` has at least one fold, and all of them are scored.
    """
    found = [context.state.read(_marker(fold), FoldResult) for fold in range(folds.count)]
    results = [result for result in found if result is not None]
    if len(results) != folds.count:
        raise ValueError(f"{folds.count - len(results)} folds are not scored")
    counts = [result.synthetic_rows for result in results]
    scores = {share: np.concatenate([result.scores[n] for result in results]) for n, share in enumerate(SHARES)}
    likelihoods, temperatures = None, dict.fromkeys(SHARES, 1.0)
    known = [result.logits for result in results if result.logits is not None]
    if known:
        by_id = {row.id: row for row in context.dev}
        labels = context.label_numbers([by_id[name] for result in results for name in result.ids])
        logits = {share: np.concatenate([values[n] for values in known]) for n, share in enumerate(SHARES)}
        likelihoods = {share: log_likelihood(values, labels) for share, values in logits.items()}
        temperatures = {share: fit_temperature(values, labels) for share, values in logits.items()}
    verdict = choose_share(scores, counts, likelihoods)
    seconds = round(sum(result.seconds for result in results), 3)
    result = ModelSelectionResult(outcome="done", verdict=verdict, seconds=seconds)
    return Selection(result, verdict.share, temperatures)


def choose_share(
    scores: Mapping[float, NDArray[np.float64]],
    synthetic_rows: Sequence[int],
    likelihoods: Mapping[float, float] | None = None,
) -> Verdict:
    """The verdict on the scores of each share, from 0 to 1, (n_rows,), with 0 and 1 among the shares.

    Of the shares up to ``MOST_SHARE``, the one with the highest of ``likelihoods`` (nats a row) is chosen or, where
    there are none, the one with the highest mean score; of equal ones the smallest. The accuracy on a few dozen rows
    has an error of several points; the probability of the correct labels says more.
    Raises ``ValueError`` for no rows.
    """
    n_rows = len(scores[NO_SYNTHETIC])
    if not n_rows:
        raise ValueError("there are no rows to compare on")
    means = {share: float(values.mean()) for share, values in scores.items()}
    merits = means if likelihoods is None else likelihoods
    share = max(sorted(its for its in merits if its <= MOST_SHARE), key=lambda its: merits[its])
    low, high = share_interval(means[share], n_rows)
    return Verdict(
        share=share,
        final=means[ALL_SYNTHETIC],
        gold_only=means[NO_SYNTHETIC],
        selected=means[share],
        low=low,
        high=high,
        gain=None if likelihoods is None else likelihoods[share] - likelihoods[NO_SYNTHETIC],
        n_rows=n_rows,
        synthetic_rows=tuple(synthetic_rows),
    )


def ancestors(candidate: Candidate) -> list[str]:
    """The ids of the gold rows that a text's prompt showed; not those of the contrast prompt."""
    origin = candidate.origin
    return [name for name in (origin.get("error"), origin.get("context"), *origin.get("shots", ())) if name]


def _marker(fold: int) -> str:
    return f"model-selection/fold-{fold}.json"


def _fold_job(
    context: RunContext,
    folds: Folds,
    fold: int,
    candidates: Sequence[Candidate],
    fold_targets: Callable[[int], Targets | None],
) -> FoldJob:
    """The students of a fold see neither its rows nor what descends from them."""
    held_out, gold = folds.inside(fold, context.dev), folds.outside(fold, context.dev)
    names = {row.id for row in held_out}
    free = [place for place, row in enumerate(candidates) if not names & set(ancestors(row))]
    rows = [candidates[place].example for place in free]
    targets = fold_targets(fold) if rows else None
    if targets is not None:
        targets = targets[free]
    seed = context.seed_for(MODEL_SELECTION, fold)
    final = training_set(context, rows, targets, gold, seed)
    return FoldJob(context.kind, context.models.body, final, TrainingSet(gold, seed), held_out)


def _passes(kind: Texts, body: Path, rows: TrainingSet) -> int:
    return rows.passes(_brief_settings(kind, body))


def _train_briefly(kind: Texts, body: Path, rows: TrainingSet, advance: Advance) -> Trained:
    return kind.train(body, rows, _brief_settings(kind, body), advance)


def _brief_settings(kind: Texts, body: Path) -> StudentSettings:
    return dataclasses.replace(kind.training_settings(body), brief=True)
