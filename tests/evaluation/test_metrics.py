"""Metrics: small cases by hand, and an uncertainty that shrinks with rows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from s3local.evaluation.metrics import LabelMetrics, classification_metrics, share_interval

LABELS = ["world", "sports", "business"]


def test_a_small_case_by_hand() -> None:
    gold = ["world", "world", "world", "sports", "sports"]
    predicted = ["world", "world", "sports", "sports", "world"]
    metrics = classification_metrics(gold, predicted, LABELS)
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 0))
    assert metrics.per_label["world"] == LabelMetrics(
        pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3
    )
    assert metrics.per_label["sports"] == LabelMetrics(0.5, 0.5, 0.5, 2)
    assert metrics.per_label["business"] == LabelMetrics(0.0, 0.0, 0.0, 0)
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)  # business occurs nowhere
    assert metrics.n_rows == 5
    assert json.loads(json.dumps(dataclasses.asdict(metrics)))["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_a_label_that_is_only_predicted_lowers_macro_f1() -> None:
    metrics = classification_metrics(["world", "world"], ["world", "business"], LABELS)
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60))
def test_the_figures_fit_each_other(rows: list[tuple[str, str]]) -> None:
    gold, predicted = map(list, zip(*rows, strict=True))
    metrics = classification_metrics(gold, predicted, LABELS)
    confusion = np.array(metrics.confusion)
    assert confusion.sum() == len(rows)
    assert metrics.accuracy == pytest.approx(np.trace(confusion) / len(rows))
    assert confusion.sum(axis=1).tolist() == [metrics.per_label[label].support for label in LABELS]
    assert 0 <= metrics.accuracy_low <= metrics.accuracy <= metrics.accuracy_high <= 1


def test_the_interval_is_wilsons_and_narrows_with_rows() -> None:
    for right, n_rows in ((8, 10), (800, 1000), (20, 20), (0, 3), (1, 7)):
        expected = binomtest(right, n_rows).proportion_ci(0.95, "wilson")
        assert share_interval(right / n_rows, n_rows) == pytest.approx((expected.low, expected.high), abs=1e-6)
    (wide_low, wide_high), (low, high) = share_interval(0.8, 10), share_interval(0.8, 1000)
    assert wide_high - wide_low > 5 * (high - low)


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="got 1 and 2"):
        classification_metrics(["world", "world"], ["world"], LABELS)
    with pytest.raises(ValueError, match="got 0 and 0"):
        classification_metrics([], [], LABELS)
    with pytest.raises(ValueError, match="'weather' is not among"):
        classification_metrics(["world"], ["weather"], LABELS)
