"""Laws of texts that hold in every script."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.text import composed, excerpt, is_blank, normal_form, script_counts, units_of, writes_without_spaces

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


@given(st.text())
def test_normal_form_is_stable_and_squeezed(text: str) -> None:
    form = normal_form(text)
    assert normal_form(form) == form
    assert form == " ".join(form.split())


@given(st.text(), st.sampled_from(["", " ", "\n\t", "!?", "…", "。", "«"]))
def test_normal_form_does_not_see_case_space_and_punctuation(text: str, noise: str) -> None:
    assert normal_form(f"{noise}{text.strip()}{noise}") == normal_form(text)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Straße!", "STRASSE"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("Cafe\u0301", "café"),
        ("No... really?!", "no, really"),
        ("很好吃,服务快。", "很好吃 服务快"),
    ],
)
def test_texts_of_one_form(a: str, b: str) -> None:
    assert normal_form(a) == normal_form(b)


@pytest.mark.parametrize(("a", "b"), [("C", "C++"), ("5 %", "5 €"), ("ok 😀", "ok 😡"), ("कि", "की"), ("3.5", "35")])
def test_texts_of_two_forms(a: str, b: str) -> None:
    assert normal_form(a) != normal_form(b)


def test_scripts_come_from_the_letters() -> None:
    assert script_counts("Das Wort «слово», 3 mal!") == {"LATIN": 10, "CYRILLIC": 5}
    assert script_counts("ＡＢＣ") == {"LATIN": 3}
    assert not script_counts("12 + 3 = 15 😀")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("plain words", False),
        ("слова", False),
        ("이 식당은 좋다", False),
        ("这家餐厅的菜很好吃", True),
        ("この店はいい", True),
        ("อาหารอร่อยมาก", True),
        ("我喜欢 AI 电影配乐", True),
    ],
)
def test_scripts_without_spaces_are_known(text: str, expected: bool) -> None:
    assert writes_without_spaces([text]) is expected


def test_units_are_words_or_characters() -> None:
    assert units_of("Two words, TWO!", by_character=False) == ["two", "words", "two"]
    assert units_of("很好, 吃", by_character=True) == ["很", "好", "吃"]


def test_an_excerpt_is_one_short_quoted_line() -> None:
    assert excerpt(" two\n lines ") == '"two lines"'
    assert len(excerpt("x" * 500)) == 83
