"""Predictions and errors come back from their files as they were."""

from __future__ import annotations

import json

import pytest

from s3local.evaluation.errors import Error
from s3local.evaluation.predictions import Prediction
from s3local.records import Answer, Candidate, Dropped, Example

PREDICTIONS = {
    "right": (Prediction("a", "sun", "sun", 0.75), True),
    "wrong": (Prediction("b", "sun", "rain", 0.5), False),
    "an answer": (Prediction("c", ("the mill", "mill"), "mill", 0.25, start=4), None),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_prediction_comes_back(name: str) -> None:
    prediction, right = PREDICTIONS[name]
    assert Prediction.from_row(json.loads(json.dumps(prediction.to_row()))) == prediction
    assert prediction.right is right


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "label": "sun", "predicted": None, "probability": 1},
        {"id": "a", "answer": [], "predicted": "x", "probability": 1},
        {"id": 1, "label": "sun", "predicted": "sun", "probability": 1},
        {"id": "a", "label": "sun", "predicted": "sun", "probability": "high"},
    ],
)
def test_what_is_no_prediction_is_refused(row: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Prediction.from_row(row)


def test_an_error_and_a_drop_come_back() -> None:
    question = Example("q", {"note": "the mill", "question": "Where?"}, "answer", (Answer("mill", 4),))
    error = Error(question, "the", 0.5, 0.25)
    assert Error.from_row(json.loads(json.dumps(error.to_row()))) == error
    dropped = Dropped(Candidate(question, {"error": "q"}), "too_short", 2.0, "two words")
    assert Dropped.from_row(json.loads(json.dumps(dropped.to_row()))) == dropped
