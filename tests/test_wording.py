"""Words of messages: short, on one line, and with the nearest name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.wording import MAX_SHOWN_CHARACTERS, MAX_SHOWN_NAMES, about, counted, listed, shown, unknown


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_a_value_is_shown_short_and_on_one_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= MAX_SHOWN_CHARACTERS
    assert text.isprintable()


def test_a_long_list_says_how_many_are_left_out() -> None:
    names = [f"name-{number}" for number in range(MAX_SHOWN_NAMES + 1_234)]
    assert listed(names[:2]) == '"name-0", "name-1"'
    assert listed(names).endswith('"name-19", and 1,234 more')
    assert listed(names[:3], 1) == '"name-0", and 2 more'


def test_one_is_singular() -> None:
    assert [counted(number, "row") for number in (0, 1, 2, 1_200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]


@pytest.mark.parametrize(
    ("found", "nearest"),
    [
        ("Fault", "fault"),
        ("fualt", "fault"),
        ("1.0", "1"),
        ("1e0", "1"),
        ("TRUE", "true"),
        ("zebra", None),
        ("3", None),
    ],
)
def test_the_nearest_name_is_asked_for(found: str, nearest: str | None) -> None:
    message = unknown("label", found, ["fault", "1", "12", "true"])
    assert (f'did you mean "{nearest}"?' in message) == (nearest is not None)
    assert message.endswith('known are "fault", "1", "12", "true"')


def test_a_duration_is_told_in_minutes_or_hours() -> None:
    said = [about(seconds) for seconds in (0, 40, 80, 666, 5_900, 6_100, 86_400)]
    assert said == [
        "about 1 minute",
        "about 1 minute",
        "about 1 minute",
        "about 11 minutes",
        "about 98 minutes",
        "about 2 hours",
        "about 24 hours",
    ]
