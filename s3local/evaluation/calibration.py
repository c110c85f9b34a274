"""Calibration of a classifier's probabilities: how far they are off, temperature scaling, and what a threshold does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.5, 10.0
"""Without bounds, a few dev rows that are all predicted correctly would give a temperature of 0."""


def fit_temperature(logits: NDArray[Any], labels: Sequence[int] | NDArray[Any]) -> float:
    """The temperature T for which softmax(logits / T) gives the labels the highest likelihood.

    ``logits`` is (n_rows, n_labels), ``labels`` (n_rows,) holds the index of each row's true label; the student must
    not have trained on these rows. The result is between ``LOWEST_TEMPERATURE`` and ``HIGHEST_TEMPERATURE``.
    Raises ``ValueError`` for no rows or arrays that do not fit.
    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
    """
    scores = np.asarray(logits, dtype=np.float64)
    gold = np.asarray(labels)
    if scores.ndim != 2 or gold.shape != scores.shape[:1] or not len(gold):
        raise ValueError(f"logits of shape {scores.shape} and labels of shape {gold.shape} do not fit")
    true_scores = scores[np.arange(len(gold)), gold]
    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    for _ in range(50):  # the likelihood is concave in 1/T, so its slope changes sign once
        middle = (low + high) / 2
        powers = np.exp(middle * (scores - scores.max(axis=1, keepdims=True)))
        expected = (powers * scores).sum(axis=1) / powers.sum(axis=1)
        if (true_scores - expected).sum() > 0:
            low = middle
        else:
            high = middle
    return 2 / (low + high)


def log_likelihood(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The mean log-probability (nats) of the rows' own ``labels`` (n_rows,) by ``logits`` (n_rows, n_labels).

    It is taken at the best temperature, because an exported student is calibrated as well: a correct student must not
    lose for being over- or underconfident.
    """
    scores = logits / fit_temperature(logits, labels)
    scores = scores - scores.max(axis=1, keepdims=True)
    return float((scores[np.arange(len(labels)), labels] - np.log(np.exp(scores).sum(axis=1))).mean())


def expected_calibration_error(
    probabilities: NDArray[Any], labels: Sequence[int] | NDArray[Any], bins: int = 10
) -> float:
    """How far confidence and accuracy are apart, from 0 to 1: their mean absolute difference over ``bins``.

    ``probabilities`` is (n_rows, n_labels), ``labels`` (n_rows,) holds the index of each row's true label. A row's
    confidence is its highest probability; the bins divide 0 to 1 evenly and count by their rows.
    Raises ``ValueError`` for no rows or bins, or arrays that do not fit.
    Source: Guo et al., 2017, equation 3.
    """
    chances, gold = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if chances.ndim != 2 or gold.shape != chances.shape[:1] or not len(gold):
        raise ValueError(f"probabilities of shape {chances.shape} and labels of shape {gold.shape} do not fit")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    found = reliability(chances.max(axis=1), chances.argmax(axis=1) == gold, bins)
    return calibration_error(found)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The rows whose confidence is from ``low`` to ``high``: how many, their mean confidence, and the share of them
    that is right."""

    low: float
    high: float
    n_rows: int
    confidence: float
    accuracy: float


def reliability(confidence: NDArray[Any], right: NDArray[Any], bins: int = 10) -> list[ReliabilityBin]:
    """The rows by their confidence, in ``bins`` that divide 0 to 1 evenly; a bin without rows is left out.

    ``confidence`` (n_rows,) is a row's highest probability, ``right`` (n_rows,) says whether it is predicted correctly.
    Source: Guo et al., 2017, section 2.
    """
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    confidences, rights = (np.bincount(bin_of, weights=values, minlength=bins) for values in (confidence, right))
    return [
        ReliabilityBin(n / bins, (n + 1) / bins, int(count), float(confidences[n] / count), float(rights[n] / count))
        for n, count in enumerate(counts)
        if count
    ]


def calibration_error(found: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error of all rows in these bins, see ``expected_calibration_error``."""
    total = sum(entry.n_rows for entry in found)
    return sum(entry.n_rows * abs(entry.accuracy - entry.confidence) for entry in found) / total


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """What a classifier does that leaves rows with a confidence below ``threshold`` unanswered: it answers
    ``n_answered`` rows, which are the share ``coverage`` of all, and ``accuracy`` of these is right."""

    threshold: float
    n_answered: int
    coverage: float
    accuracy: float


def coverage_curve(confidence: NDArray[Any], right: NDArray[Any]) -> list[CoveragePoint]:
    """A point for each distinct confidence as threshold, from the highest to the lowest, which answers all rows.

    The arguments are those of ``reliability``. Source: El-Yaniv and Wiener, "On the Foundations of Noise-free Selective
    Classification", 2010 (the risk-coverage curve).
    """
    order = np.argsort(-confidence, kind="stable")
    ordered, correct = confidence[order], np.cumsum(right[order])
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))[: len(ordered)]
    return [
        CoveragePoint(float(ordered[n]), int(n) + 1, (int(n) + 1) / len(ordered), float(correct[n]) / (int(n) + 1))
        for n in last
    ]


def answered(confidence: NDArray[Any], right: NDArray[Any], threshold: float) -> CoveragePoint | None:
    """What a classifier does with this ``threshold``; None if it answers no row."""
    above = confidence >= threshold
    count = int(above.sum())
    return CoveragePoint(threshold, count, count / len(above), float(right[above].mean())) if count else None
