"""Laws of the learning curve: it finds a known power law again, no gain where labels say nothing, and never a loss."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from s3local.evaluation.learning_curve import LearningCurve, learning_curve

DIM = 64


def rows(count: int, distance: float, seed: int) -> tuple[NDArray[np.float32], list[str]]:
    """Unit rows of three labels, whose directions are further apart with a larger ``distance``."""
    chance = np.random.default_rng(seed)
    numbers = np.arange(count) % 3
    points = np.eye(DIM)[numbers] * distance + chance.normal(size=(count, DIM)) / np.sqrt(DIM)
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), [f"l{n}" for n in numbers]


def test_it_says_what_more_rows_bring() -> None:
    """Predictions from 60 rows against models of 60 and 120, on many other rows of the same kind."""
    said, real = [], []
    for seed in range(4):
        vectors, labels = rows(60, 0.25, seed)
        curve = learning_curve(vectors, labels, seed)
        assert curve is not None
        said.append([curve.accuracy_with(60), curve.accuracy_with(120)])
        real.append([accuracy_of(size, seed) for size in (60, 120)])
    (here, there), (here_too, there_too) = np.mean(said, axis=0), np.mean(real, axis=0)
    assert there - here == pytest.approx(there_too - here_too, abs=0.04) and there_too - here_too > 0.02
    assert here == pytest.approx(here_too, abs=0.05)


def accuracy_of(size: int, seed: int) -> float:
    """The accuracy of a linear model of ``size`` rows on 2,000 others."""
    from sklearn.linear_model import LogisticRegression

    vectors, labels = rows(size, 0.25, 100 + seed)
    others, correct = rows(2000, 0.25, 200 + seed)
    model = LogisticRegression(C=10.0, max_iter=1000).fit(vectors, labels)
    return float((model.predict(others) == np.array(correct)).mean())


def test_the_points_grow_to_nearly_all_rows_and_the_curve_never_falls() -> None:
    vectors, labels = rows(60, 0.25, 1)
    for shown in (labels, np.random.default_rng(0).permutation(labels).tolist()):
        curve = learning_curve(vectors, shown)
        assert curve is not None and curve.rows == 60
        sizes = [size for size, _ in curve.points]
        assert sizes == sorted(sizes) == [12, 24, 36, 48]
        accuracies = [curve.accuracy_with(size) for size in (10, 60, 100, 1000)]
        assert accuracies == sorted(accuracies) and all(0 <= accuracy <= 1 for accuracy in accuracies)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve() -> None:
    vectors, labels = rows(40, 0.25, 1)
    assert learning_curve(vectors, labels, 5) == learning_curve(vectors, labels, 5)


def test_too_few_rows_have_no_curve() -> None:
    vectors, labels = rows(60, 0.25, 1)
    assert learning_curve(vectors[:15], labels[:15]) is None
    assert learning_curve(vectors, ["one"] * 60) is None
    assert learning_curve(vectors, [*["one"] * 58, "two", "two"]) is None


def test_rare_labels_are_no_obstacle() -> None:
    vectors, labels = rows(60, 0.25, 1)
    curve = learning_curve(vectors, ["once", "twice", "twice", *labels[3:]])
    assert curve is not None and len(curve.points) == 4
    assert learning_curve(vectors[:0], []) is None


def test_the_sentence_says_the_gain_of_the_curve() -> None:
    curve = LearningCurve(60, ((24, 0.6), (48, 0.7)), scale=1.5, decay=0.4)
    gain = 100 * (1.5 * 60**-0.4 - 1.5 * 100**-0.4)
    assert f"40 more labels, random ones, may bring about +{gain:.0f} points" in curve.in_words(40)
    assert "24 rows 60%" in curve.in_words(40) and "hardly" in dataclasses.replace(curve, decay=0.0).in_words(40)
