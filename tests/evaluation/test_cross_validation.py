"""Folds: each label spread, none lost, and no text of two folds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.evaluation.cross_validation import NO_FOLD, divide_into_folds


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


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_a_group_stays_together_and_every_label_is_outside_every_fold(
    rows: list[tuple[str, int]], n_folds: int, seed: int
) -> None:
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    folds = divide_into_folds(labels, n_folds, seed, groups)
    assert all(
        len({fold for fold, its in zip(folds.tolist(), groups, strict=True) if its == group}) == 1 for group in groups
    )
    assert set(folds.tolist()) - {NO_FOLD} == set(range(int(folds.max()) + 1))
    for fold in set(folds.tolist()) - {NO_FOLD} if folds.max() > 0 else ():
        assert {label for label, its in zip(labels, folds.tolist(), strict=True) if its != fold} == set(labels)


def test_groups_that_hold_all_of_a_label_leave_no_fold_empty() -> None:
    labels, groups = list("aaccbbbba"), [0, 0, 1, 1, 2, 2, 3, 3, 1]
    folds = divide_into_folds(labels, 4, 0, groups)
    assert folds[groups.index(1)] == NO_FOLD
    assert set(folds.tolist()) - {NO_FOLD} == set(range(int(folds.max()) + 1))


def test_there_is_one_fold_at_least() -> None:
    with pytest.raises(ValueError, match="one fold at least"):
        divide_into_folds(["a", "a"], 0, 1)
