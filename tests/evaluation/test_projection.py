"""The plane of the first principal components, and nearest rows of the other side."""

from __future__ import annotations

import numpy as np
import pytest

from s3local.evaluation.projection import QUERY_ROWS, nearest_rows, principal_plane


def unit_rows(n_rows: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_two_axes_are_kept_as_they_are() -> None:
    """Rows that vary along two axes alone lie in the plane at their own distances."""
    gold, synthetic = np.zeros((40, 6)), np.zeros((30, 6))
    generator = np.random.default_rng(1)
    gold[:, [1, 4]], synthetic[:, [1, 4]] = generator.normal(size=(40, 2)), generator.normal(size=(30, 2))
    plane = principal_plane(gold.astype(np.float32), synthetic.astype(np.float32))
    before = np.linalg.norm(gold[:, None] - synthetic[None], axis=2)
    after = np.linalg.norm(plane.gold[:, None] - plane.synthetic[None], axis=2)
    assert after == pytest.approx(before, abs=1e-4)
    assert sum(plane.explained) == pytest.approx(1, abs=1e-6)


def test_few_gold_rows_shape_the_plane_as_much_as_many_synthetic_ones() -> None:
    """Two sides that are far apart differ along the first axis, however few rows one of them has."""
    apart = np.zeros(8, np.float32)
    apart[3] = 3
    plane = principal_plane(unit_rows(6) + apart, unit_rows(3000, seed=1))
    assert abs(plane.gold[:, 0].mean() - plane.synthetic[:, 0].mean()) > 2
    assert plane.explained[0] > 0.5


def test_equal_rows_explain_nothing() -> None:
    same = np.ones((3, 4), np.float32) / 2
    plane = principal_plane(same, same)
    assert plane.explained == (0, 0) and np.allclose(plane.gold, 0, atol=1e-6)


def test_the_nearest_row_has_the_highest_cosine() -> None:
    queries, rows = unit_rows(QUERY_ROWS + 5), unit_rows(50, seed=1)
    cosines, places = nearest_rows(queries, rows)
    assert (places == (queries @ rows.T).argmax(axis=1)).all()
    assert cosines == pytest.approx((queries @ rows.T).max(axis=1), abs=1e-6)


def test_a_side_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="both sides"):
        principal_plane(unit_rows(0), unit_rows(2))
    with pytest.raises(ValueError, match="no rows"):
        nearest_rows(unit_rows(2), unit_rows(0))
    assert [len(found) for found in nearest_rows(unit_rows(0), unit_rows(2))] == [0, 0]
