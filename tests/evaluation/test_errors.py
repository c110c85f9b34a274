"""Errors: wrong rows are found, no label has more than its share, and the hardest rows fill up."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.evaluation.errors import Error, balance_errors, choose_errors, find_errors
from s3local.records import Example

LABELS = ("a", "b", "c")


def error(number: int, label: str, own: float) -> Error:
    return Error(Example(f"r{number}", {"text": f"text {number}"}, label), "other", 1 - own, own)


ERRORS = st.lists(st.tuples(st.sampled_from(LABELS), st.floats(0, 0.5)), max_size=30).map(
    lambda rows: [error(number, label, own) for number, (label, own) in enumerate(rows)]
)


def test_an_error_is_a_row_whose_best_label_is_not_its_own() -> None:
    rows = [Example(str(n), {"text": "x"}, label) for n, label in enumerate("abc")]
    found = find_errors(rows, LABELS, np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]))
    assert [(its.example.id, its.predicted, its.predicted_probability, its.own_probability) for its in found] == [
        ("1", "a", 0.6, 0.3)
    ]


@given(ERRORS, st.sampled_from([1.0, 1.5, 3.0]))
def test_no_label_has_more_than_its_share_and_the_hardest_stay(errors: list[Error], cap: float) -> None:
    kept = balance_errors(errors, 3, cap)
    assert kept == [its for its in errors if its in kept]
    for label in LABELS:
        mine = [its.own_probability for its in errors if its.example.label == label]
        stayed = [its.own_probability for its in kept if its.example.label == label]
        assert len(stayed) == min(len(mine), max(1, int(np.ceil(round(cap * len(errors) / 3, 6)))))
        assert sorted(stayed) == sorted(mine)[: len(stayed)]


@given(ERRORS, st.integers(1, 10))
def test_no_more_errors_are_kept_than_allowed(errors: list[Error], most: int) -> None:
    kept = balance_errors(errors, 3, 1.5, max_errors=most)
    assert len(kept) <= most
    assert bool(kept) == bool(errors)


@pytest.mark.parametrize("cap", [1.0, 1.5])
def test_right_rows_fill_up_hardest_first_up_to_the_labels_share(cap: float) -> None:
    wrong = [error(0, "a", 0.1), error(1, "b", 0.2)]
    right = [error(10 + n, LABELS[n % 3], 0.5 + n / 100) for n in range(30)]
    chosen = choose_errors(wrong, right, 12, LABELS, cap)
    assert chosen[:2] == wrong
    assert len(chosen) == 12
    counts = Counter(its.example.label for its in chosen)
    assert max(counts.values()) <= cap * 4
    for label in LABELS:
        mine = [its for its in right if its.example.label == label]
        assert [its for its in chosen[2:] if its.example.label == label] == mine[: counts[label] - (label != "c")]
    assert choose_errors(wrong, [], 12, LABELS, cap) == balance_errors(wrong, 3, cap)
