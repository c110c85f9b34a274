"""The rows to extrapolate: misclassified dev rows, capped and balanced over the labels, and near-mistakes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.records import Example


@dataclass(frozen=True, slots=True)
class Error:
    """A row, the label that was predicted for it, and the probabilities of that label and of the row's own."""

    example: Example
    predicted: str
    predicted_probability: float
    own_probability: float

    def to_row(self) -> dict[str, Any]:
        """The error as a dictionary of plain JSON values."""
        return {
            **self.example.to_row(),
            "predicted": self.predicted,
            "predicted_probability": round(self.predicted_probability, 4),
            "own_probability": round(self.own_probability, 4),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Error:
        """The inverse of ``to_row``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        figures = ("predicted", "predicted_probability", "own_probability")
        example = Example.from_row({key: row[key] for key in row if key not in figures})
        predicted, probability, own = (row[key] for key in figures)
        return cls(example, predicted, float(probability), float(own))


def find_errors(
    rows: Sequence[Example], labels: Sequence[str], probabilities: NDArray[np.floating[Any]]
) -> list[Error]:
    """The rows whose most probable label is not their own, in order; ``probabilities`` is (n_rows, n_labels)."""
    errors = []
    for row, row_probabilities in zip(rows, probabilities, strict=True):
        best = int(row_probabilities.argmax())
        if labels[best] != row.label:
            own = float(row_probabilities[labels.index(row.label)])
            errors.append(Error(row, labels[best], float(row_probabilities[best]), own))
    return errors


def balance_errors(errors: Sequence[Error], n_labels: int, cap: float, max_errors: int | None = None) -> list[Error]:
    """Keep at most ``cap`` times the fair share of errors of each label: those with the lowest own probability.

    Without a cap, one label's errors can fill a round, and the next student errs the other way. ``max_errors`` limits
    the total, and shares are then taken of that number. The order is kept.
    """
    if max_errors is not None and max_errors < len(errors):
        kept_errors = balance_errors(errors, n_labels, cap * max_errors / len(errors))
        hardest = {error.example.id for error in sorted(kept_errors, key=_hardness)[:max_errors]}
        return [error for error in errors if error.example.id in hardest]
    most = _most(len(errors), n_labels, cap)
    kept: set[str] = set()
    per_label: Counter[str] = Counter()
    for error in sorted(errors, key=_hardness):
        if per_label[error.example.label] < most:
            per_label[error.example.label] += 1
            kept.add(error.example.id)
    return [error for error in errors if error.example.id in kept]


def choose_errors(
    wrong: Sequence[Error],
    right: Sequence[Error],
    wanted: int,
    labels: Sequence[str],
    cap: float,
    max_errors: int | None = None,
    least: int = 0,
) -> list[Error]:
    """The ``wrong`` rows that ``balance_errors`` keeps, filled up to ``wanted`` with the hardest ``right`` rows.

    If all rows of a round descended from a few errors, the teacher would repeat itself. A label that already has
    ``cap`` times its fair share of ``wanted`` gets no right rows. ``max_errors`` limits the total. Then each of
    ``labels`` is filled up to ``least`` rows with its hardest right ones: if one label alone were extrapolated from
    real rows, the student would learn that whatever looks real carries it.
    """
    chosen = balance_errors(wrong, len(labels), cap, max_errors)
    wanted = wanted if max_errors is None else min(wanted, max_errors)
    per_label = Counter(error.example.label for error in chosen)
    most = _most(wanted, len(labels), cap)
    others = []
    for row in sorted(right, key=_hardness):
        if len(chosen) < wanted and per_label[row.example.label] < most:
            per_label[row.example.label] += 1
            chosen.append(row)
        else:
            others.append(row)
    for row in others:
        if per_label[row.example.label] < least:
            per_label[row.example.label] += 1
            chosen.append(row)
    return chosen


def _most(n_errors: int, n_labels: int, cap: float) -> int:
    """The most of ``n_errors`` that a label may have: ``cap`` times its fair share."""
    return max(1, math.ceil(cap * n_errors / n_labels - 1e-9))  # tolerates rounding above a whole number


def _hardness(error: Error) -> tuple[float, str]:
    return error.own_probability, error.example.id
