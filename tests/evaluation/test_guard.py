"""The guard: it takes synthetic rows unless they cost something."""

from __future__ import annotations

import numpy as np
import pytest

from s3local.evaluation.guard import log_likelihood, weigh


def of(right: int, wrong: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([1.0] * right + [0.0] * wrong)


def test_rows_that_change_nothing_pass() -> None:
    verdict = weigh(of(30, 10), of(30, 10), [5, 5])
    assert verdict.passed
    assert verdict.gain == 0
    assert verdict.error > 0
    assert (verdict.final, verdict.gold, verdict.n_rows) == (0.75, 0.75, 40)
    assert verdict.low < 0.75 < verdict.high


def test_rows_that_help_pass_and_rows_that_harm_do_not() -> None:
    good, bad = of(36, 4), of(20, 20)
    assert weigh(good, bad, []).passed
    assert not weigh(bad, good, []).passed
    assert weigh(bad, good, []).gain == pytest.approx(-weigh(good, bad, []).gain)


def test_rows_that_all_agree_do_not_look_like_certainty() -> None:
    assert weigh(of(3, 0), of(0, 3), []).error > 0.2


def test_there_must_be_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        weigh(np.array([]), np.array([]), [])


def test_how_probable_the_right_labels_were_found_decides_where_it_is_known() -> None:
    assert weigh(of(20, 20), of(21, 19), [], evidence=0.1).passed
    assert not weigh(of(21, 19), of(20, 20), [], evidence=-0.1).passed


def test_being_sure_is_no_merit_by_itself() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 3))
    labels = np.where(np.arange(50) < 35, logits.argmax(axis=1), logits.argmin(axis=1))
    as_it_is = log_likelihood(logits, labels)
    assert log_likelihood(5 * logits, labels) == pytest.approx(as_it_is, abs=1e-6)
    assert log_likelihood(logits[::-1], labels) < as_it_is < 0
