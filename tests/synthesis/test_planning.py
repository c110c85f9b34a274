"""Planning: random draws that leave nothing out, and rows of a shard that become candidates."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.records import Answer
from s3local.synthesis.planning import (
    Planned,
    Reply,
    another_label,
    in_turn,
    read_candidates,
    request_seeds,
    sample,
    shuffled_labels,
)
from s3local.teacher.protocol import Completion, Request

GENERATOR = np.random.default_rng(0)


def test_request_seeds_differ_and_depend_on_every_part() -> None:
    seeds = [request_seeds(seed, 50) for seed in ([1, 0], [1, 1], [2, 0])]
    assert len({value for values in seeds for value in values}) == 150
    assert request_seeds([1, 1], 50) == seeds[1]


def test_another_label_is_never_the_same() -> None:
    chance = np.random.default_rng(0)
    drawn = {another_label(["a", "b", "c"], "b", chance) for _ in range(50)}
    assert drawn == {"a", "c"}
    with pytest.raises(ValueError, match="no label other than"):
        another_label(["a"], "a", chance)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))
def test_every_label_comes_as_often_as_wanted(wanted: dict[str, int]) -> None:
    assert Counter(shuffled_labels(wanted, GENERATOR)) == Counter(wanted)


@given(st.integers(1, 7), st.integers(1, 4))
def test_in_turn_every_item_comes_before_any_comes_again(n_items: int, rounds: int) -> None:
    taken = list(itertools.islice(in_turn(range(n_items), GENERATOR), n_items * rounds))
    for begin in range(0, len(taken), n_items):
        assert set(taken[begin : begin + n_items]) == set(range(n_items))
    assert list(in_turn([], GENERATOR)) == []


@given(st.integers(0, 7), st.integers(0, 9))
def test_a_sample_has_no_item_twice(n_items: int, count: int) -> None:
    found = sample(range(n_items), count, GENERATOR)
    assert len(found) == len(set(found)) == min(count, n_items)


def test_a_row_of_a_shard_becomes_a_candidate() -> None:
    request = Request("prompt", 1, 20)
    planned = Planned(request, "fits", {"error": "r1"}, {"note": "the mill"}, (Answer("mill", 4),))
    reply = Reply.to(planned, Completion('"Which building?"\n', 5, "stop", -3.25))
    assert Reply.from_row(json.loads(json.dumps(reply.to_row()))) == reply
    (candidate,) = read_candidates([reply], prefix="s", fields=["note", "question"], target_field="question")
    assert candidate.example.fields == {"note": "the mill", "question": "Which building?"}
    assert (candidate.example.id, candidate.example.label) == ("s-000", "fits")
    assert candidate.example.answers == (Answer("mill", 4),)
    assert candidate.origin == {"error": "r1", "finish": "stop", "logprob": -3.25, "cleaned": ["quotes"]}


def test_a_long_text_that_was_cut_ends_with_its_last_sentence() -> None:
    reply = Reply("x", {"characters": 90}, {}, (), Completion("One. Two and", 5, "length", 0.0))
    (candidate,) = read_candidates([reply], prefix="s", fields=["text"], target_field="text")
    assert candidate.text == "One."
