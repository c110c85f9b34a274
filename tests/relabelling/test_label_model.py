"""Laws of the label model: judges count for what they know, and the requested label for what they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.relabelling.label_model import calibrate, label_probabilities


def judged_by(labels: np.ndarray, n_labels: int, accuracy: float, confidence: float, seed: int) -> np.ndarray:
    """Probabilities of a judge that is right with ``accuracy`` and always ``confidence`` sure of its label."""
    random = np.random.default_rng(seed)
    right = random.random(len(labels)) < accuracy
    said = np.where(right, labels, (labels + random.integers(1, n_labels, len(labels))) % n_labels)
    values = np.full((len(labels), n_labels), (1 - confidence) / (n_labels - 1))
    values[np.arange(len(labels)), said] = confidence
    return values


def balanced(n_rows: int, n_labels: int) -> np.ndarray:
    return np.arange(n_rows) % n_labels


@pytest.mark.parametrize(("n_rows", "n_labels"), [(20, 2), (60, 6), (200, 4)])
@pytest.mark.parametrize("concentration", [0.3, 3.0])
def test_judges_that_know_nothing_are_told_from_judges_that_know_in_95_of_100_tries(
    n_rows: int, n_labels: int, concentration: float
) -> None:
    labels = balanced(n_rows, n_labels)
    held = [
        calibrate(np.random.default_rng(seed).dirichlet(np.full(n_labels, concentration), n_rows), labels).holds
        for seed in range(200)
    ]
    assert np.mean(held) < 0.05


def test_judges_that_know_only_how_frequent_labels_are_do_not_hold() -> None:
    labels = np.repeat([0, 1], [50, 10])
    assert not calibrate(np.tile([50 / 60, 10 / 60], (60, 1)), labels).holds
    assert calibrate(judged_by(labels, 2, 0.95, 0.9, 0), labels).holds


def test_judges_that_know_hold() -> None:
    labels = balanced(20, 2)
    assert calibrate(judged_by(labels, 2, 0.9, 0.8, 0), labels).holds


@pytest.mark.parametrize(("confidence", "is_too_sure"), [(0.99, True), (0.6, False)])
def test_the_exponent_makes_judges_as_sure_as_they_are_right(confidence: float, is_too_sure: bool) -> None:
    labels = balanced(400, 2)
    calibration = calibrate(judged_by(labels, 2, 0.8, confidence, 1), labels)
    assert (calibration.exponent < 1) is is_too_sure
    assert calibration.accuracy == pytest.approx(0.8, abs=0.06)


def test_no_gold_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="there are none"):
        calibrate(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


@given(st.integers(2, 6), st.integers(0, 1000), st.floats(0.0, 1.0))
def test_targets_are_probabilities_and_shares_are_shares(n_labels: int, seed: int, accuracy: float) -> None:
    gold, requested = balanced(24, n_labels), balanced(30, n_labels)
    calibration = calibrate(judged_by(gold, n_labels, accuracy, 0.7, seed), gold)
    model = label_probabilities(judged_by(requested, n_labels, 0.6, 0.8, seed + 1), requested, calibration)
    assert model.targets.shape == (30, n_labels)
    assert model.targets.sum(axis=1) == pytest.approx(1.0)
    assert ((model.targets >= 0) & (model.targets <= 1)).all()
    assert ((model.correct > 0) & (model.correct < 1)).all()


def test_beside_judges_that_are_always_right_the_requested_label_changes_nothing() -> None:
    gold = balanced(40, 4)
    calibration = calibrate(judged_by(gold, 4, 1.0, 0.9, 0), gold)
    judged = judged_by(balanced(80, 4), 4, 0.9, 0.9, 2)
    first, second = (
        label_probabilities(judged, labels, calibration).targets for labels in (balanced(80, 4), np.zeros(80, int))
    )
    assert first == pytest.approx(second)


def test_beside_judges_at_chance_the_requested_label_decides() -> None:
    gold = balanced(40, 4)
    flat = np.full((40, 4), 0.25)
    calibration = calibrate(flat + 1e-9 * np.arange(4), gold)
    requested = balanced(80, 4)
    targets = label_probabilities(np.full((80, 4), 0.25), requested, calibration).targets
    assert (targets.argmax(axis=1) == requested).all()


def test_a_teacher_that_writes_what_it_is_asked_for_is_found_out() -> None:
    gold, requested = balanced(60, 3), balanced(300, 3)
    calibration = calibrate(judged_by(gold, 3, 0.8, 0.8, 0), gold)
    good, bad = (
        label_probabilities(judged_by(true, 3, 0.8, 0.8, 1), requested, calibration).correct.mean()
        for true in (requested, np.random.default_rng(3).integers(0, 3, 300))
    )
    assert good > 0.8 > 0.6 > bad
