"""How much of the gold rows shows in what a run gives away: in the synthetic rows and in the exported classifier.

Synthetic rows are compared with gold rows by the longest run of words that both have, and by embeddings. For
comparison, each gold row is compared with the other gold rows: unrelated texts of one task share words as well.

The classifier is attacked by membership inference: if it is more confident on rows that it was trained on than on other
rows, its confidence betrays who was in the training data (Yeom et al., "Privacy Risk in Machine Learning", 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from s3local.curation.vector_index import VectorIndex
from s3local.embedder import Vectors
from s3local.text import units_of, writes_without_spaces

Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class RowLeakage:
    """What one text has of the gold rows.

    ``run``: words (or characters) in a row that it shares with gold row ``run_row``; ``similarity``: the cosine of the
    nearest gold row, ``nearest_row``. Rows count from 0; -1 where nothing is shared.
    """

    run: int
    run_row: int
    similarity: float
    nearest_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageFigures:
    """``RowLeakage`` over ``n_rows`` texts: the median, the 95th percentile and the maximum of run and similarity."""

    n_rows: int
    median_run: float
    high_run: float
    longest_run: int
    median_similarity: float
    high_similarity: float
    highest_similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A membership attack on a classifier.

    ``auc`` is the probability that the classifier gives the right label of a row that it was trained on a higher
    probability than that of a row that it was not: 0.5 is guessing, 1 betrays every row. ``low`` and ``high`` bound the
    95 % interval. ``members`` and ``others`` are the numbers of rows.
    """

    auc: float
    low: float
    high: float
    members: int
    others: int


class GoldTexts:
    """The gold texts that others are compared with; ``vectors`` are (n_texts, dim) of unit length."""

    def __init__(self, texts: Sequence[str], vectors: Vectors) -> None:
        self.by_character = writes_without_spaces(texts)
        self._units = [units_of(text, self.by_character) for text in texts]
        self._vectors = vectors
        self._rows_of_runs: dict[int, dict[int, list[int]]] = {}

    def compare(self, texts: Sequence[str], vectors: Vectors) -> list[RowLeakage]:
        """What each of ``texts``, with their unit ``vectors`` (n_texts, dim), has of the gold texts."""
        index = VectorIndex()
        index.add(self._vectors)
        scores, rows = index.nearest(vectors)
        found = [self._longest(units_of(text, self.by_character), None) for text in texts]
        return [
            RowLeakage(run, run_row, round(min(float(score), 1.0), 4), int(row))
            for (run, run_row), score, row in zip(found, scores, rows, strict=True)
        ]

    def compare_own(self) -> list[RowLeakage]:
        """What each gold text has of the other gold texts; nothing, if there is one text alone."""
        if len(self._units) < 2:
            return []
        similarities = np.asarray(self._vectors @ self._vectors.T, dtype=np.float64)
        np.fill_diagonal(similarities, -1)
        nearest = similarities.argmax(axis=1)
        scores = similarities.max(axis=1).clip(max=1.0).round(4).tolist()
        return [
            RowLeakage(*self._longest(units, row), scores[row], int(nearest[row]))
            for row, units in enumerate(self._units)
        ]

    def _longest(self, units: list[str], own: int | None) -> tuple[int, int]:
        """The length of the longest run that another gold text has, and that text's row; (0, -1) for none.

        A text that shares a run of n units shares one of n - 1 as well, so that a binary search finds the longest.
        """
        low, best = 0, -1
        high = len(units)
        step = 4  # most texts share a few words only
        while low < high:
            size = min(low + step, high) if step else (low + high + 1) // 2
            row = self._row_with_run(units, size, own)
            if row is None:
                high, step = size - 1, 0
            else:
                low, best = size, row
                step *= 2
        return low, best

    def _row_with_run(self, units: list[str], size: int, own: int | None) -> int | None:
        rows_of_run = self._runs(size)
        for start in range(len(units) - size + 1):
            for row in rows_of_run.get(hash(tuple(units[start : start + size])), ()):
                if row != own:
                    return row
        return None

    def _runs(self, size: int) -> dict[int, list[int]]:
        """The first two rows that have each run of ``size`` units, by the run's hash: one may be the row itself."""
        if size not in self._rows_of_runs:
            rows_of_run: dict[int, list[int]] = {}
            for row, units in enumerate(self._units):
                for start in range(len(units) - size + 1):
                    rows = rows_of_run.setdefault(hash(tuple(units[start : start + size])), [])
                    if len(rows) < 2 and row not in rows:
                        rows.append(row)
            self._rows_of_runs[size] = rows_of_run
        return self._rows_of_runs[size]


def summarise_leakage(rows: Sequence[RowLeakage]) -> LeakageFigures | None:
    """The figures over ``rows``; None if there are none."""
    if not rows:
        return None
    runs = np.array([row.run for row in rows])
    similarities = np.array([row.similarity for row in rows])
    return LeakageFigures(
        n_rows=len(rows),
        median_run=float(np.median(runs)),
        high_run=float(np.quantile(runs, 0.95, method="higher")),
        longest_run=int(runs.max()),
        median_similarity=round(float(np.median(similarities)), 4),
        high_similarity=round(float(np.quantile(similarities, 0.95, method="higher")), 4),
        highest_similarity=float(similarities.max()),
    )


def attack_membership(members: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> Membership | None:
    """The attack on probabilities of the right label, (n_members,) and (n_others,); None if there are no rows.

    The interval is that of Hanley and McNeil, "The Meaning and Use of the Area under a ROC Curve", 1982.
    """
    if not (len(members) and len(others)):
        return None
    n_members, n_others = len(members), len(others)
    auc = float(mannwhitneyu(members, others).statistic) / (n_members * n_others)
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (n_members - 1) * (first - auc**2) + (n_others - 1) * (second - auc**2)
    spread = Z_95 * math.sqrt(max(variance, 0.0) / (n_members * n_others))
    return Membership(
        auc=round(auc, 4),
        low=round(max(0.0, auc - spread), 4),
        high=round(min(1.0, auc + spread), 4),
        members=n_members,
        others=n_others,
    )
