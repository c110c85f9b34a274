"""Model selection: how far synthetic rows help, found by cross-validation on dev.

Between the gold-only student and the student of all rows lie the averages of their weights. The average of two models
that began with the same weights is itself a model, often better than both (Wortsman et al., "Model soups", 2022). For
each fold of dev, two students are trained without the fold and its descendants, and their averages are scored on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.calibration import fit_temperature, log_likelihood
from s3local.evaluation.metrics import share_interval
from s3local.records import Candidate
from s3local.results import SHARES, FoldResult, ModelSelectionResult, Verdict
from s3local.runner.context import MODEL_SELECTION, Folds, RunContext
from s3local.runner.relabel import training_set
from s3local.runner.task_kinds import Targets, TrainingSet
from s3local.student.training import Trained, averaged

NO_SYNTHETIC, ALL_SYNTHETIC = 0.0, 1.0
MOST_SHARE = 0.75
"""The largest share that is selected. Cross-validation cannot find it: the fold's gold-only students lack a fold of
gold rows, which costs them more than the others. With 60 gold rows and 1,000 synthetic ones, an average with this share
was 1.0 point more accurate than the final student on other rows of trec (five trainings on three draws: 0.6 to 1.7),
0.6 on ag_news (two: -0.5 and 1.7) and 0.2 less on sst2 (three: -0.7 to 0.6)."""

FOLD_PASSES = 1000
"""Rows that each of a fold's students is fine-tuned on, at most: half of what the final student gets, and about what a
student of a few dozen gold rows gets. Their contrastive warm-up is half as long, too."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The verdict with its cost, and the temperature of the average with each share."""

    result: ModelSelectionResult
    share: float
    temperatures: Mapping[float, float]


def select_model(
    context: RunContext,
    folds: Folds,
    candidates: Sequence[Candidate],
    fold_targets: Callable[[int], Targets | None],
) -> Selection:
    """Choose how much of the final student's weights goes into the selected average.

    ``fold_targets`` gives label probabilities (n_candidates, n_labels) that no row of the fold was used for; None where
    the requested labels stay. ``folds`` has at least one fold.
    """
    results = [
        context.state.once(
            f"model-selection/fold-{fold}.json",
            FoldResult,
            partial(_score_fold, context, folds, fold, candidates, fold_targets),
        )
        for fold in range(folds.count)
    ]
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


def _score_fold(
    context: RunContext,
    folds: Folds,
    fold: int,
    candidates: Sequence[Candidate],
    fold_targets: Callable[[int], Targets | None],
) -> FoldResult:
    """Score the average with each share on the fold, which neither of the two students was trained on."""
    held_out, gold = folds.inside(fold, context.dev), folds.outside(fold, context.dev)
    names = {row.id for row in held_out}
    free = [place for place, row in enumerate(candidates) if not names & set(ancestors(row))]
    rows = [candidates[place].example for place in free]
    targets = fold_targets(fold) if rows else None
    if targets is not None:
        targets = targets[free]
    seed = context.seed_for(MODEL_SELECTION, fold)
    name = f"model selection: fold {fold + 1} of {folds.count}"
    final = _train_briefly(context, training_set(context, rows, targets, gold, seed), f"{name}, final")
    gold_only = _train_briefly(context, TrainingSet(gold, seed), f"{name}, gold-only")
    scores = [context.kind.scores(averaged(final, gold_only, share), held_out) for share in SHARES]
    logits = [its.logits for its in scores if its.logits is not None]
    return FoldResult(
        synthetic_rows=len(rows),
        ids=tuple(row.id for row in held_out),
        scores=tuple(tuple(its.values.tolist()) for its in scores),
        logits=tuple(tuple(map(tuple, values.tolist())) for values in logits) if logits else None,
    )


def _train_briefly(context: RunContext, rows: TrainingSet, step: str) -> Trained:
    """A student of ``rows``, see ``FOLD_PASSES``."""
    settings = context.kind.training_settings(context.models.body).resolved(len(rows.rows))
    epochs = min(settings.epochs or 1, max(1, round(FOLD_PASSES / len(rows.rows))))
    settings = dataclasses.replace(settings, epochs=epochs, contrast_passes=settings.contrast_passes // 2)
    with context.progress.step(step, settings.passes(len(rows.rows)), "texts") as advance:
        return context.kind.train(context.models.body, rows, settings, advance)
