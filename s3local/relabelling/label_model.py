"""The label model: label probabilities of synthetic texts, from several judges and the requested labels.

A small local teacher often writes a text that does not carry the requested label. Judges see the text alone: each gives
every gold row and every candidate a probability for each label, and no judge was trained on a row that it predicts.
``fit_pool_weights`` weighs the judges by how well they explain the gold labels. ``combine_with_requested`` estimates
from the candidates how many texts carry their requested label. ``check_labels`` puts both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_GOLD = 4
"""Gold rows of each label that a label check needs: judges that are trained on two or three do more harm than good.
With 20 gold rows of six labels (trec, two draws), students of S3's rows were correct on 69.9 and 64.0 % of other rows
with requested labels, on 65.9 and 63.0 % with checked ones. With five gold rows of each label (ag_news), checked labels
are more often correct, if at most 90 % of the requested ones are."""
LEAST_PROBABILITY = 1e-6
"""Smaller predicted probabilities are raised to this: no judge knows more from a few dozen rows."""
MOST_POOL_WEIGHT = 5.0
POOL_WEIGHT_PENALTY = 0.02
"""Pulls the pool weights towards equal shares, so that a few dozen gold rows do not decide alone."""
SIGNIFICANCE = 0.05
"""How often judges that predict at random may pass for better than chance."""
TEMPER = 0.2
"""Exponent of a whole text's likelihood."""
LIKELY_LABELS = 3
LIKELY = 0.05
"""A slow judge chooses between so many labels of a row at most, each at least this share of the likeliest one's
probability."""
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Parts of the fitted pool weights that may hold for candidates, equally likely a priori. On a few gold rows the fitted
weights are optimistically biased, and the pool would be overconfident on candidates."""
SHARES = np.linspace(0.0, 0.98, 21)
"""Shares of a label's texts that may carry it, beyond those that would by chance."""
SHARE_PRIOR = SHARES * (1 - SHARES) / (SHARES * (1 - SHARES)).sum()
"""Prior of each share: neither a perfect teacher nor one that ignores the request is likely."""


@dataclass(frozen=True, slots=True)
class JudgePredictions:
    """One judge's label probabilities of the gold rows (n_gold, n_labels) and of the candidates
    (n_candidates, n_labels); it was trained on neither."""

    gold: NDArray[Any]
    candidates: NDArray[Any]


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """Label probabilities ``targets`` (n_candidates, n_labels), and how they came about.

    ``pool_weights`` is the exponent of each judge that explains gold best, ``scale`` the part of it that is expected to
    hold for candidates. ``correct`` (n_labels,) is the share of the texts requested with each label that is expected to
    carry it. ``gold`` (n_gold, n_labels) are the judges' joint probabilities of the gold rows, ``gain`` the nats by
    which these explain gold better than chance, see ``evidence``.
    """

    targets: Array
    pool_weights: dict[str, float]
    scale: float
    correct: Array
    gold: Array
    gain: float

    @property
    def holds(self) -> bool:
        """Whether the judges explain gold better than chance. If not, nothing speaks against the requested labels, and
        ``targets`` are no more than these with a guess at how often they are wrong."""
        return self.gain > 0


def check_labels(
    judges: Mapping[str, JudgePredictions],
    gold_labels: Sequence[int] | NDArray[np.int64],
    requested_labels: Sequence[int] | NDArray[np.int64],
    *,
    teacher_judges: bool = False,
) -> LabelCheck:
    """The probability of each label of each candidate, given the judges' predictions and the requested labels.

    ``gold_labels`` (n_gold,) and ``requested_labels`` (n_candidates,) are numbers of labels. ``teacher_judges``: the
    teacher that wrote the candidates is one of the judges. It reads a text with the same idea of a label that it wrote
    it with, so its requested label has half the weight: the targets are the mean of those with the requested labels and
    those of the judges alone.
    Raises ``ValueError`` for no judges or no gold rows.
    """
    if not judges or not len(gold_labels):
        raise ValueError("a label check needs judges and gold rows")
    gold, requested = np.asarray(gold_labels), np.asarray(requested_labels, dtype=np.int64)
    pool_weights = fit_pool_weights([its.gold for its in judges.values()], gold)
    of_gold, of_candidates = (
        _pooled(pool_weights, predictions)
        for predictions in zip(*((its.gold, its.candidates) for its in judges.values()), strict=True)
    )
    rows = np.arange(len(gold))
    weight = min(1.0, len(gold) / max(1, len(requested)))
    alone = [_softmax(scale * of_candidates) for scale in SCALES]
    combined = [combine_with_requested(pooled, requested, weight) for pooled in alone]
    likelihoods = [np.log(_softmax(scale * of_gold)[rows, gold]).sum() for scale in SCALES]
    posterior = _softmax(np.array([[its + one.evidence for its, one in zip(likelihoods, combined, strict=True)]]))[0]
    joint_of_gold = _softmax(of_gold)
    targets = np.tensordot(posterior, np.stack([one.targets for one in combined]), axes=1)
    if teacher_judges:
        targets = (targets + np.tensordot(posterior, np.stack(alone), axes=1)) / 2
    return LabelCheck(
        targets=targets,
        pool_weights=dict(zip(judges, (round(float(value), 4) for value in pool_weights), strict=True)),
        scale=float(posterior @ SCALES),
        correct=posterior @ np.stack([one.correct for one in combined]),
        gold=joint_of_gold,
        gain=evidence([], [its.gold for its in judges.values()], gold),
    )


def fit_pool_weights(judges: Sequence[NDArray[Any]], gold_labels: NDArray[np.int64]) -> Array:
    """The exponent of each judge (n_judges,), none negative, under which their joint probabilities explain gold best.

    ``judges`` are probabilities (n_gold, n_labels). The joint probabilities are a logarithmic opinion pool; a single
    judge gets the exponent that calibrates it, like a temperature.
    """
    from scipy.optimize import minimize

    logs = np.stack([_logs(judge) for judge in judges])  # (n_judges, n_gold, n_labels)
    start = np.full(len(judges), 1 / len(judges))
    rows = np.arange(len(gold_labels))

    def loss(pool_weights: Array) -> tuple[float, Array]:
        scores = np.tensordot(pool_weights, logs, axes=1)
        probabilities = _softmax(scores)
        likelihood = np.log(np.maximum(probabilities[rows, gold_labels], 1e-300)).mean()
        expected = (logs * probabilities).sum(axis=2).mean(axis=1)
        slope = expected - logs[:, rows, gold_labels].mean(axis=1)
        away = pool_weights - start
        return float(-likelihood + POOL_WEIGHT_PENALTY * (away**2).sum()), slope + 2 * POOL_WEIGHT_PENALTY * away

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, MOST_POOL_WEIGHT)] * len(judges))
    return np.asarray(found.x, dtype=np.float64)


def evidence(judges: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]], gold_labels: NDArray[np.int64]) -> float:
    """By how many nats the ``others`` raise the log-likelihood of all gold labels, beyond what chance explains.

    Arguments as for ``fit_pool_weights``; without ``judges``, labels have the frequencies that they have in gold. Above
    0 the others pass a likelihood-ratio test at ``SIGNIFICANCE``: each adds one fitted weight, so that judges which
    predict at random raise the log-likelihood by half a chi-square variable (Wilks, 1938). One nat for each weight, as
    in Akaike's criterion, let two such judges pass in 5 to 10 of 100 cases.
    """
    from scipy.stats import chi2

    rows = np.arange(len(gold_labels))

    def likelihood(some: Sequence[NDArray[Any]]) -> float:
        if not some:
            counts = np.unique(gold_labels, return_counts=True)[1]
            return float((counts * np.log(counts / len(rows))).sum())
        return float(np.log(joint(list(fit_pool_weights(some, gold_labels)), some)[rows, gold_labels]).sum())

    by_chance = float(chi2.ppf(1 - SIGNIFICANCE, len(others))) / 2
    return likelihood([*judges, *others]) - likelihood(judges) - by_chance


def tempered(logprobs: NDArray[Any]) -> Array:
    """Label probabilities (n, n_labels) from the log-probabilities of texts under each label, NaN where unknown.

    A label under which the model finds all texts likelier has no advantage: each label's mean over the rows is
    subtracted (on sst2, judges and teacher were correct on 76 with it, on 74 % of 250 rows without). An unknown value
    counts as the least known one of its row. The tokens of a text are no independent evidence, so the likelihoods are
    tempered: ``TEMPER`` is close to what ``fit_pool_weights`` finds, which corrects the rest.
    """
    values: Any = np.ma.masked_invalid(np.asarray(logprobs, dtype=np.float64))
    values = values - (values - values.mean(axis=1, keepdims=True)).mean(axis=0)
    least = np.ma.filled(values.min(axis=1, keepdims=True), 0.0)
    return _softmax(TEMPER * np.where(np.isnan(logprobs), least, np.ma.filled(values, 0.0)))


def in_question(probabilities: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each label of each row (n, n_labels) is one of several likely ones, see ``LIKELY``; all False in a row
    where a single label is likely."""
    values = np.asarray(probabilities)
    order = np.argsort(-values, axis=1, kind="stable")
    chosen = np.zeros(order.shape, dtype=np.bool_)
    np.put_along_axis(chosen, order[:, :LIKELY_LABELS], True, axis=1)
    chosen &= values >= LIKELY * values.max(axis=1, keepdims=True)
    chosen &= chosen.sum(axis=1, keepdims=True) > 1
    return chosen


def joint(pool_weights: Sequence[float], judges: Sequence[NDArray[Any]]) -> Array:
    """The judges' joint probabilities (n, n_labels): their product, each raised to its weight."""
    return _softmax(_pooled(pool_weights, judges))


@dataclass(frozen=True, slots=True)
class Combined:
    """Judges and requested labels combined, see ``combine_with_requested``.

    ``targets`` (n, n_labels) are label probabilities, ``correct`` (n_labels,) as in ``LabelCheck``, ``evidence`` the
    log-likelihood (nats) of the judges' predictions, averaged over the shares.
    """

    targets: Array
    correct: Array
    evidence: float


def combine_with_requested(pooled: Array, requested: NDArray[np.int64], weight: float) -> Combined:
    """Label probabilities of texts from the judges' ``pooled`` ones (n, n_labels) and the ``requested`` labels (n,).

    Of the texts requested with one label, a share carries it; the others carry any label. Each of ``SHARES`` is weighed
    by how well it explains the judges' predictions of that label's texts, and the result is the mean over all shares.
    (The mean probability of the requested label is no estimate of the share: unsure judges would make any teacher look
    poor.) Judges and teacher make the same mistakes, so texts are no independent evidence: each counts for ``weight``
    of one, and ``check_labels`` gives all of them together the weight of the gold rows.
    """
    n_labels = pooled.shape[1]
    targets = np.zeros_like(pooled)
    correct = np.zeros(n_labels)
    evidence = 0.0
    for label in range(n_labels):
        mine = requested == label
        prior = np.outer(1 - SHARES, np.full(n_labels, 1 / n_labels))  # (n_shares, n_labels)
        prior[:, label] += SHARES
        both = pooled[mine] * prior[:, None, :]  # (n_shares, n_mine, n_labels)
        likelihood = both.sum(axis=2)
        scores = weight * np.log(likelihood).sum(axis=1) + np.log(np.maximum(SHARE_PRIOR, LEAST_PROBABILITY))
        posterior = _softmax(scores[None])[0]
        evidence += float(np.log(np.exp(scores - scores.max()).sum()) + scores.max())
        targets[mine] = np.tensordot(posterior, both / likelihood[:, :, None], axes=1)
        correct[label] = posterior @ prior[:, label]
    return Combined(targets, correct, evidence)


def _pooled(pool_weights: Sequence[float] | Array, judges: Sequence[NDArray[Any]]) -> Array:
    """The weighted sum of the judges' log-probabilities, (n, n_labels)."""
    return np.asarray(np.tensordot(np.asarray(pool_weights), np.stack([_logs(judge) for judge in judges]), axes=1))


def _logs(probabilities: NDArray[Any]) -> Array:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST_PROBABILITY))


def _softmax(scores: Array) -> Array:
    return _normalised(np.exp(scores - scores.max(axis=1, keepdims=True)))


def _normalised(values: Array) -> Array:
    return np.asarray(values / values.sum(axis=1, keepdims=True), dtype=np.float64)
