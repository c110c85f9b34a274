"""Laws of paired tests and of the words they end in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from s3local.comparison.significance import _interval, compare_pair, in_words, mcnemar, mean_interval, paired_p, spread

rows = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def right(n_rows: int, accuracy: float, seeds: int = 1, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((seeds, n_rows)) < accuracy


@settings(max_examples=100, deadline=None)
@given(rows)
def test_mcnemar_is_symmetric_and_a_probability(pairs: list[tuple[bool, bool]]) -> None:
    first, second = np.array(pairs).T
    assert mcnemar(first, second) == mcnemar(second, first)
    assert 0 < mcnemar(first, second) <= 1


def test_mcnemar_is_the_fair_coin() -> None:
    first = np.array([True] * 6 + [False] * 4)
    second = np.array([False] * 6 + [False] * 4)
    assert mcnemar(first, second) == pytest.approx(2 * 0.5**6)


def test_identical_predictions_cannot_be_told_apart() -> None:
    for seeds in (1, 3):
        same = right(200, 0.8, seeds)
        comparison = compare_pair(same, same)
        assert comparison.verdict == "cannot tell"
        assert (comparison.difference, comparison.low, comparison.high, comparison.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("seeds", [1, 3])
def test_exchanging_the_two_exchanges_the_verdict(seeds: int) -> None:
    good, bad = right(500, 0.9, seeds, 1), right(500, 0.7, seeds, 2)
    one, other = compare_pair(good, bad), compare_pair(bad, good)
    assert (one.verdict, other.verdict) == ("likely better", "likely worse")
    assert one.difference == -other.difference and one.mcnemar == other.mcnemar
    assert one.p == pytest.approx(other.p)
    assert one.low <= one.difference <= one.high


def test_chance_alone_is_rarely_called_a_difference() -> None:
    verdicts = [compare_pair(right(300, 0.8, 3, 2 * n), right(300, 0.8, 3, 2 * n + 1)).verdict for n in range(40)]
    assert verdicts.count("cannot tell") >= 36


def test_four_rows_are_too_few_however_clear() -> None:
    first = np.ones((1, 100), dtype=bool)
    second = first.copy()
    second[0, :4] = False
    assert compare_pair(first, second).verdict == "cannot tell"


def test_one_seed_is_mcnemar() -> None:
    first, second = right(100, 0.9, 1, 1), right(100, 0.8, 1, 2)
    assert paired_p(first, second) == mcnemar(first[0], second[0])


def test_the_interval_holds_the_mean_and_widens_with_the_spread_of_seeds() -> None:
    alike = np.repeat(right(400, 0.8), 3, axis=0)
    apart = np.stack([right(400, accuracy)[0] for accuracy in (0.6, 0.8, 0.99)])
    for values in (alike, apart):
        low, high = mean_interval(values)
        assert low <= values.mean() <= high
    assert np.diff(mean_interval(apart)) > np.diff(mean_interval(alike))


def sampled(
    chance: np.random.Generator,
    n_rows: int,
    seed_spread: float,
    row_spread: float,
    accuracies: list[float],
) -> list[NDArray[np.bool_]]:
    """Predictions of one method for each of ``accuracies``, with three seeds on the same rows. Rows differ in
    difficulty and seeds in quality (a probit model); the accuracies are those over all rows and seeds."""
    scale = math.sqrt(1 + seed_spread**2 + row_spread**2)
    of_rows = row_spread * chance.normal(size=n_rows)
    return [
        float(norm.ppf(accuracy)) * scale
        + of_rows
        + seed_spread * chance.normal(size=(3, 1))
        + chance.normal(size=(3, n_rows))
        > 0
        for accuracy in accuracies
    ]


@pytest.mark.parametrize("seed_spread", [0.05, 0.15])
@pytest.mark.parametrize("row_spread", [0.5, 2.0])
def test_intervals_of_three_seeds_hold_the_truth_in_93_of_100_cases(seed_spread: float, row_spread: float) -> None:
    chance = np.random.default_rng(0)
    means, differences, n_cases = 0, 0, 600
    for _ in range(n_cases):
        first, second = sampled(chance, 200, seed_spread, row_spread, [0.8, 0.75])
        low, high = mean_interval(first)
        means += low <= 0.8 <= high
        low, high = _interval(first.astype(float) - second)
        differences += low <= 0.05 <= high
    assert means >= 0.93 * n_cases and differences >= 0.93 * n_cases


def test_the_interval_of_rows_that_are_all_correct_has_a_width() -> None:
    for seeds in (1, 3):
        low, high = mean_interval(np.ones((seeds, 20), dtype=bool))
        assert 0.8 < low < 0.9 and high == 1


def test_different_shapes_and_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="the same seeds and rows"):
        compare_pair(right(10, 0.5), right(11, 0.5))
    with pytest.raises(ValueError, match="the same seeds and rows"):
        compare_pair(right(0, 0.5), right(0, 0.5))


def test_spread() -> None:
    assert spread([0.5]) == (0.5, None)
    assert spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


def test_the_words_name_both_methods_and_the_difference() -> None:
    words = in_words(compare_pair(right(500, 0.9, 1, 1), right(500, 0.7, 1, 2)), "s3", "goldgen")
    assert words.startswith("s3 is likely better than goldgen on this test set (+")
