"""Nearest-neighbour search: the same as comparing all pairs, however the rows were added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.curation import vector_index
from s3local.curation.vector_index import VectorIndex
from s3local.embedder import Vectors


def unit_rows(n_rows: int, seed: int, dim: int = 16) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_empty_index_has_no_nearest_row() -> None:
    scores, rows = VectorIndex().nearest(unit_rows(2, 0))
    assert scores.tolist() == [-np.inf, -np.inf]
    assert rows.tolist() == [-1, -1]


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 1000))
def test_the_index_finds_the_nearest_row_however_it_grew(sizes: list[int], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_index, "BLOCK_ROWS", 16)
        check_nearest(sizes, seed)


def check_nearest(sizes: list[int], seed: int) -> None:
    everything = unit_rows(sum(sizes) + 1, seed)
    index = VectorIndex()
    start = 0
    for size in [1, *sizes]:
        index.add(everything[start : start + size])
        start += size
    queries = unit_rows(9, seed + 1)
    scores, rows = index.nearest(queries)
    similarities = queries @ everything.T
    np.testing.assert_array_equal(rows, similarities.argmax(axis=1))
    np.testing.assert_allclose(scores, similarities.max(axis=1), atol=1e-6)
