"""The probability of each label of a text, from the judges and from the label that the teacher was asked for.

A small local teacher often writes a text that does not carry the requested label. The judges see the text alone.
``calibrate`` fits how far their probabilities can be trusted, on dev rows that they were not trained on, and says
whether they know more than chance. ``label_probabilities`` adds the requested label, for as much as the judges do not
know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNREQUESTED = -1
"""In place of a requested label: the text was not written for any."""
LEAST_PROBABILITY = 1e-6
"""Lower probabilities of a judge count as this: none can be so sure after a few dozen rows."""
MOST_EXPONENT = 5.0
EXPONENT_PENALTY = 0.02
"""Pulls the exponent towards 1, so that a few dozen gold rows do not decide alone."""
CHANCE_NATS = 2.0
"""Nats by which judges that know nothing explain the gold labels better than chance in 2 of 100 tries: the likelihood
ratio test of one parameter, the exponent, which is 0 for such judges and cannot be negative."""
SHARES = np.linspace(0.0, 0.98, 21)
"""The shares of a label's texts that may carry it, beyond those that would by chance."""
SHARE_PRIOR = SHARES * (1 - SHARES) / (SHARES * (1 - SHARES)).sum()
"""The prior probability of each share: the teacher is neither perfect nor writes at random."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far the judges' probabilities hold on gold rows that they were not trained on.

    ``n_rows`` are the gold rows. ``exponent`` is applied to their probabilities: below 1 they are too sure, as a
    temperature above 1 says. ``accuracy`` is the share of gold rows that they label correctly. ``gain`` is by how many
    nats they explain the gold labels better than the labels' frequencies do, less ``CHANCE_NATS``.
    """

    n_rows: int
    exponent: float
    accuracy: float
    gain: float

    @property
    def holds(self) -> bool:
        """Whether the judges know more than chance."""
        return self.gain > 0


def calibrate(judged: NDArray[Any], gold_labels: NDArray[np.int64]) -> Calibration:
    """The calibration of judges whose probabilities of the gold rows are ``judged`` (n_gold, n_labels).

    ``gold_labels`` (n_gold,) are the indices of the rows' labels. Raises ``ValueError`` without rows.
    """
    from scipy.optimize import minimize_scalar

    if not len(gold_labels):
        raise ValueError("judges are calibrated on gold rows; there are none")
    logs, rows = _logs(judged), np.arange(len(gold_labels))

    def loss(exponent: float) -> float:
        likelihood = np.log(_softmax(exponent * logs)[rows, gold_labels]).mean()
        return float(EXPONENT_PENALTY * (exponent - 1) ** 2 - likelihood)

    exponent = float(minimize_scalar(loss, bounds=(0.0, MOST_EXPONENT), method="bounded").x)
    likelihood = float(np.log(_softmax(exponent * logs)[rows, gold_labels]).sum())
    counts = np.unique(gold_labels, return_counts=True)[1]
    of_frequencies = float((counts * np.log(counts / len(rows))).sum())
    return Calibration(
        n_rows=len(rows),
        exponent=exponent,
        accuracy=float((logs.argmax(axis=1) == gold_labels).mean()),
        gain=likelihood - of_frequencies - CHANCE_NATS,
    )


@dataclass(frozen=True, slots=True)
class LabelModel:
    """Label probabilities ``targets`` (n, n_labels); ``correct`` (n_labels,) is the share of the texts requested as
    each label that is estimated to carry it."""

    targets: Array
    correct: Array


def label_probabilities(judged: NDArray[Any], requested: NDArray[np.int64], calibration: Calibration) -> LabelModel:
    """The label probabilities of texts, from the judges' probabilities ``judged`` (n, n_labels) and the labels
    ``requested`` from the teacher (n,), as indices; of a text that is ``UNREQUESTED``, only the judges say the label.

    Of the texts requested as one label, a share carries it and the others carry any label. Each of ``SHARES`` is
    weighed by how well it explains what the judges say of that label's texts; judges and teacher make the same
    mistakes, so that all texts together count as no more pieces of evidence than there are gold rows. What the
    requested label adds to the judges is then raised to the judges' error rate on gold, as a share of that of guessing:
    it counts in full beside judges that know nothing, and not at all beside judges that are always right.
    """
    opinion = _softmax(calibration.exponent * _logs(judged))
    n_labels = opinion.shape[1]
    evidence = min(1.0, calibration.n_rows / max(1, int((requested != UNREQUESTED).sum())))
    weight = min(1.0, (1 - calibration.accuracy) / (1 - 1 / n_labels))
    targets, correct = opinion.copy(), np.zeros(n_labels)
    for label in range(n_labels):
        mine = requested == label
        carried = np.outer(1 - SHARES, np.full(n_labels, 1 / n_labels))  # (n_shares, n_labels)
        carried[:, label] += SHARES
        seen = (opinion[mine] * carried[:, None, :]).sum(axis=2)  # (n_shares, n_mine)
        scores = evidence * np.log(seen).sum(axis=1) + np.log(np.maximum(SHARE_PRIOR, LEAST_PROBABILITY))
        chances = _softmax(scores[None])[0]
        correct[label] = chances @ carried[:, label]
        targets[mine] = _softmax(np.log(opinion[mine]) + weight * np.log(chances @ carried))
    return LabelModel(targets, correct)


def _logs(probabilities: NDArray[Any]) -> Array:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST_PROBABILITY))


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)
