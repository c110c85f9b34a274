"""Extrapolation plans: errors in turn, several texts a prompt, contrasted with another label."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from weather import PAIRS, SPANS, TEXTS, WANTED, check_contrast, check_lengths, extrapolated, prompts, rows_of

from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.task.model import Task
from s3local.teacher.protocol import Sampling


@pytest.mark.parametrize("task", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_a_text_is_contrasted_with_another_label_where_that_is_wanted(task: Task) -> None:
    check_contrast(extrapolated(task))


def test_questions_have_no_contrast() -> None:
    assert not any(item.request.contrast for item in extrapolated(SPANS)(0.5))


def test_errors_take_turns_and_each_prompt_brings_its_samples() -> None:
    planned = extrapolated(TEXTS)(0.0)
    texts_of = [Counter(item.origin["error"] for item in planned if item.label == label) for label in WANTED]
    assert [sorted(texts.values()) for texts in texts_of] == [[3, 5], [5, 7]]  # of "rain", two rows are errors
    assert len({item.request.seed for item in planned}) == 20
    with pytest.raises(ValueError, match="no error of the label 'wind'"):
        plan_extrapolation(prompts(TEXTS), {"wind": 1}, [], {}, shots=2, samples=5, sampling=Sampling(), seed=[1])


def test_the_contrast_prompt_of_a_pair_ends_with_the_same_source_text() -> None:
    for item in extrapolated(PAIRS)(0.5):
        assert item.request.contrast is not None
        assert item.request.contrast.prompt.endswith(f"\n\nNote: {item.source_fields['note']}\n-")
        assert f"Note: {item.source_fields['note']}\n- " in item.request.prompt


def test_the_lengths_of_gold_rows_are_taken_in_turn() -> None:
    models = ["word " * count for count in (3, 5, 8, 13)]
    rows = rows_of(TEXTS)
    gold = {label: [row for row in rows if row.label == label] for label in TEXTS.groups}
    planned = plan_extrapolation(
        prompts(TEXTS), WANTED, rows, gold, shots=2, samples=8, sampling=Sampling(), seed=[1], length_like=models
    )
    check_lengths(planned, models)
    for error in {item.origin["error"] for item in planned}:  # one prompt, whose computation its texts share
        assert len({item.request.prompt for item in planned if item.origin["error"] == error}) == 1


def test_prompts_of_a_label_share_their_beginning_and_never_show_an_error_before_its_turn() -> None:
    rows = rows_of(TEXTS)  # six of each label
    gold = {label: [row for row in rows if row.label == label] for label in TEXTS.groups}
    plan = partial(plan_extrapolation, prompts(TEXTS), {"sun": 24}, samples=4, sampling=Sampling(), seed=[1])
    shared = {tuple(item.origin["shots"]) for item in plan(rows[:4], gold, shots=2)}
    assert len(shared) == 2  # six prompts, four at a time, as two of the six rows are left beside four errors
    for shots in (2, 4, 6):
        for item in plan(rows[:4], gold, shots=shots):
            assert item.origin["error"] not in item.origin["shots"]
            assert len(item.origin["shots"]) == min(shots, 5)
