"""Laws of row files: what is right loads the same from any format, what is wrong is named with file and line."""

from __future__ import annotations

import csv
import json
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_task import DEV, TASK, YAML, error_of, texts, write_task

from s3local.records import Example
from s3local.sources import Reading
from s3local.task.model import Task, load_task
from s3local.task.rows import MAX_TEXT_CHARACTERS, load_dev, load_rows
from s3local.text import is_blank

characters = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
names = characters.map(lambda name: unicodedata.normalize("NFC", name)).filter(lambda name: not is_blank(name))
labelled = st.lists(st.tuples(texts, st.sampled_from(TASK.label_names)), min_size=1, max_size=5)


def write_rows(path: Path, columns: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".jsonl":
            stream.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        else:
            writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([columns, *rows])
    return path


@settings(deadline=None, max_examples=60)
@given(labelled, st.lists(names, min_size=4, max_size=4, unique=True), st.permutations(range(4)))
def test_any_columns_in_any_format_give_the_same_rows(rows, columns, order):
    id_name, text_name, label_name, other = columns
    task = TASK.model_copy(update={"columns": {"id": id_name, "text": text_name, "label": label_name}})
    wanted = [Example(f"row {number}", {"text": text}, label) for number, (text, label) in enumerate(rows)]
    table = [[row.id, row.fields["text"], row.label, "left out"] for row in wanted]
    shuffled_columns = [[id_name, text_name, label_name, other][place] for place in order]
    shuffled = [[row[place] for place in order] for row in table]
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".jsonl", ".csv", ".tsv"):
            path = write_rows(Path(folder) / f"rows{suffix}", shuffled_columns, shuffled)
            if suffix != ".jsonl" and shuffled_columns[0].startswith("\ufeff"):
                continue  # at the start of a table that character is a byte order mark
            assert load_rows(path, task) == wanted


@settings(deadline=None, max_examples=60)
@given(labelled, st.sampled_from([".jsonl", ".csv", ".tsv"]))
def test_the_line_of_a_bad_row_is_the_line_it_begins_on(rows, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = write_rows(Path(folder) / f"rows{suffix}", ["text", "label"], [list(row) for row in rows])
        before = path.read_bytes()
        write_rows(path, ["text", "label"], [*(list(row) for row in rows), ["fine\ntext", "nonsense"]])
        error = error_of(load_rows, path, TASK)
        assert error.line == len(before.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        assert 'unknown label "nonsense"' in str(error)


def test_rows_without_an_id_are_called_after_their_line(tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(
        '{"text": "a", "label": "fault"}\n\n{"id": "", "text": "b", "label": "fault"}\n{"id": 7, ' + DEV[1:]
    )
    assert [row.id for row in load_rows(path, TASK)] == ["dev-1", "dev-3", "7", "dev-5"]


def test_labels_are_compared_as_text(tmp_path):
    task = Task(name="t", texts="texts", labels={"0": "a", "1": "b", "true": "c"})
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": 0}\n{"text": "a", "label": " 1 "}\n{"text": "a", "label": true}\n')
    assert [row.label for row in load_rows(path, task)] == ["0", "1", "true"]


GOOD = b'{"text": "a", "label": "fault"}\n'


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, "no rows"),
        (b"\n \n", None, "no rows"),
        (GOOD * 6 + b'{"text": "a"', 7, "not valid JSON"),
        (GOOD + b"[]", 2, "a JSON object belongs here"),
        (GOOD + b'{"text": "a", "label": "fautl"}', 2, 'did you mean "fault"? known are "fault", "praise"'),
        (GOOD + b'{"text": "a", "label": "PRAISE"}', 2, 'did you mean "praise"?'),
        (GOOD + b'{"text": "a", "label": null}', 2, 'no "label" here, found "text"'),
        (GOOD + b'{"text": "a", "label": {"fault": 1}}', 2, "label: found keys with values"),
        (GOOD + b'{"body": "a", "label": "fault"}', 2, 'no "text" here, found "body", "label"; if another column'),
        (GOOD + b'{"text": 5, "label": "fault"}', 2, "text: found 5, a text in quotes belongs here"),
        (GOOD + b'{"text": " \\n", "label": "fault"}', 2, "the text is empty"),
        (GOOD + b'{"text": "a\\u0000", "label": "fault"}', 2, "a NUL character at position 2"),
        (GOOD + b'{"text": "\\ud83d", "label": "fault"}', 2, "half a character"),
        (GOOD + b'{"text": "\xe9", "label": "fault"}', 2, "byte 0xe9 at position 11 is not UTF-8"),
        (GOOD + b'{"id": "rows-1", ' + GOOD[1:], 2, 'the id "rows-1" is on line 1 already'),
        (b'{"id": 1, ' + GOOD[1:] + b'{"id": "1", ' + GOOD[1:], 2, 'the id "1" is on line 1 already'),
        (b'{"id": {}, ' + GOOD[1:], 1, "id: found keys with values"),
        (b'{"label": "fault", "text": "' + b"a" * 1_000_000 + b'"}', 1, "1,000,000 characters, at most 100,000"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, content, line, words):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    error = error_of(load_rows, path, TASK)
    assert (error.path, error.line) == (path, line)
    assert words in str(error)


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, "no rows"),
        (b"text,label\n", None, "no rows"),
        (b"a,fault\n", 1, 'no "text" here, found "a", "fault"'),
        (b"text,label,text\n", 1, 'the column "text" is there twice'),
        (b"text,label\na,fault\na,b,fault\n", 3, "3 columns, the header has 2"),
        (b"text,label\n\na\n", 3, "1 columns, the header has 2"),
        (b"text,label\n,fault\n", 2, "the text is empty"),
        (b"text,label\na,\n", 2, 'unknown label ""'),
        (b'text,label\na,fault\n"b,fault\nc,fault\n', 3, "a quotation mark that opens must close"),
        (b'text,label\n"a"b,fault\n', 2, "no valid row begins here"),
        (b"text,label\na\0,fault\n", 2, "NUL character"),
        (b"text,label\na,fault\n\xe9,fault\n", 3, "byte 0xe9 at position 1 is not UTF-8"),
        (b"text,label\n" + b"a" * 120_000 + b",fault\n", 2, "120,000 characters, at most 100,000"),
        (b"text,label\n" + b"a" * 1_000_000 + b",fault\n", 2, "1,000,000 characters, at most 100,000 are allowed"),
        (b"text;label\na;fault\nb;c;fault\n", 3, "3 columns, the header has 2, divided by a semicolon"),
        (b",,\na,fault,\n", 1, "the header has no names"),
    ],
)
def test_a_bad_table_row_is_named_with_its_line(tmp_path, content, line, words):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    error = error_of(load_rows, path, TASK)
    assert (error.path, error.line) == (path, line)
    assert words in str(error)


def test_a_table_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(tmp_path):
    path = tmp_path / "rows.CSV"
    path.write_bytes(b'\xef\xbb\xbftext,label\r\n"a, ""b""\r\nc",fault\r\n')
    assert load_rows(path, TASK) == [Example("rows-2", {"text": 'a, "b"\r\nc'}, "fault")]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_a_text_of_any_length_has_the_same_message_in_every_format(tmp_path, suffix):
    path = write_rows(tmp_path / f"rows{suffix}", ["text", "label"], [["a" * 140_000, "fault"]])
    assert str(error_of(load_rows, path, TASK)).endswith("text: 140,000 characters, at most 100,000 are allowed")
    write_rows(path, ["text", "label", "note"], [["a", "fault", "b" * 140_000]])
    assert [row.text for row in load_rows(path, TASK)] == ["a"]


BLANK = ["\u200b", "\ufeff\u200d", "\u2060 \u00ad", "\u3164", "\u200e\u200f", "\t\u00a0\u3000"]


@pytest.mark.parametrize("text", BLANK)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_text_of_which_nothing_can_be_seen_is_empty(tmp_path, text, suffix):
    path = write_rows(tmp_path / f"rows{suffix}", ["label", "text"], [["fault", "a"], ["fault", text]])
    error = error_of(load_rows, path, TASK)
    assert error.line == len(path.read_text(encoding="utf-8").splitlines())
    assert str(error).endswith("text: the text is empty")


def test_letters_of_one_or_two_characters_are_the_same_label_and_column(tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"
    for in_task, in_rows in ((one, two), (two, one)):
        text = f"name: t\ntexts: texts\nlabels: {{{in_task}: a, tea: b}}\ncolumns: {{text: text {in_task}}}\n"
        rows = [{f"text {in_rows}": in_rows, "label": in_rows}, {f"text {in_rows}": "b", "label": "tea"}]
        task = load_task(write_task(tmp_path, text, dev="".join(json.dumps(row) + "\n" for row in rows)))
        dev = load_dev(task)
        assert [row.label for row in dev] == list(task.label_names) == [one, "tea"]
        assert dev[0].text == in_rows  # a text stays as it is
        table = write_rows(tmp_path / "rows.csv", list(rows[0]), [list(row.values()) for row in rows])
        assert [row.label for row in load_rows(table, task)] == [one, "tea"]


@pytest.mark.parametrize(("found", "meant"), [("1.0", "1"), ("01", "1"), ("2.00", "2")])
def test_the_same_number_is_what_was_meant(tmp_path, found, meant):
    task = Task(name="t", texts="texts", labels={"1": "a", "2": "b", "x": "c"})
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a", "label": found}))
    assert f'unknown label "{found}", did you mean "{meant}"?' in str(
        error_of(load_rows, tmp_path / "rows.jsonl", task)
    )


def test_the_longest_text_is_allowed_and_one_more_character_is_not(tmp_path):
    path = tmp_path / "rows.csv"
    write_rows(path, ["text", "label"], [["ä" * MAX_TEXT_CHARACTERS, "fault"]])
    assert len(load_rows(path, TASK)) == 1
    write_rows(path, ["text", "label"], [["ä" * (MAX_TEXT_CHARACTERS + 1), "fault"]])
    assert "100,001 characters" in str(error_of(load_rows, path, TASK))


def test_files_that_are_not_rows(tmp_path):
    assert "ends in .jsonl, .csv, .tsv, .json, .xlsx, .parquet" in str(error_of(load_rows, tmp_path / "rows.txt", TASK))
    for name in ("none.jsonl", "none.csv", "none.tsv"):
        assert "no such file" in str(error_of(load_rows, tmp_path / name, TASK))


def test_each_label_needs_a_dev_row_but_no_test_row(tmp_path):
    task = load_task(write_task(tmp_path, dev=DEV.splitlines()[0], test=DEV.splitlines()[0]))
    assert 'no row has the label "praise"' in str(error_of(load_dev, task))
    assert len(load_rows(task.test, task)) == 1


def test_rows_without_a_single_answer_are_skipped_with_their_number_and_named(tmp_path):
    path = tmp_path / "export.jsonl"
    rows = [
        {"text": "a", "label": ["fault"]},
        {"text": "b", "label": []},
        {"text": "c", "label": ["fault", "praise"]},
        {"text": "d", "label": "praise"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    skipped = []
    assert [(row.id, row.label) for row in load_rows(path, TASK, skipped)] == [
        ("export-1", "fault"),
        ("export-4", "praise"),
    ]
    (sentence,) = skipped
    assert sentence == (
        f"{path}: skipped 2 rows without a single accepted answer: line 2 (no answer), "
        'line 3 (2 different answers: "fault", "praise")'
    )
    path.write_text(json.dumps(rows[1]))
    assert "no rows, 1 row without a single accepted answer" in str(error_of(load_rows, path, TASK))


def test_a_task_says_how_its_files_are_read(tmp_path):
    folder = write_task(tmp_path, YAML + "reading: {encoding: cp1252, separator: tab}\n")
    (tmp_path / "gold.csv").write_bytes("text\tlabel\nGrüße, Chef\tfault\n".encode("cp1252"))
    task = load_task(folder)
    assert len(load_dev(task)) == 2  # UTF-8 without umlauts, and JSON Lines have no separator
    assert [row.text for row in load_rows(tmp_path / "gold.csv", task)] == ["Grüße, Chef"]
    chosen = load_task(folder, dev=tmp_path / "gold.csv", reading=Reading(encoding="latin-1", separator="|"))
    assert chosen.reading == Reading(encoding="latin-1", separator="|")
    assert "no sheets; leave out --sheet" in str(
        error_of(load_task, folder, None, None, None, None, Reading(sheet="x"))
    )
    write_task(tmp_path, YAML + "reading: {encoding: klingon}\n")
    error = error_of(load_task, tmp_path)
    assert error.line == 9 and "unknown encoding klingon" in str(error)
