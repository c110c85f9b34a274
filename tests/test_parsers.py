"""Every parser on bytes that nobody would write: it gives a value, or one error that a user can read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from weights_world import make_gguf, make_safetensors

from s3local.exceptions import S3LocalError
from s3local.records import read_jsonl
from s3local.results import RunSummary, read_result
from s3local.sources import open_rows
from s3local.synthesis.replies import cleaner_for
from s3local.task.model import load_task
from s3local.task.yaml_file import read_yaml
from s3local.weights.folders import check_model_folder
from s3local.weights.headers import check_safetensors, read_gguf_header

GGUF, SAFETENSORS = make_gguf(template=True), make_safetensors()
PIECES = [
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "\n",
    "\0",
    "\ufeff",
    "&a",
    "*a",
    "- ",
    "text",
    "label",
    "1e999",
    "\\ud800",
]
TEXTS = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES)).map(lambda its: "".join(its).encode()))


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """``whole`` with some bytes changed, and cut somewhere."""
    changes = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8)

    def change(parts: tuple[list[tuple[int, int]], int]) -> bytes:
        made = bytearray(whole)
        for place, value in parts[0]:
            made[place] = value
        return bytes(made[: parts[1]])

    return st.tuples(changes, st.integers(0, len(whole))).map(change)


HEADERS = st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=100)).map(
    lambda its: struct.pack("<Q", its[0]) + its[1]
)


def read_all(path: Path) -> int:
    with open_rows(path) as source:
        return sum(1 for _ in source.rows)


PARSERS: dict[str, tuple[str, Callable[[Path], object], st.SearchStrategy[bytes]]] = {
    "JSON Lines": ("a.jsonl", lambda path: list(read_jsonl(path)), TEXTS),
    "rows of JSON Lines": ("a.jsonl", lambda path: read_all(path), TEXTS),
    "rows of CSV": ("a.csv", lambda path: read_all(path), TEXTS),
    "rows of TSV": ("a.tsv", lambda path: read_all(path), TEXTS),
    "YAML": ("task.yaml", read_yaml, TEXTS),
    "a task": ("task.yaml", load_task, TEXTS),
    "a result": ("result.json", lambda path: read_result(path, RunSummary), TEXTS),
    "a GGUF header": ("a.gguf", read_gguf_header, damaged(GGUF)),
    "a safetensors header": ("a.safetensors", check_safetensors, st.one_of(damaged(SAFETENSORS), HEADERS)),
    "modules.json": ("modules.json", lambda path: check_model_folder(path.parent), TEXTS),
    "config.json": ("config.json", lambda path: check_model_folder(path.parent), TEXTS),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_gives_a_value_or_one_line(name: str, tmp_path: Path) -> None:
    file, parse, contents = PARSERS[name]
    path = tmp_path / file

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(contents)
    def law(content: bytes) -> None:
        path.write_bytes(content)
        try:
            parse(path)
        except S3LocalError as exc:
            assert len(str(exc).splitlines()) == 1

    law()


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
