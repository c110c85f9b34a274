"""The nearest row of a growing set of unit vectors.

Every pair is compared up to ``EXACT_ROWS`` rows; beyond, an approximate index answers. Knows nothing of texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.embedder import Vectors

EXACT_ROWS = 500_000
"""Rows up to which the nearest is found by comparing all. At 100,000 that takes a fifth of the graph's time
(benchmarks/dedup.py), and it grows with the square of the rows."""

BLOCK_ROWS = 4096
"""Rows compared at a time: with 1,024 queries that is 16 MB of similarities, small enough for the cache."""


class VectorIndex:
    """Unit rows in the order they were added, and which of them is nearest to a query.

    Nothing here is random: the same additions in the same order answer the same, above ``exact_rows`` too.
    """

    def __init__(self, exact_rows: int = EXACT_ROWS) -> None:
        self._exact_rows = exact_rows
        self._buffer: Vectors = np.empty((0, 0), dtype=np.float32)  # rows beyond n_rows are spare room
        self._graph: Any = None
        self.n_rows = 0

    @property
    def vectors(self) -> Vectors:
        """The rows added so far, (n_rows, dim): a view."""
        return self._buffer[: self.n_rows]

    def add(self, vectors: Vectors) -> None:
        """Append rows of length 1, (n, dim)."""
        if not len(vectors):
            return
        needed = self.n_rows + len(vectors)
        if needed > len(self._buffer):
            grown = np.empty((max(needed, 2 * len(self._buffer)), vectors.shape[1]), dtype=np.float32)
            if self.n_rows:
                grown[: self.n_rows] = self.vectors
            self._buffer = grown
        self._buffer[self.n_rows : needed] = vectors
        first_new, self.n_rows = self.n_rows, needed
        if self.n_rows > self._exact_rows:
            self._add_to_graph(first_new)

    def nearest(self, queries: Vectors) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """For queries (n, dim): the highest cosine and the row that has it, both (n,); -inf and -1 if there is no row.

        Among equal cosines the earliest row is named, up to ``exact_rows`` rows.
        """
        if self._graph is not None:
            found = self._graph.search(queries, 1)
            rows = found.keys.reshape(-1).astype(np.int64)
            return np.einsum("nd,nd->n", queries, self._buffer[rows]), rows
        scores = np.full(len(queries), -np.inf, dtype=np.float32)
        rows = np.full(len(queries), -1, dtype=np.int64)
        for start in range(0, self.n_rows, BLOCK_ROWS):
            similarities = queries @ self.vectors[start : start + BLOCK_ROWS].T  # (n_queries, block)
            best = similarities.argmax(axis=1)
            best_scores = similarities[np.arange(len(queries)), best]
            better = best_scores > scores
            scores[better] = best_scores[better]
            rows[better] = best[better] + start
        return scores, rows

    def _add_to_graph(self, first_new: int) -> None:
        if self._graph is None:
            from usearch.index import Index

            self._graph = Index(ndim=self._buffer.shape[1], metric="ip", dtype="f32")
            first_new = 0
        keys = np.arange(first_new, self.n_rows, dtype=np.uint64)
        self._graph.add(keys, self._buffer[first_new : self.n_rows], threads=1)  # more threads: another graph each time
