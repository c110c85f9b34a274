"""Calibration: the fitted temperature is the most probable one, within its bounds; the error is that of its bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from s3local.evaluation.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    answered,
    calibration_error,
    coverage_curve,
    expected_calibration_error,
    fit_temperature,
    log_likelihood,
    reliability,
)


def sampled(temperature: float, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their softmax at ``temperature``."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (n_rows, 4))
    chances = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (generator.random((n_rows, 1)) > chances[:, :3]).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5, 6.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    assert fit_temperature(*sampled(temperature, 20_000, seed=3)) == pytest.approx(temperature, rel=0.08)


@given(st.integers(0, 500), st.integers(2, 60), st.floats(0.6, 5.0))
def test_no_neighbouring_temperature_is_likelier(seed: int, n_rows: int, temperature: float) -> None:
    logits, labels = sampled(temperature, n_rows, seed)

    def surprise(at: float) -> float:
        return float(-np.log(softmax(logits / at, axis=1)[np.arange(n_rows), labels] + 1e-30).mean())

    fitted = fit_temperature(logits, labels)
    low, high = LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE
    assert low <= fitted <= high
    for other in (max(low, fitted * 0.95), min(high, fitted * 1.05)):
        assert surprise(fitted) <= surprise(other) + 1e-6


def test_rows_all_right_do_not_make_it_certain() -> None:
    assert fit_temperature(np.array([[2.0, 0.0]] * 5), [0] * 5) == pytest.approx(LOWEST_TEMPERATURE)
    assert fit_temperature(np.array([[2.0, 0.0]] * 5), [1] * 5) == pytest.approx(HIGHEST_TEMPERATURE)
    with pytest.raises(ValueError, match="do not fit"):
        fit_temperature(np.zeros((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="do not fit"):
        fit_temperature(np.zeros((0, 2)), [])


def test_overconfidence_does_not_lower_the_likelihood() -> None:
    logits, labels = sampled(1.0, 2_000, seed=5)
    expected = float(np.log(softmax(logits, axis=1)[np.arange(len(labels)), labels]).mean())
    for factor in (0.5, 1.0, 3.0):
        assert log_likelihood(factor * logits, labels) == pytest.approx(expected, abs=1e-3)


def of_two_labels(*confidences: float) -> np.ndarray:
    return np.array([[confidence, 1 - confidence] for confidence in confidences])


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    four_of_five = of_two_labels(*[0.8] * 5)
    assert expected_calibration_error(four_of_five, [0, 0, 0, 0, 1]) == pytest.approx(0.0)
    assert expected_calibration_error(four_of_five, [0, 0, 0, 0, 0]) == pytest.approx(0.2)
    assert expected_calibration_error(of_two_labels(1.0, 1.0), [1, 1]) == pytest.approx(1.0)


def test_errors_of_different_bins_do_not_cancel() -> None:
    probabilities = of_two_labels(0.9, 0.9, 0.6, 0.6)
    labels = [0, 1, 0, 0]  # overconfident by 0.4 in the upper bin, underconfident by 0.4 in the lower one
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.4)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(0.0)


def test_the_temperature_lowers_the_calibration_error() -> None:
    logits, labels = sampled(3.0, 5_000, seed=7)
    fitted = softmax(logits / fit_temperature(logits, labels), axis=1)
    assert expected_calibration_error(softmax(logits, axis=1), labels) > 0.1
    assert expected_calibration_error(fitted, labels) < 0.03


def test_a_calibration_error_needs_rows_and_bins() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        expected_calibration_error(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="do not fit"):
        expected_calibration_error(of_two_labels(0.5), [0, 1])
    with pytest.raises(ValueError, match="bins"):
        expected_calibration_error(of_two_labels(0.5), [0], bins=0)


CONFIDENCE, RIGHT = np.array([0.95, 0.9, 0.9, 0.55, 0.3]), np.array([True, True, False, False, True])


def test_reliability_bins_hold_every_row_once() -> None:
    found = reliability(CONFIDENCE, RIGHT)
    assert [(entry.low, entry.n_rows) for entry in found] == [(0.3, 1), (0.5, 1), (0.9, 3)]
    assert found[-1].accuracy == pytest.approx(2 / 3) and found[-1].confidence == pytest.approx(2.75 / 3)
    assert calibration_error(found) == pytest.approx((0.7 + 0.55 + 0.75) / 5)


def test_a_threshold_trades_coverage_for_accuracy() -> None:
    points = coverage_curve(CONFIDENCE, RIGHT)
    assert [(point.threshold, point.n_answered) for point in points] == [(0.95, 1), (0.9, 3), (0.55, 4), (0.3, 5)]
    assert [point.accuracy for point in points] == pytest.approx([1, 2 / 3, 1 / 2, 3 / 5])
    assert points[-1].coverage == 1
    assert all(answered(CONFIDENCE, RIGHT, point.threshold) == point for point in points)
    assert answered(CONFIDENCE, RIGHT, 0.99) is None
    assert coverage_curve(np.empty(0), np.empty(0)) == []
