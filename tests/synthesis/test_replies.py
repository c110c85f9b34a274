"""What surrounds a text in a reply is cut off and named; the text itself stays; real replies of three models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.curation.rules import check_rules
from s3local.records import Candidate, Example
from s3local.synthesis.replies import PLAIN_CLEANER, ReplyCleaner, cleaner_for, whole_sentences

NAMES = ("positive", "negative", "text")
CLEANER = ReplyCleaner(NAMES)
REPLIES = Path(__file__).with_name("replies.jsonl")

VOCABULARY = "the film was slow but its music stays with you and nobody in it can act"
WORDS = st.sampled_from(VOCABULARY.split(" "))
SENTENCES = st.lists(WORDS, min_size=3, max_size=12).map(lambda words: " ".join(words).capitalize() + ".")
TEXTS = st.lists(SENTENCES, min_size=1, max_size=3).map(" ".join)

WRAPPERS = {
    "thinking": ["<think>\nIs it {{1. this?}}\n</think>\n\n{}", "So, a review.\n</think>\n{}", "[THINK]hm[/THINK]{}"],
    "end_marker": [
        "{}<|im_end|>", "{}</s>", "{}<end_of_turn>\n", "{}<|eot_id|><|start_header_id|>user", "{}<｜end▁of▁sentence｜>",
        "<|im_start|>assistant\n{}<|im_end|>", "{}\n[/INST] More?", "{}<|endoftext|>Human: next",
    ],
    "markdown": [
        "**{}**", "### Review\n\n{}", "```\n{}\n```", "```text\n{}\n```\nDone.", "---\n{}\n---", "*{}*", "`{}`",
    ],
    "lead_in": [
        "Sure! Here is a realistic text that carries the label:\n\n{}", "Here's one: {}", "Certainly!\n\n{}",
        "Of course, here are three examples:\n{}", "Here is a positive review\n\n{}",
    ],
    "label": ["Text: {}", "Label: positive\n{}", "Review 1: {}", "{}\nLabel: negative", "**Text:** {}", "Negative: {}"],
    "bullet": ["- {}", "1. {}", "* {}", "• {}", "(2) {}".replace("(2)", "2)")],
    "remark": ["{}\n\nThis text carries the label because it praises.", "{}\n\n*Note: I made this up.*"],
    "quotes": ['"{}"', "“{}”", "«{}»", '{}"', "'{}'", '"{}"\n\nThat is what a writer could say.'],
}  # fmt: skip
CASES = [(rule, wrapper) for rule, wrappers in WRAPPERS.items() for wrapper in wrappers]


@pytest.mark.parametrize(("rule", "wrapper"), CASES, ids=lambda value: repr(value)[:40])
def test_what_surrounds_a_text_is_cut_off_and_named(rule: str, wrapper: str) -> None:
    text = "The film was slow, but it's music that stays with you."
    cleaned = CLEANER.clean(wrapper.format(text))
    assert cleaned.text == text
    assert rule in cleaned.rules


@given(TEXTS)
def test_a_plain_text_stays_as_it_is(text: str) -> None:
    assert CLEANER.clean(f"\n {text} ") == (text, ())


LAYERS = {
    "markdown": "**{}**",
    "quotes": '"{}"',
    "bullet": "- {}",
    "label": "Text: {}",
    "lead_in": "Sure! Here is one:\n\n{}",
    "remark": "{}\n\nThis text shows what was asked for.",
    "end_marker": "{}<|im_end|>\nUser: more",
    "thinking": "<think>\n1. What is a text?\n</think>\n{}",
}
"""What teachers put around a text, from the inside to the outside."""


@given(TEXTS, st.sets(st.sampled_from(list(LAYERS))))
def test_a_text_comes_out_of_all_that_is_around_it(text: str, chosen: set[str]) -> None:
    reply = text
    for rule, wrapper in LAYERS.items():
        reply = wrapper.format(reply) if rule in chosen else reply
    cleaned = CLEANER.clean(reply)
    assert cleaned.text == text
    assert set(cleaned.rules) == chosen


@given(st.text(max_size=80) | st.lists(st.sampled_from([w for _, w in CASES]) | TEXTS).map("\n".join))
def test_cleaning_again_changes_nothing(reply: str) -> None:
    cleaned = CLEANER.clean(reply)
    assert CLEANER.clean(cleaned.text) == (cleaned.text, ())
    assert len(cleaned.text) <= len(reply)
    assert bool(cleaned.rules) == (cleaned.text != reply.strip())


@pytest.mark.parametrize(
    "reply",
    [
        "5 - 3 is not 1, they told me.",
        "1. The first.\n2. The second.",
        "The song is called *Blue* and the singer *Red*.",
        'He said "no" and she said "yes".',
        '"No" was her answer, and "yes" his.',
        "The label: it is torn.",
        "Sure enough, the film was bad.",
        "I'm sure: the film was bad.",
        "Price < 5 and > 3, <b>really</b>.",
        "My review: none.",
    ],
)
def test_what_only_looks_like_a_wrapping_stays(reply: str) -> None:
    assert PLAIN_CLEANER.clean(reply) == (reply, ())


def test_thinking_without_an_end_leaves_nothing() -> None:
    assert PLAIN_CLEANER.clean("<think>The user wants a text. Let me") == ("", ("thinking",))


def test_what_gold_texts_do_is_not_cut_off() -> None:
    gold = ["- buy milk", "- call home", "Text: the bell rang"]
    cleaner = cleaner_for(gold, NAMES)
    for text in gold:
        assert cleaner.clean(text) == (text, ())
    assert cleaner.clean("**buy bread**").text == "buy bread"
    assert cleaner_for([], NAMES) == CLEANER


def test_an_unfinished_sentence_is_cut_if_there_is_a_whole_one() -> None:
    assert whole_sentences("One. Two!\n\nThree and") == "One. Two!"
    assert whole_sentences("很好吃。下次") == "很好吃。"
    assert whole_sentences("no end") == "no end"


GOLD = {
    "sst2": [
        "a dull , overlong mess .", "none of it is funny or moving", "a quiet film that stays with you",
        "warm , clever and very well acted",
    ],
    "trec": [
        "Who painted the ceiling of the chapel ?", "Who was the first woman in space ?",
        "Where is the longest river of Asia ?", "What country borders Portugal ?",
    ],
}  # fmt: skip


@pytest.mark.parametrize("row", [json.loads(line) for line in REPLIES.read_text(encoding="utf-8").splitlines()])
def test_real_replies(row: dict[str, str]) -> None:
    """Each row holds a reply, the text that a person would take from it, and the rule that drops it ("": kept)."""
    cleaned = ReplyCleaner(tuple(row["names"])).clean(row["reply"])
    assert cleaned.text == row["text"]
    candidate = Candidate(Example("c", {"text": cleaned.text}, row["label"]))
    dropped = check_rules([candidate], gold=GOLD[row["task"]], names=row["names"]).dropped
    assert (dropped[0].reason if dropped else "") == row["dropped"]
