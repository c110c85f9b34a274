"""Every parser on bytes that nobody would write: it gives a value, or one error that a user can read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from parsers import DEEP, PARSERS

from s3local.sources import open_rows
from s3local.synthesis.replies import cleaner_for


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_gives_a_value_or_one_line(name: str, tmp_path: Path) -> None:
    parser = PARSERS[name]
    parser.make(tmp_path)

    @settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
    @given(parser.strategy(tmp_path))
    def law(content: bytes) -> None:
        parser.lawful(tmp_path, content)

    law()
    parser.lawful(tmp_path, DEEP)


def test_a_table_keeps_its_cells(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with open_rows(tmp_path / "a.csv") as source:
        assert [row.values for row in source.rows] == [{"a": "1", "b": "2"}]


@given(st.text(max_size=300))
@example('{"text": "x"')
@example("“" * 50)
def test_any_reply_of_the_teacher_is_a_text(reply: str) -> None:
    text, _ = cleaner_for(["a usual text"]).clean(reply)
    assert isinstance(text, str)
    assert len(text) <= len(reply)
    json.dumps({"text": text})
