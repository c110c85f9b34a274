"""Laws of thresholds: the lowest one that reaches the target, measured on the rows that it answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.evaluation.thresholds import best_accuracy, rows_needed, threshold_for, thresholds

CONFIDENCES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
RIGHT = np.array([1.0, 1.0, 0.0, 1.0, 0.0])


def test_the_lowest_threshold_that_reaches_the_target_is_chosen() -> None:
    found = threshold_for(0.75, CONFIDENCES, RIGHT)
    assert found is not None
    assert found.threshold == pytest.approx(0.55)  # between the row that is answered and the one that is not
    assert (found.coverage, found.accuracy, found.n_rows) == (0.8, 0.75, 5)
    assert found.low < 0.75 < found.high


def test_all_rows_are_answered_where_that_is_good_enough() -> None:
    found = threshold_for(0.6, CONFIDENCES, RIGHT)
    assert found is not None and (found.threshold, found.coverage) == (0.0, 1.0)


def test_a_target_that_no_threshold_reaches_has_none() -> None:
    right = np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    assert threshold_for(0.9, CONFIDENCES, right) is None
    assert list(thresholds(CONFIDENCES, right, (0.5, 0.9))) == [0.5]
    best = best_accuracy(CONFIDENCES, right, 2)
    assert best is not None and (best.accuracy, best.coverage) == (0.8, 1.0)
    assert best_accuracy(CONFIDENCES, right, 6) is None


@pytest.mark.parametrize(("target", "rows"), [(0.5, 2), (0.8, 5), (0.9, 10), (0.95, 20), (0.99, 100)])
def test_a_high_target_needs_rows_on_which_an_error_would_show(target: float, rows: int) -> None:
    assert rows_needed(target) == rows
    assert threshold_for(target, np.linspace(0.5, 1, rows - 1), np.ones(rows - 1)) is None
    assert threshold_for(target, np.linspace(0.5, 1, rows), np.ones(rows)) is not None


def test_equal_confidences_are_answered_together() -> None:
    found = threshold_for(0.6, np.array([0.9, 0.9, 0.5]), np.array([1.0, 0.0, 0.0]))
    assert found is None
    assert threshold_for(0.5, np.array([0.9, 0.9, 0.5]), np.array([1.0, 0.0, 0.0])).coverage == 2 / 3  # type: ignore[union-attr]


@pytest.mark.parametrize("right", [np.zeros(0), np.zeros(3), np.zeros((5, 1))])
def test_arrays_that_do_not_fit_are_refused(right: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        threshold_for(0.5, CONFIDENCES[: len(right)] if not len(right) else CONFIDENCES, right)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.floats(0, 1))
def test_what_a_threshold_promises_holds_on_its_rows(rows: list[tuple[float, bool]], target: float) -> None:
    confidences, right = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    found = threshold_for(target, confidences, right)
    if found is not None:
        answered = [correct for confidence, correct in rows if confidence >= found.threshold]
        assert sum(answered) / len(answered) == pytest.approx(found.accuracy)
        assert found.accuracy >= target and len(answered) / len(rows) == found.coverage
