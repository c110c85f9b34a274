"""``data draw``: to a file or to standard output, and never over its pool."""

from __future__ import annotations

import json
from pathlib import Path

from program import call, complains


def test_rows_are_drawn_to_a_file_or_to_standard_output(task: Path, tmp_path: Path) -> None:
    arguments = ("data", "draw", str(task / "dev.jsonl"), "--rows", "3", "--per-label", "--seed", "1")
    drawn = call(*arguments).stdout
    assert len({json.loads(line)["label"] for line in drawn.splitlines()}) == 3
    assert call(*arguments, "-o", str(tmp_path / "few.jsonl")).stderr == f"wrote 3 rows to {tmp_path / 'few.jsonl'}\n"
    assert (tmp_path / "few.jsonl").read_text() == drawn
    complains(call("data", "draw", str(task / "dev.jsonl"), "--rows", "99"), "99 rows were asked for, found 6")


def test_a_sample_never_replaces_the_rows_that_it_is_drawn_from(task: Path) -> None:
    before = (task / "dev.jsonl").read_bytes()
    complains(
        call("data", "draw", str(task / "dev.jsonl"), "--rows", "1", "-o", str(task / "dev.jsonl")), "would replace"
    )
    assert (task / "dev.jsonl").read_bytes() == before


def test_a_separator_is_named_or_chosen(tmp_path: Path) -> None:
    (tmp_path / "pool.csv").write_text("text;label\na;b\n")
    arguments = ("data", "draw", str(tmp_path / "pool.csv"), "--rows", "1")
    assert json.loads(call(*arguments).stdout) == {"text": "a", "label": "b"}
    assert call(*arguments, "--separator", "tab").stdout == '{"text;label": "a;b"}\n'
    for option, value, problem in (("--separator", "::", "one character"), ("--encoding", "x", "unknown encoding")):
        result = call(*arguments, option, value)
        assert result.exit_code == 2 and problem in result.stderr
