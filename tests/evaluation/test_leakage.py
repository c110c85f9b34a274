"""Laws of leakage: what is copied is measured, and an attack on chance is chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import BagOfWords

from s3local.evaluation.leakage import GoldTexts, attack_membership, summarise_leakage

GOLD = ["the cat sat on the mat in the sun", "one two three four five six seven eight nine ten", "a quick brown fox"]
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=30).map(" ".join)


def gold_of(texts: list[str]) -> GoldTexts:
    return GoldTexts(texts, BagOfWords().embed(texts))


@pytest.mark.parametrize(
    ("text", "run", "row"),
    [
        ("Two, THREE four! five six seven", 6, 1),
        ("where the cat sat on the roof", 5, 0),
        ("quick thinking", 1, 2),
        ("nothing here", 0, -1),
        (GOLD[1], 10, 1),
    ],
)
def test_the_longest_run_is_that_of_the_words(text: str, run: int, row: int) -> None:
    (found,) = gold_of(GOLD).compare([text], BagOfWords().embed([text]))
    assert (found.run, found.run_row) == (run, row)


@given(st.lists(WORDS, min_size=2, max_size=5), WORDS)
def test_the_run_is_the_longest_of_all_gold_texts(texts: list[str], text: str) -> None:
    (found,) = gold_of(texts).compare([text], BagOfWords().embed([text]))
    words = text.split()
    runs = [words[start:stop] for start in range(len(words)) for stop in range(start + 1, len(words) + 1)]
    shared = [len(run) for run in runs if any(f" {' '.join(run)} " in f" {gold} " for gold in texts)]
    assert found.run == max(shared, default=0)


def test_scripts_without_spaces_are_compared_by_character() -> None:
    gold = gold_of(["今天天气很好我们去公园"])
    (found,) = gold.compare(["昨天天气很好"], BagOfWords().embed(["昨天天气很好"]))
    assert gold.by_character and found.run == 5


def test_gold_rows_are_compared_with_the_others_only() -> None:
    texts = ["the same five words here", "the same five words there", "alone"]
    found = gold_of(texts).compare_own()
    assert [row.run for row in found] == [4, 4, 0]
    assert [row.nearest_row for row in found][:2] == [1, 0]
    assert gold_of(["alone"]).compare_own() == []
    assert summarise_leakage([]) is None


def test_the_figures_are_those_of_the_rows() -> None:
    texts = [GOLD[1], "one two three or so", "nothing"]
    figures = summarise_leakage(gold_of(GOLD).compare(texts, BagOfWords().embed(texts)))
    assert figures is not None
    assert (figures.n_rows, figures.median_run, figures.longest_run) == (3, 3, 10)
    assert figures.highest_similarity == pytest.approx(1.0, abs=1e-3)


def test_an_attack_on_chance_is_chance_and_one_on_a_copy_is_certain() -> None:
    generator = np.random.default_rng(0)
    chance = attack_membership(generator.random(400), generator.random(400))
    assert chance is not None and chance.low < 0.5 < chance.high
    certain = attack_membership(np.full(50, 0.99), np.full(70, 0.5))
    assert certain is not None and certain.auc == 1 and (certain.members, certain.others) == (50, 70)
    tied = attack_membership(np.full(5, 0.9), np.full(5, 0.9))
    assert tied is not None and tied.auc == 0.5
    assert attack_membership(np.array([]), np.full(5, 0.9)) is None
