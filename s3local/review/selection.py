"""Which real texts to label next: those that teach the most, none of them nearly the same.

The texts are divided into as many clusters as there will be labelled rows. Clusters without a labelled row come first,
the largest first; of each, the most typical text is taken (TypiClust; Hacohen, Dekel and Weinshall, ICML 2022). With a
student, the clusters come first of whose texts it is most unsure in sum; of each, the text that it is most unsure of in
the more typical half is taken. Texts that lie nearer to its errors than to what it gets right count as unsure.
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
FIRST_BATCH = 10
"""Texts of the first batch. Each batch is twice as large as the one before, and knows what those before it hold.

With 60 rows that were chosen from the pool, 16 draws, a linear model on embeddings was 1.5 (trec), 2.3 (sst2) and 4.3
points (ag_news) better than with random ones; with a first batch of 20 it was 0.1 worse, 1.1 and 4.4 better."""
MOST_CLUSTERS = 400
MOST_NEIGHBOURS = 20
"""Neighbours in its cluster that a text's typicality is measured by, as in TypiClust."""
MOST_COMPARED = 2000
"""Rows of a cluster that typicality is measured among."""

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
        error_like = np.maximum(0, nearest_cosines(vectors, wrong) - nearest_cosines(vectors, right))
    return Doubts(1 - (ordered[:, -1] - ordered[:, -2]), error_like)


def rank(
    vectors: Vectors, labelled: Vectors, count: int, seed: int = 0, doubts: Doubts | None = None
) -> list[tuple[int, str]]:
    """The ``count`` texts that should be labelled next, best first, each with the reason; fewer if the rest is alike.

    ``vectors`` (n, dim) and ``labelled`` (m, dim) are unit rows.
    """
    free = np.ones(len(vectors), np.bool_)
    if len(labelled):
        free &= nearest_cosines(vectors, labelled) < SAME_COSINE
    chosen: list[tuple[int, str]] = []
    known, batch = labelled, FIRST_BATCH
    while len(chosen) < count and free.any():
        wanted, places = min(batch, count - len(chosen)), np.flatnonzero(free)
        number = derive_seed(seed, len(chosen))
        scores = doubts.scores[places] if doubts is not None else None
        new: list[int] = []
        for inside in _next(vectors[places], known, wanted, number, scores):
            place = int(places[inside])
            if not new or float((vectors[new] @ vectors[place]).max()) < SAME_COSINE:
                new.append(place)
                chosen.append((place, _why(place, doubts)))
        free &= nearest_cosines(vectors, vectors[new]) < SAME_COSINE
        free[new] = False
        known = np.concatenate([known, vectors[new]]) if len(known) else vectors[new]
        batch *= 2
    return chosen


def rank_in_two_steps(vectors: Vectors, first: int, count: int, seed: int = 0) -> list[int]:
    """``count`` texts: the ``first`` ones to label of all, and then those that are worth most beside them."""
    begun = [place for place, _ in rank(vectors, vectors[:0], first, seed)]
    return [*begun, *(place for place, _ in rank(vectors, vectors[begun], count - len(begun), seed))]


def _why(place: int, doubts: Doubts | None) -> str:
    if doubts is None:
        return TYPICAL
    return ERROR_LIKE if doubts.error_like[place] > doubts.unsure[place] else DOUBTFUL


def _next(vectors: Vectors, known: Vectors, count: int, seed: int, scores: NDArray[np.float32] | None) -> list[int]:
    """A row of each of the ``count`` clusters that are worth most: first those that hold nothing ``known``, the largest
    first or, with ``scores``, those with the highest sum of scores."""
    n_clusters = min(len(known) + count, len(vectors), MOST_CLUSTERS)
    cluster, centres = clusters(vectors, n_clusters, seed)
    worth = np.bincount(cluster, weights=scores, minlength=len(centres))
    held = np.zeros(len(centres), np.int64)
    if len(known):
        held = np.bincount((known @ centres.T).argmax(axis=1), minlength=len(centres))
    order = sorted(set(cluster.tolist()), key=lambda number: (held[number], -worth[number]))
    return [_best(vectors, np.flatnonzero(cluster == number), scores) for number in order[:count]]


def _best(vectors: Vectors, members: NDArray[np.int64], scores: NDArray[np.float32] | None) -> int:
    """The most typical of ``members``; with ``scores``, the one with the highest score in their more typical half."""
    compared = most_typical(vectors, members)
    if scores is None:
        return int(compared[0])
    half = compared[: len(compared) // 2 + 1]
    return int(half[scores[half].argmax()])


def most_typical(vectors: Vectors, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most ``MOST_COMPARED`` of ``members``, the most typical first: those whose nearest neighbours among the others
    are near."""
    compared = members[:MOST_COMPARED]
    n_neighbours = min(MOST_NEIGHBOURS, len(compared) - 1)
    if n_neighbours < 1:
        return compared
    similar = vectors[compared] @ vectors[compared].T
    np.fill_diagonal(similar, -1)
    typicality = np.partition(similar, -n_neighbours, axis=1)[:, -n_neighbours:].mean(axis=1)
    return compared[np.argsort(-typicality, kind="stable")]


def clusters(vectors: Vectors, count: int, seed: int) -> tuple[NDArray[np.int64], Vectors]:
    """The cluster of each row, and the centres, by k-means."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(count, n_init=1, max_iter=30, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different texts than clusters
        numbers = model.fit_predict(vectors)
    return numbers.astype(np.int64), model.cluster_centers_.astype(np.float32)


def nearest_cosines(vectors: Vectors, others: Vectors) -> NDArray[np.float32]:
    """The highest cosine of each row to one of ``others``, of which there is at least one."""
    index = VectorIndex()
    index.add(others)
    return index.nearest(vectors)[0]
