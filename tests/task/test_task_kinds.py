"""Pairs and spans: what their tasks, rows and contexts look like, and what is told when they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3local.exceptions import InputError
from s3local.records import SPAN, Answer, Example
from s3local.task.check import summarize
from s3local.task.model import Task, load_task
from s3local.task.rows import load_contexts, load_dev, load_rows

PAIR = """\
name: follows
kind: pair
texts: statements about a premise
fields: [premise, hypothesis]
labels: {follows: it must be true, open: it may be false}
"""
PAIR_DEV = (
    '{"premise": "It rains.", "hypothesis": "It is wet.", "label": "follows"}\n'
    '{"premise": "It rains.", "hypothesis": "It is cold.", "label": "open"}\n'
)
SPANS = "name: find\nkind: extractive_qa\ntexts: questions about a paragraph\n"
CONTEXT = "The mill was built in 1870 by Ada Brook. It burnt down in 1870."
SPANS_DEV = json.dumps({"context": CONTEXT, "question": "Who built it?", "answer": "Ada Brook", "answer_start": 30})


def write_task(folder: Path, text: str, dev: str) -> Path:
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    (folder / "dev.jsonl").write_text(dev, encoding="utf-8")
    return folder


def error_of(load, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        load(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_pair_has_a_given_and_a_written_field(tmp_path):
    task = load_task(write_task(tmp_path, PAIR, PAIR_DEV))
    assert (task.source_fields, task.target_field, task.groups, task.targets) == (
        ("premise",),
        "hypothesis",
        ("follows", "open"),
        ("label",),
    )
    assert load_dev(task)[0] == Example("dev-1", {"premise": "It rains.", "hypothesis": "It is wet."}, "follows")
    other = load_task(write_task(tmp_path, PAIR + "generated: premise\n", PAIR_DEV))
    assert (other.source_fields, other.target_field, other.fields) == (
        ("hypothesis",),
        "premise",
        ("premise", "hypothesis"),
    )


def test_spans_have_answers_that_stand_in_the_context(tmp_path):
    task = load_task(write_task(tmp_path, SPANS, SPANS_DEV))
    assert (task.fields, task.source_fields, task.target_field, task.groups) == (
        ("context", "question"),
        ("context",),
        "question",
        (SPAN,),
    )
    (row,) = load_dev(task)
    assert row == Example(
        "dev-1", {"context": CONTEXT, "question": "Who built it?"}, SPAN, (Answer("Ada Brook", CONTEXT.index("Ada")),)
    )
    assert row.answers[0].stands_in(CONTEXT)


@pytest.mark.parametrize(
    ("answer", "start", "expected"),
    [
        ("1870", None, [22]),
        ("1870", 58, [58]),
        (["1870", "Ada Brook"], [58, 30], [58, 30]),
        (["1870", "1870"], None, [22]),
        (["1870", "1870"], [22, 22], [22]),
    ],
)
def test_answers_are_one_or_several_with_their_place_or_the_first(tmp_path, answer, start, expected):
    path = tmp_path / "rows.jsonl"
    row = {"context": CONTEXT, "question": "What?", "answer": answer, "answer_start": start}
    path.write_text(json.dumps(row))
    task = Task(name="x", kind="extractive_qa", texts="questions")
    (example,) = load_rows(path, task)
    assert [place.start for place in example.answers] == expected
    assert Example.from_row(example.to_row()) == example


def test_a_table_can_hold_spans_under_other_names(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("paragraph,ask,found,at\n" + f'"{CONTEXT}",When?,1870,58\n"{CONTEXT}",When?,1870,\n')
    columns = {"context": "paragraph", "question": "ask", "answer": "found", "answer_start": "at"}
    task = Task(name="x", kind="extractive_qa", texts="questions", columns=columns)
    assert [row.answers[0].start for row in load_rows(path, task)] == [58, 22]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": "Ida"}, 'answer: "Ida" does not stand in the context'),
        ({"answer_start": 31}, 'at character 31 stands "da Brook.", "Ada Brook" begins at 30'),
        ({"answer_start": -1}, "begins at 30"),
        ({"answer_start": "x"}, 'answer_start: found "x", a whole number belongs here'),
        ({"answer_start": True}, "a whole number belongs here"),
        ({"answer_start": [30, 31]}, "answer holds 1 answers, answer_start 2"),
        ({"answer": [], "answer_start": []}, "answer holds 0 answers"),
        ({"answer": None}, 'no "answer" here'),
        ({"answer": 7}, "answer: found 7, a text in quotes belongs here"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_with_its_line(tmp_path, change, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(SPANS_DEV + "\n" + json.dumps({**json.loads(SPANS_DEV), **change}))
    message = error_of(load_rows, path, Task(name="x", kind="extractive_qa", texts="questions"))
    assert f"{path}, line 2" in message
    assert words in message


def test_contexts_are_read_once_each_and_never_from_test(tmp_path):
    folder = write_task(tmp_path, PAIR, PAIR_DEV)
    assert load_task(folder).contexts is None
    (folder / "contexts.jsonl").write_text('{"premise": "a b"}\n{"premise": "c", "label": 3}\n{"premise": "a b"}\n')
    task = load_task(folder)
    assert task.contexts == folder / "contexts.jsonl"
    assert load_contexts(task.contexts, task) == ["a b", "c"]
    (folder / "test.jsonl").write_text(PAIR_DEV)
    assert "contexts must not come from test" in error_of(load_task, folder, None, None, folder / "test.jsonl")
    (folder / "bad.jsonl").write_text('{"premise": "a b"}\n{"premis": "c"}\n')
    assert 'line 2: no "premise" here, found "premis"' in error_of(load_contexts, folder / "bad.jsonl", task)
    (folder / "bad.csv").write_text("text\nc\n")
    assert 'no "premise" here, found "text"' in error_of(load_contexts, folder / "bad.csv", task)
    (folder / "empty.jsonl").write_text("")
    assert "one premise a line belongs here" in error_of(load_contexts, folder / "empty.jsonl", task)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PAIR.replace("it must be true", "{description: x, rationales: [y]}"), "line 5: labels.follows.rationales"),
        (PAIR + "prompts: {rationale: $label}\n", "line 6: prompts.rationale: unknown prompt of a task of kind pair"),
        (PAIR + "prompts: {seed: $label}\n", "line 6: prompts.seed: the variable $given is missing"),
        (SPANS + "prompts: {seed: $given}\n", "line 4: prompts.seed: the variable $answer is missing"),
        (SPANS + "prompts: {seed: $given $label}\n", 'unknown variable "$label"'),
        (SPANS + "generated: context\n", "question answering always writes its last field"),
        (SPANS + "fields: [answer, question]\n", '"answer" holds the answer'),
        (SPANS + "fields: [context]\n", "exactly two fields"),
        (SPANS + "columns: {label: x}\n", 'unknown key "label"'),
        (PAIR.replace("labels: {follows: it must be true, open: it may be false}", ""), "labels is missing"),
    ],
)
def test_what_a_kind_has_no_use_for_is_told(tmp_path, text, words):
    assert words in error_of(load_task, write_task(tmp_path, text, PAIR_DEV))


def test_a_task_can_bring_its_prompts(tmp_path):
    task = load_task(write_task(tmp_path, PAIR + "prompts:\n  seed: |\n    $given\n    ${phrase}: $$5\n", PAIR_DEV))
    assert task.prompts.seed == "$given\n${phrase}: $$5\n"


def test_check_counts_contexts_and_measures_what_is_written(tmp_path):
    task = load_task(write_task(tmp_path, PAIR, PAIR_DEV))
    summary = summarize(task, load_dev(task))
    assert (summary.dev.contexts, summary.dev.characters.max) == (1, len("It is cold."))
    task = load_task(write_task(tmp_path, SPANS, SPANS_DEV))
    summary = summarize(task, load_dev(task))
    assert summary.dev.per_label == {SPAN: 1}
    assert summary.length.max == 2 * len("Who built it?")
