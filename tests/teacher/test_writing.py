"""Stop strings, caps and characters that lie across the borders of tokens."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.teacher.protocol import Completion, Request
from s3local.teacher.writing import Writing


def written(pieces: list[bytes], stop: tuple[str, ...] = (), max_tokens: int = 10_000) -> Completion | None:
    """The completion that these pieces lead to; the model ends after the last one."""
    writing = Writing(Request("prompt", seed=0, stop=stop, max_tokens=max_tokens), prompt=[1])
    for piece in pieces:
        completion = writing.add(5, -1.0, piece, ends_turn=False)
        if completion is not None:
            return completion
    return writing.add(2, -1.0, b"", ends_turn=True)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_characters_survive_any_borders(text: str, cuts: list[int]) -> None:
    pieces = split(text.encode(), cuts)
    completion = written(pieces)
    assert completion == Completion(text, len(pieces) + 1, "end", -1.0 * (len(pieces) + 1))


@given(
    st.text("ab\n🙂é", max_size=30),
    st.lists(st.integers(0, 1000)),
    st.lists(st.text("ab\n🙂é", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_stop_strings_across_any_borders(text: str, cuts: list[int], stops: list[str]) -> None:
    """The text ends before the stop string that is complete first."""
    pieces = split(text.encode(), cuts)
    completion = written(pieces, tuple(stops))
    assert completion is not None
    assert not any(stop in completion.text for stop in stops)
    assert text.startswith(completion.text)
    if any(stop in text for stop in stops):
        assert completion.finish == "stop"
        assert any(text.startswith(completion.text + stop) for stop in stops)
        read = b"".join(pieces[: completion.n_tokens]).decode(errors="ignore")
        before = b"".join(pieces[: completion.n_tokens - 1]).decode(errors="ignore")
        assert any(stop in read for stop in stops) and not any(stop in before for stop in stops)
    else:
        assert (completion.text, completion.finish) == (text, "end")


@pytest.mark.parametrize("character", ["é", "汉", "🙂"])
def test_cap_inside_a_character_drops_its_bytes(character: str) -> None:
    for kept in range(len(character.encode())):
        pieces = [bytes([byte]) for byte in ("ab" + character).encode()]
        completion = written(pieces, max_tokens=2 + kept)
        assert completion is not None
        assert (completion.text, completion.finish) == ("ab", "length")


def test_bytes_that_are_no_text_are_replaced() -> None:
    completion = written([b"a\xff", b"\x80b"])
    assert completion is not None and completion.text == "a��b"


def test_earliest_of_two_stops_in_one_piece() -> None:
    completion = written([b"one END two\n"], stop=("\n", "END"))
    assert completion is not None and completion.text == "one "


def test_cap_counts_tokens_and_stop_wins_over_cap() -> None:
    capped = written([b"a", b"b", b"c"], max_tokens=2)
    assert capped == Completion("ab", 2, "length", -2.0)
    stopped = written([b"a", b"\n"], stop=("\n",), max_tokens=2)
    assert stopped == Completion("a", 2, "stop", -2.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"max_tokens": 0}, "max_tokens"), ({"stop": ("",)}, "stop"), ({"seed": -1}, "seed")],
)
def test_impossible_requests_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(**{"prompt": "p", "seed": 0, **wrong})  # type: ignore[arg-type]
