"""Laws of the records and of their JSON Lines."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3local.exceptions import InputError, StorageError
from s3local.records import Candidate, Dropped, Example, FilterResult, read_jsonl, write_jsonl

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=6))
def test_rows_come_back_as_written_one_a_line(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_jsonl(path, rows)
        assert list(read_jsonl(path)) == list(enumerate(rows, start=1))


@given(
    st.text(),
    st.dictionaries(st.text().filter(lambda key: key not in ("id", "label", "origin")), st.text(), max_size=3),
    st.text(),
    st.dictionaries(st.text(), json_values, max_size=3),
)
def test_a_candidate_is_what_its_row_says(row_id, fields, label, origin):
    candidate = Candidate(Example(row_id, fields, label), origin)
    assert Candidate.from_row(candidate.to_row()) == candidate


def test_the_text_of_a_row_is_its_fields_in_order():
    assert Example("1", {"premise": "It rains.", "hypothesis": "It is wet."}, "yes").text == "It rains.\nIt is wet."


@given(st.lists(st.text(), max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_filters_in_a_row_lose_no_candidate(texts, first_limit, second_limit):
    def shorter_than(limit, reason):
        def apply(candidates):
            kept = [candidate for candidate in candidates if len(candidate.text) < limit]
            dropped = [Dropped(c, reason, len(c.text)) for c in candidates if len(c.text) >= limit]
            return FilterResult(kept, dropped)

        return apply

    candidates = [Candidate(Example(str(number), {"text": text}, "x")) for number, text in enumerate(texts)]
    result = shorter_than(first_limit, "first")(candidates).then(shorter_than(second_limit, "second"))
    everything = [*result.kept, *(dropped.candidate for dropped in result.dropped)]
    assert sorted(c.example.id for c in everything) == sorted(c.example.id for c in candidates)
    assert all(len(candidate.text) < min(first_limit, second_limit) for candidate in result.kept)


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b'{"a": 1}\n\n{"a":\n', 3, "not valid JSON: Expecting value at column"),
        (b'{"a": 1}\n[1]\n', 2, "a JSON object belongs here, found list"),
        (b'{"a": 1}\n{"a": "\xff"}\n', 2, "byte 0xff at position 8 is not UTF-8"),
        (b'{"a": "\0"}\n', 1, "not valid JSON: Invalid control character at column 8"),
        (b'{"a": ' + b"1" * 5000 + b"}\n", 1, "a number too long"),
        (b"[" * 100_000, 1, "nested too deeply"),
        (b'{"a": 1}\n{"a": ["x \\ud83d"]}\n', 2, r"half a character \(\\ud83d\)"),
        (b'{"\\ude00": 1}\n', 1, "half a character"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, line, words):
    if words == "a number too long" and not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("this Python reads numbers of any length")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        list(read_jsonl(path))
    assert (caught.value.path, caught.value.line) == (path, line)
    assert "\n" not in str(caught.value)


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n  \r\n\r\n{"a": 2}')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (4, {"a": 2})]


def test_a_missing_file_is_the_users_to_mend(tmp_path):
    with pytest.raises(InputError, match="no such file; JSON Lines belong here"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_a_folder_cannot_be_read_as_rows(tmp_path):
    with pytest.raises(StorageError, match="this is a folder, where a file belongs"):
        list(read_jsonl(tmp_path))
