"""Exact match and F1 of answers: cases by hand, worked out from SQuAD's definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3local.evaluation.squad import (
    answer_f1,
    answer_metrics,
    exact_match,
    find_answer_errors,
    normalized_answer,
)
from s3local.records import SPAN, Answer, Example

CASES = [
    # predicted, gold answers, exact match, F1
    ("Ada Brook", ["Ada Brook"], 1, 1),
    ("Ada", ["Ada Brook"], 0, 2 / 3),
    ("Ada Mary Brook", ["Ada Brook"], 0, 4 / 5),
    ("Brook Ada", ["Ada Brook"], 0, 1),
    ("Ada Ada", ["Ada Brook"], 0, 1 / 2),
    ("Ada Ada Brook", ["Ada Brook Brook"], 0, 2 / 3),
    ("Ida", ["Ada Brook"], 0, 0),
    # case
    ("ada BROOK", ["Ada Brook"], 1, 1),
    ("STRASSE", ["Straße"], 0, 0),
    ("ÄRGER", ["ärger"], 1, 1),
    # articles
    ("the mill", ["mill"], 1, 1),
    ("The old mill", ["an old mill"], 1, 1),
    ("a mill and the barn", ["mill and barn"], 1, 1),
    ("theatre", ["the atre"], 0, 0),
    ("Anna", ["Na"], 0, 0),
    ("vitamin A", ["vitamin"], 1, 1),
    ("der Hof", ["Hof"], 0, 2 / 3),
    # punctuation
    ("1,870", ["1870"], 1, 1),
    ("mill.", ["mill"], 1, 1),
    ("U.S.", ["US"], 1, 1),
    ("half-timbered", ["halftimbered"], 1, 1),
    ("half-timbered", ["half timbered"], 0, 0),
    ("the-mill", ["mill"], 0, 0),
    ("$5 million", ["5 million"], 1, 1),
    ("“mill”", ["mill"], 0, 0),
    ("Brook’s", ["Brook's"], 0, 0),
    ("Brooks", ["Brook's"], 1, 1),
    # white space
    ("  Ada\n Brook ", ["Ada Brook"], 1, 1),
    ("Ada\u00a0Brook", ["Ada Brook"], 1, 1),
    # several gold answers
    ("1870", ["in 1870", "1870"], 1, 1),
    ("spring 1870", ["1870", "the spring of 1870"], 0, 4 / 5),
    ("Ida", ["Ada", "Brook"], 0, 0),
    ("red and blue", ["red", "blue", "red and green"], 0, 2 / 3),
    # nothing left: an exact match without an F1, as in SQuAD 1.1
    ("", ["Ada"], 0, 0),
    ("the", ["a"], 1, 0),
    ("...", ["..."], 1, 0),
    # other scripts
    ("长城", ["长城"], 1, 1),
    ("Анна Ручей", ["анна ручей"], 1, 1),
    ("в 1870 году", ["1870"], 0, 1 / 2),
]


@pytest.mark.parametrize(("predicted", "gold", "exact", "f1"), CASES)
def test_cases_by_hand(predicted: str, gold: list[str], exact: float, f1: float) -> None:
    assert exact_match(predicted, gold) == exact
    assert answer_f1(predicted, gold) == pytest.approx(f1)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 30


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_an_exact_match_of_words_has_an_f1_of_one_and_more_answers_never_hurt(text: str, gold: list[str]) -> None:
    assert 0 <= answer_f1(text, gold) <= 1
    if exact_match(text, gold) and normalized_answer(text):
        assert answer_f1(text, gold) == 1
    assert answer_f1(text, [*gold, text]) >= answer_f1(text, gold)
    assert exact_match(text, [*gold, text]) == 1


def rows(*answers: str) -> list[Example]:
    return [
        Example(f"r{n}", {"context": text, "question": "What?"}, SPAN, (Answer(text, 0),))
        for n, text in enumerate(answers)
    ]


def test_the_figures_are_means_with_an_interval() -> None:
    metrics = answer_metrics(rows("Ada Brook", "1870", "mill"), ["Ada", "1870", "barn"])
    assert metrics.exact_match == pytest.approx(1 / 3)
    assert metrics.f1 == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert 0 <= metrics.f1_low <= metrics.f1 <= metrics.f1_high <= 1
    assert metrics == answer_metrics(rows("Ada Brook", "1870", "mill"), ["Ada", "1870", "barn"])
    wide = answer_metrics(rows(*["mill"] * 10), ["mill", "barn"] * 5)
    narrow = answer_metrics(rows(*["mill"] * 1000), ["mill", "barn"] * 500)
    assert narrow.f1_high - narrow.f1_low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 1000), rel=0.1)
    assert wide.f1_high - wide.f1_low > 5 * (narrow.f1_high - narrow.f1_low)


def test_an_error_is_a_row_below_the_threshold() -> None:
    some = rows("Ada Brook", "1870", "mill")
    errors = find_answer_errors(some, ["Ada", "1870", "barn"], [0.5, 0.9, 0.4], [0.2, 0.9, 0.1], 0.5)
    assert [(error.example.id, error.predicted, error.own_probability) for error in errors] == [("r2", "barn", 0.1)]
    errors = find_answer_errors(some, ["Ada", "1870", "barn"], [0.5, 0.9, 0.4], [0.2, 0.9, 0.1], 1.0)
    assert [error.example.id for error in errors] == ["r0", "r2"]


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="got 0 and 1"):
        answer_metrics(rows("a"), [])
    with pytest.raises(ValueError, match="got 0 and 0"):
        answer_metrics([], [])


def test_where_words_are_not_written_apart_each_letter_counts() -> None:
    assert answer_f1("北京大学", ["北京"]) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert answer_f1("在 1870 年", ["1870年"]) == pytest.approx(2 * (2 / 3) * 1 / (5 / 3))
    assert answer_f1("กรุงเทพ", ["กรุงเทพ"]) == 1.0
    assert exact_match("北京大学", ["北京"]) == 0.0
