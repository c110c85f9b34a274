"""Seed plans: as many texts as asked for, contrasted with another label, as long as gold rows."""

from __future__ import annotations

import pytest
from weather import SPANS, TEXTS, WANTED, check_contrast, check_lengths, pair_seeds, prompts, seeds

from s3local.records import SPAN, Answer
from s3local.synthesis.seed import Context, plan_seed, plan_seed_on
from s3local.teacher.protocol import Sampling


@pytest.mark.parametrize("plan", [seeds, pair_seeds], ids=["texts", "pairs"])
def test_a_text_is_contrasted_with_another_label_where_that_is_wanted(plan) -> None:
    check_contrast(plan)


def test_questions_have_no_contrast() -> None:
    contexts = [Context("c", "the note", {"words": [Answer("note", 4)]})]
    planned = plan_seed_on(prompts(SPANS), {SPAN: 4}, contexts, sampling=Sampling(), seed=[1], contrast=0.5)
    assert not any(item.request.contrast for item in planned)


def test_contexts_take_turns() -> None:
    used = [item.origin["context"] for item in pair_seeds(0.0)]
    assert len(used) == 20
    for begin in range(0, 18, 3):
        assert set(used[begin : begin + 3]) == {"c0", "c1", "c2"}


def test_the_lengths_of_gold_rows_are_taken_in_turn() -> None:
    models = ["word " * count for count in (3, 5, 8, 13)]
    planned = plan_seed(
        prompts(TEXTS), WANTED, {}, shown=0, samples=1, sampling=Sampling(), seed=[1], length_like=models
    )
    check_lengths(planned, models)


def test_rationales_change_after_as_many_texts_of_a_label_as_share_a_prompt() -> None:
    planned = seeds(0.5)  # with three texts a prompt
    for label, count in WANTED.items():
        mine = [item.request for item in planned if item.label == label]
        texts = [(request.prompt, request.contrast.prompt) for request in mine if request.contrast]
        assert len(texts) == count
        groups = [texts[begin : begin + 3] for begin in range(0, count, 3)]
        assert all(len(set(group)) == 1 for group in groups)
        assert len(set(texts)) > 1
    assert len({item.request.seed for item in planned}) == len(planned)
