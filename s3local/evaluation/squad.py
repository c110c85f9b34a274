"""Metrics of answers: exact match and F1 as in SQuAD, and the rows that count as errors.

Texts are compared in lower case, without ASCII punctuation, without English articles, and with single spaces, in this
order. A row with several gold answers gets its best score. Two texts of which nothing is left match exactly, but have
an F1 of 0. In scripts without spaces between words, each character counts as a word (as in MLQA, Lewis et al., 2020).
Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016, section 6.1, and the
evaluation script of SQuAD 1.1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.errors import Error
from s3local.evaluation.metrics import share_interval
from s3local.records import Example
from s3local.text import SCRIPTS_WITHOUT_SPACES, script_of

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class AnswerMetrics:
    """Means over ``n_rows`` rows, from 0 to 1; ``f1_low`` and ``f1_high`` bound the F1's 95 % interval."""

    n_rows: int
    exact_match: float
    f1: float
    f1_low: float
    f1_high: float


def normalized_answer(text: str) -> str:
    """``text`` in lower case, without ASCII punctuation, English articles and extra white space."""
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def exact_match(predicted: str, gold: Sequence[str]) -> float:
    """1.0 if ``predicted`` is one of the ``gold`` answers, else 0.0. Raises ``ValueError`` without gold answers."""
    return max(float(normalized_answer(predicted) == normalized_answer(text)) for text in gold)


def answer_f1(predicted: str, gold: Sequence[str]) -> float:
    """The F1 of the words of ``predicted`` against the ``gold`` answer with the highest F1.

    Raises ``ValueError`` without gold answers.
    """
    return max(_f1(_words(predicted), _words(text)) for text in gold)


def _words(text: str) -> list[str]:
    apart = (f" {letter} " if script_of(letter) in SCRIPTS_WITHOUT_SPACES else letter for letter in text)
    return normalized_answer("".join(apart)).split()


def _f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    shared = (Counter(predicted) & Counter(gold)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def answer_metrics(rows: Sequence[Example], predicted: Sequence[str]) -> AnswerMetrics:
    """Exact match and F1 of ``predicted``, one answer for each of ``rows``.

    Raises ``ValueError`` for no rows, or lists of different lengths.
    """
    if not rows or len(rows) != len(predicted):
        raise ValueError(f"as many predictions as rows belong here, got {len(predicted)} and {len(rows)}")
    scores = answer_scores(rows, predicted)
    exact = [
        exact_match(text, [answer.text for answer in row.answers]) for row, text in zip(rows, predicted, strict=True)
    ]
    f1 = float(scores.mean())
    return AnswerMetrics(len(rows), float(np.mean(exact)), f1, *share_interval(f1, len(rows)))


def answer_scores(rows: Sequence[Example], predicted: Sequence[str]) -> NDArray[np.float64]:
    """The F1 of each row, (n_rows,)."""
    return np.array(
        [answer_f1(text, [answer.text for answer in row.answers]) for row, text in zip(rows, predicted, strict=True)]
    )


def find_answer_errors(
    rows: Sequence[Example],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    own_probabilities: Sequence[float],
    least_f1: float,
) -> list[Error]:
    """The rows whose predicted answer has an F1 below ``least_f1``, in order.

    ``probabilities`` are those of the predicted answers, ``own_probabilities`` those of the rows' gold answers.
    """
    scores = answer_scores(rows, predicted)
    return [
        Error(row, predicted[place], probabilities[place], own_probabilities[place])
        for place, row in enumerate(rows)
        if scores[place] < least_f1
    ]
