"""How probable each label of a text is, by several judges whose trust is learned from gold.

A small local teacher often writes a text that does not carry the label it was asked for. Judges see the text alone:
each gives every gold row and every candidate a probability for each label, and no judge was trained on a row that it
judges. ``fit_trust`` weighs the judges by how well they explain the gold labels; ``teacher_noise`` estimates from
the candidates themselves how often the teacher writes one label for another; ``check_labels`` puts both together.
Knows nothing of how judges are made, of models or of test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_PROBABILITY = 1e-6
"""A judge that gives less is taken to mean this: none is ever so sure on a few dozen rows."""
MOST_TRUST = 5.0
TRUST_PENALTY = 0.02
"""Pulls the trusts towards equal shares, so that a few dozen gold rows do not decide alone."""
TEMPER = 0.2
"""Trust in a log-probability of a whole text."""
LIKELY_LABELS = 3
LIKELY = 0.05
"""A slow judge chooses between so many labels of a row at most, each as probable as this share of the likeliest one."""
NOISE_PRIOR = 1.0
"""Texts of each label that the teacher is taken to have spread evenly over all labels, before any are counted."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one judge says: label probabilities of the gold rows (n_gold, n_labels) and of the candidates
    (n_candidates, n_labels), neither of which it was trained on."""

    gold: NDArray[Any]
    candidates: NDArray[Any]


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """Label probabilities ``targets`` (n_candidates, n_labels), and what they come from.

    ``trust`` is the exponent of each judge. ``noise`` (n_labels, n_labels) says how probable it is that a text of a
    row's label was asked for as one of the column's (``teacher_noise``). ``gold`` (n_gold, n_labels) are the judges'
    joint probabilities of the gold rows, ``gain`` the nats by which these explain gold better than chance, see
    ``evidence``.
    """

    targets: Array
    trust: dict[str, float]
    noise: Array
    gold: Array
    gain: float

    @property
    def holds(self) -> bool:
        """Whether the judges know more of gold than chance. Where they do not, ``targets`` are worth less than the
        labels asked for: unsure of every text, the judges take the teacher for as unsure as themselves."""
        return self.gain > 0


def check_labels(
    opinions: Mapping[str, Opinion],
    gold_labels: Sequence[int] | NDArray[np.int64],
    candidate_labels: Sequence[int] | NDArray[np.int64],
) -> LabelCheck:
    """The probability of each label of each candidate, given the judges and the label that the teacher was asked for.

    ``gold_labels`` (n_gold,) and ``candidate_labels`` (n_candidates,) are numbers of labels.
    Raises ``ValueError`` for no judges or no gold rows.
    """
    if not opinions or not len(gold_labels):
        raise ValueError("a label check needs judges and gold rows")
    gold, asked = np.asarray(gold_labels), np.asarray(candidate_labels, dtype=np.int64)
    trust = fit_trust([opinion.gold for opinion in opinions.values()], gold)
    opinion = joint(list(trust), [opinion.candidates for opinion in opinions.values()])
    noise = teacher_noise(opinion, asked)
    of_gold = joint(list(trust), [opinion.gold for opinion in opinions.values()])
    return LabelCheck(
        targets=_normalised(opinion * noise[:, asked].T),
        trust=dict(zip(opinions, (round(float(value), 4) for value in trust), strict=True)),
        noise=noise,
        gold=of_gold,
        gain=evidence([], of_gold, gold),
    )


def fit_trust(judges: Sequence[NDArray[Any]], gold_labels: NDArray[np.int64]) -> Array:
    """The exponent of each judge (n_judges,), none negative, under which their joint probabilities explain gold best.

    ``judges`` are probabilities (n_gold, n_labels). A logarithmic opinion pool; one judge alone gets the exponent
    that calibrates it, as a temperature does.
    """
    from scipy.optimize import minimize

    logs = np.stack([_logs(judge) for judge in judges])  # (n_judges, n_gold, n_labels)
    start = np.full(len(judges), 1 / len(judges))
    rows = np.arange(len(gold_labels))

    def loss(trust: Array) -> tuple[float, Array]:
        scores = np.tensordot(trust, logs, axes=1)
        probabilities = _softmax(scores)
        likelihood = np.log(np.maximum(probabilities[rows, gold_labels], 1e-300)).mean()
        expected = (logs * probabilities).sum(axis=2).mean(axis=1)
        slope = expected - logs[:, rows, gold_labels].mean(axis=1)
        away = trust - start
        return float(-likelihood + TRUST_PENALTY * (away**2).sum()), slope + 2 * TRUST_PENALTY * away

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, MOST_TRUST)] * len(judges))
    return np.asarray(found.x, dtype=np.float64)


def evidence(judges: Sequence[NDArray[Any]], other: NDArray[Any], gold_labels: NDArray[np.int64]) -> float:
    """By how many nats the ``other`` judge raises the log-likelihood of all gold labels, beyond the one nat that a
    judge without any knowledge would raise it by chance (Akaike's criterion). Arguments as for ``fit_trust``; without
    ``judges``, every label is as likely as any other."""
    rows = np.arange(len(gold_labels))

    def likelihood(some: Sequence[NDArray[Any]]) -> float:
        if not some:
            return -len(rows) * math.log(other.shape[1])
        return float(np.log(joint(list(fit_trust(some, gold_labels)), some)[rows, gold_labels]).sum())

    return likelihood([*judges, other]) - likelihood(judges) - 1.0


def tempered(logprobs: NDArray[Any]) -> Array:
    """Label probabilities (n, n_labels) from the log-probabilities of texts under each label, NaN where unknown.

    A label under which the model finds all texts likelier gets no more for that: how far a label lies above the others
    is taken off, on average over the rows (on sst2, the judges and the teacher were right on 76 in place of 74 % of 250
    rows by that). What is unknown counts as the least likely label that is known of its row. The tokens of a text are
    no independent pieces of evidence: taken as such they would make a model far too sure. ``TEMPER`` comes close to
    what ``fit_trust`` finds, which does the rest.
    """
    values: Any = np.ma.masked_invalid(np.asarray(logprobs, dtype=np.float64))
    values = values - (values - values.mean(axis=1, keepdims=True)).mean(axis=0)
    least = np.ma.filled(values.min(axis=1, keepdims=True), 0.0)
    return _softmax(TEMPER * np.where(np.isnan(logprobs), least, np.ma.filled(values, 0.0)))


def in_question(probabilities: NDArray[Any]) -> NDArray[np.bool_]:
    """Between which labels of each row there is a choice, (n, n_labels): none where one stands out, see ``LIKELY``."""
    values = np.asarray(probabilities)
    order = np.argsort(-values, axis=1, kind="stable")
    chosen = np.zeros(order.shape, dtype=np.bool_)
    np.put_along_axis(chosen, order[:, :LIKELY_LABELS], True, axis=1)
    chosen &= values >= LIKELY * values.max(axis=1, keepdims=True)
    chosen &= chosen.sum(axis=1, keepdims=True) > 1
    return chosen


def joint(trust: Sequence[float], judges: Sequence[NDArray[Any]]) -> Array:
    """The judges' joint probabilities (n, n_labels): their product, each raised to its trust."""
    return _softmax(np.tensordot(np.asarray(trust), np.stack([_logs(judge) for judge in judges]), axes=1))


def teacher_noise(opinion: Array, asked: NDArray[np.int64]) -> Array:
    """How often the teacher writes a text of one label when it is asked for another: (n_labels, n_labels).

    Entry (y, t) is the share of the judges' belief in y, ``opinion`` (n, n_labels), that lies on texts written for t;
    rows add up to 1. Judges who hardly ever agree with the teacher, or who are unsure, give flat rows, under which
    its labels count for little. (Repeating the step with the corrected probabilities, as Dawid and Skene do, takes
    agreement between judges and teacher for proof of both; they share too many mistakes for that.)
    """
    n_labels = opinion.shape[1]
    counts = opinion.T @ np.eye(n_labels)[asked] + NOISE_PRIOR / n_labels
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float64)


def _logs(probabilities: NDArray[Any]) -> Array:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST_PROBABILITY))


def _softmax(scores: Array) -> Array:
    return _normalised(np.exp(scores - scores.max(axis=1, keepdims=True)))


def _normalised(values: Array) -> Array:
    return np.asarray(values / values.sum(axis=1, keepdims=True), dtype=np.float64)
