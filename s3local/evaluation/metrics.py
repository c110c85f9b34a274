"""How good predicted labels are: accuracy with its uncertainty, F1, and a count of every confusion.

Knows nothing of models, files or where the labels come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True)
class LabelMetrics:
    """One label's precision, recall and F1, and its number of gold rows. A ratio without cases is 0."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassificationMetrics:
    """Shares between 0 and 1 over ``n_rows`` rows.

    ``accuracy_low`` and ``accuracy_high`` bound the accuracy's 95 % bootstrap interval. ``macro_f1`` averages over
    the labels that occur in gold or predictions. ``confusion[i][j]`` counts the rows of gold label ``labels[i]``
    that were predicted as ``labels[j]``.
    """

    n_rows: int
    labels: tuple[str, ...]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    per_label: dict[str, LabelMetrics]
    confusion: tuple[tuple[int, ...], ...]

    def to_row(self) -> dict[str, Any]:
        """The figures as a dictionary of plain JSON values."""
        return asdict(self)


def classification_metrics(
    gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str], seed: int = 0
) -> ClassificationMetrics:
    """Compare ``predicted`` with ``gold``, label by label. The bootstrap depends on ``seed`` alone.

    Raises ``ValueError`` for no rows, lists of different lengths, or a label that is not in ``labels``.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if not gold or len(gold) != len(predicted):
        raise ValueError(f"as many predictions as gold labels belong here, got {len(predicted)} and {len(gold)}")
    if strangers := sorted({*gold, *predicted} - set(labels)):
        raise ValueError(f"the label {strangers[0]!r} is not among {list(labels)}")
    precision, recall, f1, support = precision_recall_fscore_support(
        gold, predicted, labels=list(labels), zero_division=0.0
    )
    occurring = [label in {*gold, *predicted} for label in labels]
    right = np.array([a == b for a, b in zip(gold, predicted, strict=True)])
    low, high = accuracy_interval(right, seed)
    return ClassificationMetrics(
        n_rows=len(gold),
        labels=tuple(labels),
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(np.mean(f1[occurring])),
        per_label={
            label: LabelMetrics(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        },
        confusion=tuple(
            tuple(int(count) for count in row) for row in confusion_matrix(gold, predicted, labels=list(labels))
        ),
    )


def accuracy_interval(right: Any, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of ``right``, (n_rows,) of true and false.

    How many of n rows drawn with replacement are right is binomial, so the counts are drawn directly.
    """
    draws = np.random.default_rng(seed).binomial(len(right), np.mean(right), BOOTSTRAP_SAMPLES) / len(right)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
