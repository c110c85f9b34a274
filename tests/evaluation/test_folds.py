"""Folds: each label spread, none lost, and no text of two folds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3local.evaluation.folds import divide_into_folds, folds_of_descendants


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 9))
def test_each_label_is_spread_evenly_and_is_outside_every_fold(labels: list[str], n_folds: int, seed: int) -> None:
    folds = divide_into_folds(labels, n_folds, seed)
    assert (folds == divide_into_folds(labels, n_folds, seed)).all()
    rows = list(zip(labels, folds.tolist(), strict=True))
    used = int(folds.max()) + 1
    assert used <= n_folds
    for fold in range(used):
        assert any(its == fold for _, its in rows)
        if used > 1:
            assert {label for label, its in rows if its != fold} == set(labels)
    for label, count in Counter(labels).items():
        sizes = Counter(its for own, its in rows if own == label)
        assert (-1 in sizes) == (count == 1)
        if count > 1:
            per_fold = [sizes[fold] for fold in range(used)]
            assert max(per_fold) - min(per_fold) <= 1


def test_a_text_has_the_fold_of_the_rows_that_it_descends_from() -> None:
    fold_of = {"a": 0, "b": 1, "c": 1, "only": -1}
    ancestors = [["b", "c"], [], ["a"], ["only"], [], ["context-3"]]
    assert folds_of_descendants(ancestors, fold_of).tolist() == [1, 1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match="descends from the folds"):
        folds_of_descendants([["a", "b"]], fold_of)
    assert folds_of_descendants([[], []], {}).tolist() == [0, 0]


def test_there_is_one_fold_at_least() -> None:
    with pytest.raises(ValueError, match="one fold at least"):
        divide_into_folds(["a", "a"], 0, 1)
