"""Labels at the end of dev: what the user wrote stays byte for byte, and undoing leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_world import make_task

from s3local.exceptions import InputError
from s3local.review.decisions import Decision, DecisionLog
from s3local.review.dev_file import DevFile
from s3local.task.model import Task
from s3local.task.rows import load_rows

TEXTS = ['a "quoted", text', "two\nlines", "=1+1", "ünï 日本"]


def labelled(row: str, label: str, text: str = "some text") -> Decision:
    return Decision(row, "label", label, {"text": text}, 5.0, {"source": "texts.jsonl, line 3"})


def task_with(folder: Path, name: str, content: str) -> Task:
    make_task(folder)
    (folder / "dev.jsonl").unlink()
    (folder / name).write_text(content, encoding="utf-8")
    return Task.load(folder)


FILES = {
    "dev.jsonl": '{"text": "x was good", "label": "positive"}\n{"id": "b", "text": "y", "label": "negative"}',
    "dev.csv": "label,note,text\npositive,,x was good\nnegative,!,y\n",
    "dev.tsv": "text\tlabel\nx was good\tpositive\ny\tnegative",
}


@pytest.mark.parametrize("name", FILES)
def test_labelled_rows_are_read_like_any_and_undone_without_a_trace(tmp_path: Path, name: str) -> None:
    task = task_with(tmp_path, name, FILES[name])
    before, file = task.dev.read_bytes(), DevFile(task)
    decisions = [labelled(f"t{number}", "positive", text) for number, text in enumerate(TEXTS)]
    for decision in decisions:
        file.apply(None, decision)
    assert task.dev.read_bytes().startswith(before)
    rows = load_rows(task.dev, task)
    assert [(row.fields["text"], row.label) for row in rows[2:]] == [(text, "positive") for text in TEXTS]
    again = labelled("t0", "negative", TEXTS[0])
    file.apply(decisions[0], again)
    assert (rows[2].fields["text"], "negative") in {
        (row.fields["text"], row.label) for row in load_rows(task.dev, task)
    }
    for decision in (*decisions[1:], again):
        file.apply(decision, None)
    assert task.dev.read_bytes().rstrip(b"\n") == before.rstrip(b"\n")


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    task = task_with(tmp_path, "dev.jsonl", FILES["dev.jsonl"])
    file, decision = DevFile(task), labelled("t", "positive")
    file.apply(None, decision)
    once = task.dev.read_bytes()
    file.apply(None, decision)
    assert task.dev.read_bytes() == once
    file.apply(decision, None)
    file.apply(decision, None)
    file.apply(None, Decision("t", "skip"))
    assert len(load_rows(task.dev, task)) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.sampled_from(["positive", "negative", "skip", "undo"]), min_size=1, max_size=6), st.booleans())
def test_a_program_killed_between_decision_and_dev_file_catches_up(
    tmp_path: Path, steps: list[str], killed: bool
) -> None:
    task = task_with(tmp_path / "task", "dev.jsonl", FILES["dev.jsonl"])
    log_file, file = tmp_path / "task" / "decisions.jsonl", DevFile(task)
    log_file.unlink(missing_ok=True)
    with DecisionLog.open(log_file) as log:
        for number, step in enumerate(steps):
            before = log.decisions.of("t")
            if step in ("skip", "undo"):
                log.append(Decision("t", step))  # type: ignore[arg-type]
            else:
                log.append(Decision("t", "label", step, {"text": "new"}, float(number)))
            if not (killed and number == len(steps) - 1):
                file.apply(before, log.decisions.of("t"))
    with DecisionLog.open(log_file) as log:
        file.finish(log.decisions)
        holding = log.decisions.of("t")
    expected = [holding.label] if holding is not None and holding.action == "label" else []
    assert [row.label for row in load_rows(task.dev, task)[2:]] == expected


def test_a_table_without_a_column_for_the_label_is_refused(tmp_path: Path) -> None:
    task = task_with(tmp_path, "dev.csv", FILES["dev.csv"])
    task.dev.write_text("text\nx\n")
    with pytest.raises(InputError, match="line 1: no column"):
        DevFile(task)
