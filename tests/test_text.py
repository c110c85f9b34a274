"""Laws of texts that hold in every script."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.text import composed, is_blank

INVISIBLE = " \t\n\u00a0\u00ad\u180e\u200b\u200c\u200d\u2028\u2060\u2800\u3000\u3164\ufe0f\ufeff"


@given(st.text(INVISIBLE))
def test_nothing_can_be_seen_of_a_blank_text(text: str) -> None:
    assert is_blank(text)


@given(st.text(INVISIBLE), st.characters(categories=["L", "N", "P", "S"]), st.text(INVISIBLE))
def test_one_visible_character_is_a_text(before: str, character: str, after: str) -> None:
    if character not in "\u115f\u1160\u2800\u3164\uffa0":
        assert not is_blank(before + character + after)


@pytest.mark.parametrize("emoji", ["👩\u200d🚒", "❤\ufe0f", "🏳\ufe0f\u200d🌈"])
def test_an_emoji_is_a_text(emoji: str) -> None:
    assert not is_blank(emoji)


@given(st.text())
def test_both_forms_of_a_letter_are_composed_alike(text: str) -> None:
    assert composed(unicodedata.normalize("NFD", text)) == composed(text)
