"""The file of decisions: what was told to be written is there, whatever happens afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.exceptions import RunError, StorageError
from s3local.review.decisions import Decision, DecisionLog, Decisions, read_decisions

A, B = Decision("a", "keep", "x", time=1.0), Decision("b", "edit", "y", {"text": "new\nline\r"}, 2.0, {"source": "f"})


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "decisions.jsonl"
    with DecisionLog.open(file, "d1") as log:
        log.append(A)
        log.append(B)
    assert read_decisions(file, "d1").entries == [A, B]
    with DecisionLog.open(file, "d1") as log:
        log.append(Decision("a", "undo"))
    found = read_decisions(file, "d1")
    assert found.of("a") is None and found.of("b") == B and len(found.entries) == 3


@pytest.mark.parametrize("torn", [b"{", b'{"row": "a", "decision": "drop"}', "{é".encode()[:2]])
def test_a_line_without_an_end_does_not_count_and_is_written_over(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "decisions.jsonl"
    with DecisionLog.open(file) as log:
        log.append(A)
    before = file.read_bytes()
    file.write_bytes(before + torn)
    assert read_decisions(file).entries == [A]
    with DecisionLog.open(file) as log:
        log.append(B)
    assert file.read_bytes().startswith(before) and read_decisions(file).entries == [A, B]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["keep", "drop", "undo"])), max_size=20))
def test_an_undo_takes_back_the_last_decision_that_holds(steps: list[tuple[str, str]]) -> None:
    decisions = Decisions()
    stacks: dict[str, list[str]] = {name: [] for name in "abc"}
    for row, action in steps:
        decisions.add(Decision(row, action))  # type: ignore[arg-type]
        if action == "undo":
            del stacks[row][-1:]
        else:
            stacks[row].append(action)
    held = {row: decision.action for row, decision in decisions.holding().items()}
    assert held == {row: stack[-1] for row, stack in stacks.items() if stack}
    assert [decisions.count(name) for name in "abc"] == [sum(row == name for row, _ in steps) for name in "abc"]


def test_decisions_on_other_rows_and_damaged_lines_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    with DecisionLog.open(file, "d1") as log:
        log.append(A)
    with pytest.raises(RunError, match=r"line 1.*another dataset"):
        read_decisions(file, "d2")
    file.write_text('{"row": "a", "decision": "think"}\n')
    with pytest.raises(RunError, match="line 1: not a decision"):
        read_decisions(file)


def test_a_log_without_a_decision_leaves_no_file(tmp_path: Path) -> None:
    with DecisionLog.open(tmp_path / "decisions.jsonl"):
        pass
    assert not list(tmp_path.iterdir())
    with DecisionLog.open(tmp_path / "decisions.jsonl") as log:
        log.append(A)
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.jsonl"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    with DecisionLog.open(file), pytest.raises(RunError, match="another s3local"), DecisionLog.open(file):
        pass
    with DecisionLog.open(file) as log:
        log.append(A)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    file = tmp_path / "decisions.jsonl"
    with DecisionLog.open(file) as log:
        log.append(A)
        real, log._stream = log._stream, open("/dev/full", "r+b", buffering=0)  # noqa: PTH123, SIM115
        with pytest.raises(StorageError, match="no space left"):
            log.append(B)
        log._stream.close()
        log._stream = real
        assert log.decisions.entries == [A]
        log.append(B)
    assert [json.loads(line)["row"] for line in file.read_text().splitlines()] == ["a", "b"]
