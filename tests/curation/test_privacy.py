"""Personal data is found, kept out of synthetic rows, and replaced by invented values of the same kind."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked_sentences import SENTENCES, score, unmarked

from s3local.curation.privacy import PersonalData, Pseudonymiser, find_personal_data
from s3local.records import Answer, Candidate, Example


def test_personal_data_of_two_languages_is_found_with_few_false_alarms() -> None:
    counts = score()
    assert counts["sentences"] >= 150
    assert counts["found"] / counts["values"] >= 0.95
    assert 1 - counts["false_alarms"] / counts["alarms"] >= 0.98


@given(st.text(max_size=80))
def test_any_text_gives_ordered_spans_that_do_not_overlap(text: str) -> None:
    found = find_personal_data(text)
    assert all(text[its.start : its.end] == its.value for its in found)
    assert all(before.end <= after.start for before, after in pairwise(found))


@pytest.mark.parametrize("text", ["0" * 20_000, "a." * 10_000 + "@", "Anna " * 4_000, "A-" * 10_000, ":" * 20_000])
def test_a_long_text_is_read_to_its_end(text: str) -> None:
    find_personal_data(text)


def candidate(text: str) -> Candidate:
    return Candidate(Example("s1", {"text": text}, "a"))


GOLD = [
    "Mail me at jane.harper@mailbox.org, please.",
    "My number is (212) 555-0187.",
    "I am David Millerton and my account number is 00482913.",
    "Born on 12 March 1981.",
    *["George Washingtonian spoke again."] * 3,
]


@pytest.mark.parametrize(
    "text",
    [
        "Ask jane.harper@mailbox.org about it.",
        "Write to Jane.Harper@Mailbox.org!",
        "call 212-555-0187 now",
        "the customer 0048 2913 complained",
        "then david millerton left",
        "it says 12 march 1981 there",
    ],
)
def test_a_text_that_repeats_a_value_of_a_gold_row_is_dropped(text: str) -> None:
    result = PersonalData(GOLD).filter([candidate(text)], "text")
    assert [drop.reason for drop in result.dropped] == ["repeats_personal_data"]


@pytest.mark.parametrize(
    "text",
    [
        "Ask john.harper@mailbox.org about it.",
        "My number is (212) 555-0188.",
        "David called.",
        "George Washingtonian won.",
    ],
)
def test_other_values_single_words_and_public_names_are_kept(text: str) -> None:
    assert PersonalData(GOLD).filter([candidate(text)], "text").dropped == []


def test_no_value_of_a_row_is_left_and_the_rest_of_it_stays() -> None:
    pseudonymiser = Pseudonymiser(1, "English")
    for sentence in SENTENCES:
        text, _ = unmarked(sentence)
        found = find_personal_data(text)
        replaced = pseudonymiser.text("r1", text)
        for its in found:
            assert its.value not in replaced
        rest = re.split("|".join(re.escape(its.value) for its in found), text) if found else [text]
        at = 0
        for piece in rest:
            at = replaced.index(piece, at) + len(piece)


def test_a_value_has_one_replacement_in_all_fields_of_a_row_and_others_elsewhere() -> None:
    fields = {
        "a": "My name is Laura Bianchi, call 030 1234567.",
        "b": "Laura said: 030 1234567. Ms Bianchi agreed.",
    }
    pseudonymiser = Pseudonymiser(1, "German")
    row = pseudonymiser.example(Example("r1", fields, "x"))
    name, phone = re.fullmatch(r"My name is (.+), call (.+)\.", row.fields["a"]).groups()  # type: ignore[union-attr]
    first, last = name.split(" ", 1)
    assert row.fields["b"] == f"{first} said: {phone}. Ms {last} agreed."
    assert pseudonymiser.example(Example("r1", fields, "x")) == row
    assert pseudonymiser.example(Example("r2", fields, "x")).fields != row.fields


def test_an_invented_value_has_the_form_of_the_old_one() -> None:
    made = Pseudonymiser(3, "English")
    iban = made.text("r", "IBAN GB82 WEST 1234 5698 7654 32")
    assert re.fullmatch(r"IBAN GB\d\d( \d{4}){4} \d\d", iban)
    assert [its.kind for its in find_personal_data(iban.removeprefix("IBAN "))] == [
        "iban"
    ]  # its check digits are right
    assert re.fullmatch(r"born 0?\d\d?\.\d\d?\.\d{4}", made.text("r", "born 03.11.1975"))
    assert made.text("r", "from 203.0.113.77 again").startswith("from 192.0.2.")
    assert re.fullmatch(r"ring 0\d\d \d{4} \d{4}", made.text("r", "ring 020 7946 0958"))


def test_answers_stand_in_the_replaced_context() -> None:
    context = "Yesterday Laura Bianchi moved to 14 Maple Street with two dogs."
    answers = tuple(
        Answer(text, context.index(text))
        for text in ("Laura Bianchi", "Bianchi", "two dogs", "Yesterday", "moved to 14")
    )
    row = Pseudonymiser(1, "English").example(
        Example("r1", {"context": context, "question": "Who?"}, "answer", answers)
    )
    assert all(answer.stands_in(row.fields["context"]) for answer in row.answers)
    assert row.answers[0].text == row.answers[1].text != "Laura Bianchi"
    assert [answer.text for answer in row.answers[2:4]] == ["two dogs", "Yesterday"]
    assert row.answers[4].text.startswith("moved to ") and "Maple" not in row.answers[4].text
