"""Thresholds of abstention: which predictions to trust, chosen on rows that the classifier was not trained on.

A prediction counts if its probability reaches the threshold; the classifier abstains from the others. A higher
threshold answers fewer rows (coverage), of which more are correct (selective accuracy).
Source: El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", 2010.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.metrics import share_interval

TARGETS = (0.8, 0.85, 0.9, 0.95, 0.99)
"""The accuracies that ``thresholds`` looks for."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a threshold does on ``n_rows`` held-out rows: the share that is answered, and the accuracy on these.

    ``low`` and ``high`` bound the accuracy's 95 % interval. It was chosen on the same rows, which makes the accuracy
    optimistic: the fewer rows, the more.
    """

    threshold: float
    coverage: float
    accuracy: float
    low: float
    high: float
    n_rows: int


def threshold_for(target: float, confidences: NDArray[Any], right: NDArray[Any]) -> Threshold | None:
    """The lowest threshold at which the accuracy on the rows that are answered is at least ``target``; None: no one.

    At least ``rows_needed`` rows must be answered. ``confidences`` (n_rows,) holds the probability of each held-out
    row's prediction, ``right`` (n_rows,) says which of them are correct.
    Raises ``ValueError`` for no rows, or arrays that do not fit.
    """
    chances, correct = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if chances.ndim != 1 or chances.shape != correct.shape or not len(chances):
        raise ValueError(f"confidences of shape {chances.shape} and right of shape {correct.shape} do not fit")
    for confidence in np.unique(chances):
        answered = chances >= confidence
        if answered.sum() >= rows_needed(target) and correct[answered].mean() >= target:
            return _measured(float(confidence), chances, correct)
    return None


def rows_needed(target: float) -> float:
    """On fewer rows than this, an accuracy of ``target`` cannot be told from 100 %: one error would be too many."""
    return math.inf if target >= 1 else math.ceil(1 / (1 - target) - 1e-9)


def thresholds(
    confidences: NDArray[Any], right: NDArray[Any], targets: Sequence[float] = TARGETS
) -> dict[float, Threshold]:
    """The threshold for each of the ``targets`` that can be reached; see ``threshold_for``."""
    found = {target: threshold_for(target, confidences, right) for target in targets}
    return {target: threshold for target, threshold in found.items() if threshold is not None}


def best_accuracy(confidences: NDArray[Any], right: NDArray[Any], least_rows: float) -> Threshold | None:
    """The threshold with the highest accuracy on the rows that are answered, if these are ``least_rows`` or more.

    Of equal ones, it is the lowest. None if there are fewer rows.
    """
    chances, correct = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    allowed = [its for its in np.unique(chances) if (chances >= its).sum() >= least_rows]
    if not allowed:
        return None
    best = max(allowed, key=lambda its: (correct[chances >= its].mean(), -its))
    return _measured(float(best), chances, correct)


def _measured(confidence: float, confidences: NDArray[np.float64], right: NDArray[np.float64]) -> Threshold:
    """The threshold lies between ``confidence`` and the next lower one, so that rounding does not matter."""
    answered = confidences >= confidence
    below = confidences[~answered]
    threshold = (confidence + float(below.max())) / 2 if len(below) else 0.0
    accuracy = float(right[answered].mean())
    low, high = share_interval(accuracy, int(answered.sum()))
    return Threshold(threshold, float(answered.mean()), accuracy, low, high, len(confidences))
