"""The guard: it takes as much of synthetic rows as explains gold best, and nothing that explains nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from s3local.evaluation.calibration import log_likelihood
from s3local.runner.model_selection import MOST_SHARE, SHARES, weigh

Scores = NDArray[np.float64]


def of(right: int, wrong: int) -> Scores:
    return np.array([1.0] * right + [0.0] * wrong)


def between(final: Scores, gold: Scores) -> dict[float, Scores]:
    """Scores of all shares, the greatest mean as good as ``final``, the others as bad as it gets."""
    return {share: {0.0: gold, MOST_SHARE: final, 1.0: final}.get(share, np.zeros(len(gold))) for share in SHARES}


def test_rows_that_change_nothing_do_not_pass() -> None:
    verdict = weigh(between(of(30, 10), of(30, 10)), [5, 5])
    assert verdict.share == 0
    assert (verdict.final, verdict.gold_only, verdict.selected, verdict.n_rows) == (0.75, 0.75, 0.75, 40)
    assert verdict.low < 0.75 < verdict.high


def test_rows_that_help_pass_and_rows_that_harm_do_not() -> None:
    good, bad = of(36, 4), of(20, 20)
    helps, harms = weigh(between(good, bad), []), weigh(between(bad, good), [])
    assert (helps.share, helps.final, helps.gold_only, helps.selected) == (MOST_SHARE, 0.9, 0.5, 0.9)
    assert (harms.share, harms.final, harms.gold_only, harms.selected) == (0, 0.5, 0.9, 0.9)


def test_there_must_be_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        weigh(between(of(0, 0), of(0, 0)), [])


@given(st.lists(st.floats(-3, 0), min_size=len(SHARES), max_size=len(SHARES)))
def test_how_probable_the_right_labels_were_found_decides_where_it_is_known(values: list[float]) -> None:
    likelihoods = dict(zip(SHARES, values, strict=True))
    verdict = weigh(between(of(21, 19), of(20, 20)), [], likelihoods)
    allowed = [share for share in SHARES if share <= MOST_SHARE]
    highest = max(likelihoods[share] for share in allowed)
    assert verdict.share == min(share for share in allowed if likelihoods[share] == highest)
    assert verdict.gain == likelihoods[verdict.share] - likelihoods[0]


def test_being_sure_is_no_merit_by_itself() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 3))
    labels = np.where(np.arange(50) < 35, logits.argmax(axis=1), logits.argmin(axis=1))
    as_it_is = log_likelihood(logits, labels)
    assert log_likelihood(5 * logits, labels) == pytest.approx(as_it_is, abs=1e-6)
    assert log_likelihood(logits[::-1], labels) < as_it_is < 0
