"""Which real texts to label next: those that teach the most, none of them nearly the same.

Without a student, labels are worth most where the texts are typical and nothing like them is labelled yet: the texts
are divided into as many clusters as there will be labelled rows, and the most typical text of the largest clusters
without a labelled row comes first (TypiClust; Hacohen, Dekel and Weinshall, ICML 2022). With a student, texts that it
is unsure of, or that lie nearer to its errors than to what it gets right, come first; among the worst of them, one of
each cluster is taken, so that they differ (Zhdanov, arXiv 1901.05954).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3local.curation.vector_index import VectorIndex
from s3local.embedder import Vectors
from s3local.seeds import derive_seed

SAME_COSINE = 0.9
"""Texts this near to a labelled or chosen one are not chosen: their labels would teach the same."""
FIRST_BATCH = 20
"""Texts of the first batch. Each batch is twice as large as the one before, and knows what those before it hold."""
MOST_CLUSTERS = 400
MOST_NEIGHBOURS = 20
"""Neighbours in its cluster that a text's typicality is measured by, as in TypiClust."""
MOST_COMPARED = 2000
"""Rows of a cluster that typicality is measured among."""
SHORTLIST = 8
"""Of the most doubtful texts, this many times the batch are divided into clusters."""

TYPICAL, DOUBTFUL, ERROR_LIKE, REST = "typical", "the model is unsure", "like errors of the model", "the rest"
"""Why a text is where it is."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """What a student knows of the texts: ``unsure`` (n,) is 1 less the margin between its two most probable labels;
    ``error_like`` (n,) by how much nearer a text is to the student's errors than to rows that it gets right, from 0."""

    unsure: NDArray[np.float32]
    error_like: NDArray[np.float32]

    @property
    def scores(self) -> NDArray[np.float32]:
        """How much a label is worth; higher is more."""
        return self.unsure + self.error_like


def doubts_of(probabilities: NDArray[np.float32], vectors: Vectors, wrong: Vectors, right: Vectors) -> Doubts:
    """The doubts of a student that gives the texts ``probabilities`` (n, n_labels) and whose dev rows that it gets
    ``wrong`` and ``right`` have these embeddings; ``vectors`` (n, dim) are those of the texts."""
    ordered = np.sort(probabilities, axis=1)
    error_like = np.zeros(len(vectors), np.float32)
    if len(wrong) and len(right):
        error_like = np.maximum(0, _nearest(vectors, wrong) - _nearest(vectors, right))
    return Doubts(1 - (ordered[:, -1] - ordered[:, -2]), error_like)


def rank(
    vectors: Vectors, labelled: Vectors, count: int, seed: int = 0, doubts: Doubts | None = None
) -> list[tuple[int, str]]:
    """The ``count`` texts that should be labelled next, best first, each with the reason; fewer if the rest is alike.

    ``vectors`` (n, dim) and ``labelled`` (m, dim) are unit rows.
    """
    free = np.ones(len(vectors), np.bool_)
    if len(labelled):
        free &= _nearest(vectors, labelled) < SAME_COSINE
    chosen: list[tuple[int, str]] = []
    known, batch = labelled, FIRST_BATCH
    while len(chosen) < count and free.any():
        wanted, places = min(batch, count - len(chosen)), np.flatnonzero(free)
        number = derive_seed(seed, len(chosen))
        if doubts is None:
            found = [(place, TYPICAL) for place in _typical(vectors[places], known, wanted, number)]
        else:
            scores = doubts.scores[places]
            found = [
                (place, ERROR_LIKE if doubts.error_like[places[place]] > doubts.unsure[places[place]] else DOUBTFUL)
                for place in _doubtful(vectors[places], scores, wanted, number)
            ]
        new: list[int] = []
        for inside, why in found:
            place = int(places[inside])
            if not new or float((vectors[new] @ vectors[place]).max()) < SAME_COSINE:
                new.append(place)
                chosen.append((place, why))
        free &= _nearest(vectors, vectors[new]) < SAME_COSINE
        free[new] = False
        known = np.concatenate([known, vectors[new]]) if len(known) else vectors[new]
        batch *= 2
    return chosen


def _typical(vectors: Vectors, known: Vectors, count: int, seed: int) -> list[int]:
    """The most typical rows of the largest clusters that hold nothing ``known``, at most ``count``, and at least 1."""
    n_clusters = min(len(known) + count, len(vectors), MOST_CLUSTERS)
    cluster, centres = _clusters(vectors, n_clusters, seed)
    sizes = np.bincount(cluster, minlength=len(centres))
    held = np.zeros(len(centres), np.int64)
    if len(known):
        held = np.bincount((known @ centres.T).argmax(axis=1), minlength=len(centres))
    order = sorted(range(len(centres)), key=lambda number: (held[number], -sizes[number]))
    return [_most_typical(vectors, np.flatnonzero(cluster == number)) for number in order[:count] if sizes[number]]


def _most_typical(vectors: Vectors, members: NDArray[np.int64]) -> int:
    """The member with the least mean distance to its nearest neighbours among ``members``."""
    compared = members[:MOST_COMPARED]
    similar = vectors[compared] @ vectors[compared].T
    n_neighbours = min(MOST_NEIGHBOURS, len(compared) - 1)
    if n_neighbours < 1:
        return int(compared[0])
    np.fill_diagonal(similar, -1)
    nearest = np.partition(similar, -n_neighbours, axis=1)[:, -n_neighbours:]
    return int(compared[nearest.mean(axis=1).argmax()])


def _doubtful(vectors: Vectors, scores: NDArray[np.float32], count: int, seed: int) -> list[int]:
    """Of the rows with the highest ``scores``, the highest of each of ``count`` clusters, the highest first."""
    shortlist = np.argsort(-scores, kind="stable")[: SHORTLIST * count]
    cluster, _ = _clusters(vectors[shortlist], min(count, len(shortlist)), seed, scores[shortlist])
    best: dict[int, int] = {}
    for row, number in zip(shortlist.tolist(), cluster.tolist(), strict=True):  # in the order of their scores
        best.setdefault(number, row)
    return sorted(best.values(), key=lambda row: -scores[row])


def _clusters(
    vectors: Vectors, count: int, seed: int, weights: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int64], Vectors]:
    """The cluster of each row, and the centres, by k-means."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(count, n_init=1, max_iter=30, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different texts than clusters
        numbers = model.fit_predict(vectors, sample_weight=None if weights is None else np.maximum(weights, 1e-6))
    return numbers.astype(np.int64), model.cluster_centers_.astype(np.float32)


def _nearest(vectors: Vectors, others: Vectors) -> NDArray[np.float32]:
    """The highest cosine of each row to one of ``others``, of which there is at least one."""
    index = VectorIndex()
    index.add(others)
    return index.nearest(vectors)[0]
