"""Which texts are labelled next: of each kind one, nothing twice, and what a student does not know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s3local.review.selection import DOUBTFUL, ERROR_LIKE, SAME_COSINE, Doubts, doubts_of, rank

KINDS, EACH, DIM = 6, 30, 64


def texts(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit rows around ``KINDS`` directions, no two of them nearly the same, and the direction of each."""
    chance = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(KINDS), EACH)
    rows = np.eye(DIM)[kinds] * 1.5 + chance.normal(size=(len(kinds), DIM)) * 0.15
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), kinds


def test_the_first_texts_are_of_every_kind() -> None:
    vectors, kinds = texts()
    assert {int(kinds[place]) for place, _ in rank(vectors, vectors[:0], KINDS)} == set(range(KINDS))


def test_kinds_that_are_labelled_already_come_later() -> None:
    vectors, kinds = texts()
    known = vectors[(kinds < 3) & (np.arange(len(kinds)) % EACH < 5)]
    chosen = [int(kinds[place]) for place, _ in rank(vectors, known, 3)]
    assert min(chosen) >= 3


def test_no_text_is_chosen_twice_or_beside_one_that_is_nearly_the_same() -> None:
    vectors, _ = texts()
    doubled = np.concatenate([vectors, vectors, vectors[:9]])
    labelled = vectors[:10]
    places = [place for place, _ in rank(doubled, labelled, 1000)]
    assert len(set(places)) == len(places)
    similar = doubled[places] @ np.concatenate([doubled[places], labelled]).T
    np.fill_diagonal(similar, 0)
    assert similar.max() < SAME_COSINE
    assert places == [place for place, _ in rank(doubled, labelled, 1000)], "the same seed chooses the same"


def test_a_student_s_doubts_come_first() -> None:
    vectors, kinds = texts()
    probabilities = np.where((kinds == 2)[:, None], [[0.52, 0.48]], [[0.99, 0.01]]).astype(np.float32)
    doubts = doubts_of(probabilities, vectors, vectors[:0], vectors[:0])
    place, why = rank(vectors, vectors[:0], KINDS, doubts=doubts)[0]
    assert kinds[place] == 2 and why == DOUBTFUL


def test_texts_like_errors_come_before_texts_like_what_is_right() -> None:
    vectors, kinds = texts()
    sure = np.tile(np.float32([0.99, 0.01]), (len(vectors), 1))
    doubts = doubts_of(sure, vectors, vectors[kinds == 4][:3], vectors[kinds != 4][::20])
    place, why = rank(vectors, vectors[:0], KINDS, doubts=doubts)[0]
    assert kinds[place] == 4 and why == ERROR_LIKE
    assert isinstance(doubts, Doubts) and float(doubts.error_like.min()) >= 0
