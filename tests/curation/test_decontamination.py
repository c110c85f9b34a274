"""Decontamination: gold texts are recognised by form, by a shared run, and by cosine."""

from __future__ import annotations

import numpy as np
import pytest

from s3local.curation.decontamination import ProtectedTexts
from s3local.curation.shared_runs import RunIndex
from s3local.records import Candidate, Example

TEXTS = ["The harbour was closed for two days after the storm.", "Prices of bread went up."]
VECTORS = np.eye(2, 3, dtype=np.float32)
CANDIDATE = Candidate(Example("c", {"text": "any"}, "x"))


def protected() -> ProtectedTexts:
    return ProtectedTexts("dev", TEXTS, VECTORS, RunIndex(TEXTS, n_words=5, n_characters=9, short_share=0.75), 0.9)


@pytest.mark.parametrize(
    ("text", "reason", "score", "detail"),
    [
        ("prices of bread went up!!", "copies_dev", 1, "dev row 2"),
        ("so the harbour was closed for two days, alas", "overlaps_dev", 7, "7 words in a row of dev row 1"),
        ("the harbour was open", None, 0, ""),
    ],
)
def test_a_copy_is_found_in_letters(text: str, reason: str | None, score: float, detail: str) -> None:
    found = protected().find_copy(CANDIDATE, text)
    assert (found and (found.reason, found.score, found.detail)) == (reason and (reason, score, detail))


def test_a_near_row_is_found_by_cosine() -> None:
    near, far = np.array([[0.0, 0.9, 0.43589], [0.6, 0.0, 0.8]], dtype=np.float32)
    found = protected().find_near([CANDIDATE, CANDIDATE], np.stack([near, far]))
    assert found[0] is not None and found[1] is None
    assert (found[0].reason, found[0].detail) == ("near_dev", "dev row 2")
    assert found[0].score == pytest.approx(0.9)
