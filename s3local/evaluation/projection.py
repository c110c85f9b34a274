"""Where texts lie in embedding space, for the eye: a plane to draw them in, and the nearest row of the other side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3local.curation.vector_index import VectorIndex
from s3local.embedder import Vectors

QUERY_ROWS = 1024
"""Rows that are compared at a time: with the blocks of ``VectorIndex`` that is 16 MB of similarities."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Positions of gold (n_gold, 2) and synthetic rows (n_synthetic, 2) in one plane, and the share of the variance
    that each of its two axes explains."""

    gold: NDArray[np.float64]
    synthetic: NDArray[np.float64]
    explained: tuple[float, float]


def principal_plane(gold: Vectors, synthetic: Vectors) -> Plane:
    """The first two principal components of unit rows (n_gold, dim) and (n_synthetic, dim), with dim of at least 2.

    Each side has half of the weight: a few dozen gold rows beside a thousand synthetic ones would not shape the plane,
    and a difference between the two sides would not show. Raises ``ValueError`` if a side has no rows.
    """
    if not len(gold) or not len(synthetic):
        raise ValueError(f"both sides need rows, got {len(gold)} and {len(synthetic)}")
    rows = np.concatenate([gold, synthetic])
    weights = np.repeat([0.5 / len(gold), 0.5 / len(synthetic)], [len(gold), len(synthetic)])
    centred = rows - weights @ rows
    variances, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)  # in ascending order
    plane = axes[:, -1:-3:-1]
    plane = plane * np.sign(plane[np.abs(plane).argmax(axis=0), [0, 1]])  # an eigenvector has no sign of its own
    positions = centred @ plane
    total = float(variances.sum())
    first, second = (float(max(value, 0.0) / total) if total > 0 else 0.0 for value in variances[-1:-3:-1])
    return Plane(positions[: len(gold)], positions[len(gold) :], (first, second))


def nearest_rows(queries: Vectors, rows: Vectors) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each of ``queries`` (n, dim): its highest cosine with one of ``rows``, and the place of that row, both (n,).

    All are unit rows. Raises ``ValueError`` if there are no ``rows``.
    """
    if not len(rows):
        raise ValueError("there are no rows to be near to")
    index = VectorIndex()
    index.add(rows)
    found = [index.nearest(queries[start : start + QUERY_ROWS]) for start in range(0, len(queries), QUERY_ROWS)]
    cosines = [cosine for cosine, _ in found]
    places = [place for _, place in found]
    return np.concatenate([np.empty(0, np.float32), *cosines]), np.concatenate([np.empty(0, np.int64), *places])
