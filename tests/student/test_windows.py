"""Windows: they cover every token of the context, and spans survive the way to tokens and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ROBERTA_TOKENS, tiny_tokenizer

from s3local.records import Answer
from s3local.student.windows import make_windows

TOKENIZER = tiny_tokenizer()

TEXT = st.text(st.sampled_from("abc XY.,é长城是\n0"), min_size=1, max_size=120)


@settings(deadline=None, max_examples=60)
@given(TEXT, TEXT, st.integers(16, 40), st.data())
def test_windows_see_every_token_and_find_every_span_again(context, question, max_length, data) -> None:
    tokenizer = TOKENIZER
    windows = make_windows(tokenizer, [(context, question)], max_length)
    assert all(len(window.ids) <= max_length for window in windows)
    tokenizer.no_truncation()
    whole = [tuple(span) for span in tokenizer.encode(context, add_special_tokens=False).offsets]
    seen = {span for window in windows for span in window.spans}
    assert seen == set(whole)
    if whole:
        begin, end = sorted(data.draw(st.tuples(st.sampled_from(whole), st.sampled_from(whole))))
        answer = Answer(context[begin[0] : end[1]], begin[0])
        for window in windows:
            first, last = window.places_of(answer)
            if first:
                assert window.spans[first - window.first][0] <= answer.start
                assert window.spans[last - window.first][1] >= end[1]
        if whole.index(end) - whole.index(begin) < max_length // 3:
            assert any(window.places_of(answer) != (0, 0) for window in windows)


def test_the_question_stands_before_each_window_and_is_cut_where_it_is_too_long() -> None:
    tokenizer = tiny_tokenizer()
    first, *others = make_windows(tokenizer, [("the film was very good " * 6, "the film was bad")], 24)
    assert others
    for window in (first, *others):
        text = tokenizer.decode(window.ids, skip_special_tokens=False)
        assert text.startswith("[CLS] the film was bad [SEP]")
        assert text.endswith("[SEP]")
    (window, *_) = make_windows(tokenizer, [("the film was good", "very " * 50)], 24)
    assert tokenizer.decode(window.ids).split().count("very") == 8


def test_the_best_span_does_not_leave_the_context_or_run_backwards() -> None:
    (window,) = make_windows(tiny_tokenizer(), [("the film was good", "was bad?")], 32)
    logits = np.zeros((len(window.ids), 2), dtype=np.float32)
    logits[1] = 50  # in the question
    logits[window.first + 2, 0] = 9
    logits[window.first, 1] = 9  # before the likeliest beginning
    logits[window.first + 3, 1] = 5
    begin, end, log_probability = window.best(logits)
    assert "the film was good"[begin:end] == "was good"
    assert log_probability < 0
    total = np.exp(window.log_probabilities(logits)).sum(axis=0)
    assert total == pytest.approx([1, 1], abs=1e-5)


def test_the_context_is_found_behind_other_separators_too() -> None:
    (window,) = make_windows(tiny_tokenizer(ROBERTA_TOKENS), [("the film was good", "was bad?")], 32)
    assert window.places_of(Answer("film", 4)) == (window.first + 1, window.first + 1)
    assert [window.ids[window.first - 1], window.ids[-1]] == [2, 2]  # </s>
    assert len(window.spans) == 4
