"""Laws of row files: small made-up files as tools and people write them, each with the rows that must come out."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pytest
from pyarrow import parquet

from s3local.exceptions import InputError
from s3local.sources import Reading, SourceRow, open_rows

A, B = {"text": "it broke", "label": "fault"}, {"text": "how nice", "label": "praise"}
ACCENTS = {"text": "Grüße aus München – schön", "label": "lob"}

Write = Callable[[Path], object]
USUAL = Reading()


@dataclass(frozen=True)
class Case:
    """A file, how it is read, and (values, why it has no answer) of each row."""

    name: str
    content: bytes | str | Write
    rows: list[Any]
    reading: Reading = USUAL
    unit: str = "line"
    numbers: tuple[int, ...] = ()


def text(content: str, encoding: str) -> bytes:
    return content.encode(encoding)


def book(*sheets: tuple[str, list[list[Any]]]) -> Write:
    def write(path: Path) -> None:
        workbook = openpyxl.Workbook()
        workbook.remove(workbook.active)
        for title, rows in sheets:
            sheet = workbook.create_sheet(title)
            for number, row in enumerate(rows, start=1):
                for column, value in enumerate(row, start=1):
                    if value is not None:
                        sheet.cell(number, column, value)
        workbook.save(path)

    return write


def table(columns: dict[str, Any], features: dict[str, Any] | None = None) -> Write:
    def write(path: Path) -> None:
        made = pyarrow.table(columns)
        if features:
            made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        parquet.write_table(made, path, row_group_size=1)

    return write


def saved(split: str | None = None) -> Write:
    """A folder of the library ``datasets``, as it writes it."""

    def write(path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["fault", "praise"])}
        )
        made = datasets.Dataset.from_dict({"text": ["it broke", "how nice", "hm"], "label": [0, 1, -1]}, features)
        (made if split is None else datasets.DatasetDict({split: made})).save_to_disk(path)

    return write


def array(*rows: Any, **options: Any) -> str:
    return json.dumps(rows, **options)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def studio(text: str, *annotations: Any, **more: Any) -> dict[str, Any]:
    """A task in an export of Label Studio; an annotation is the choices of one annotator."""
    made = [
        {
            "id": number,
            "was_cancelled": choices is None,
            "result": [
                {"from_name": name, "to_name": "text", "type": "choices", "value": {"choices": chosen}}
                for name, chosen in (choices or {}).items()
            ],
        }
        for number, choices in enumerate(annotations)
    ]
    return {"id": 7, "data": {"text": text}, "annotations": made, "predictions": [], **more}


HASHES = {"_input_hash": 1, "_task_hash": 2, "_timestamp": 3}


def record(responses: Any, status: str = "completed") -> dict[str, Any]:
    """A record in an export of Argilla 2."""
    return {
        "id": "r1",
        "status": status,
        "_server_id": "x",
        "fields": {"text": "it broke"},
        "metadata": {},
        "suggestions": {"label": {"value": "praise", "score": 0.7, "agent": "a model"}},
        "responses": responses,
        "vectors": {},
    }


CASES = {
    # tables of text
    "the spam collection, with unnamed trailing columns": Case(
        "spam.csv", "label,message,,,\nham,hi there,,,\nspam,WIN,,,\n", [
            {"label": "ham", "message": "hi there"}, {"label": "spam", "message": "WIN"},
        ], numbers=(2, 3),
    ),
    "the index that pandas writes": Case("a.csv", ",text,label\n0,it broke,fault\n1,how nice,praise\n", [A, B]),
    "semicolons, as spreadsheets in Europe write": Case("a.csv", "text;label\nit broke;fault\n", [A]),
    "tabs in a .csv": Case("a.csv", "text\tlabel\nit broke\tfault\n", [A]),
    "commas in a .tsv": Case("a.tsv", "text,label\nit broke,fault\n", [A]),
    "vertical bars": Case("a.csv", "text|label\nit broke|fault\n", [A]),
    "a separator that is named": Case("a.csv", "text~label\nit broke~fault\n", [A], Reading(separator="~")),
    "semicolons named where the header has commas too": Case(
        "a.csv", "text;label, final\nit broke;fault\n", [{"text": "it broke", "label, final": "fault"}],
        Reading(separator=";"),
    ),
    "commas inside quotes": Case("a.csv", 'text,label\n"it, oh, broke",fault\n', [{**A, "text": "it, oh, broke"}]),
    "line breaks and quotes inside quotes": Case(
        "a.csv", 'text,label\n"it\n""broke""",fault\nhow nice,praise\n', [{**A, "text": 'it\n"broke"'}, B],
        numbers=(2, 4),
    ),
    "empty lines between rows": Case("a.csv", "\ntext,label\n\nit broke,fault\n\n", [A], numbers=(4,)),
    "a byte order mark and the line ends of Windows": Case(
        "a.csv", b"\xef\xbb\xbftext,label\r\nit broke,fault\r\n", [A]
    ),
    "the line ends of old Macs": Case("a.csv", "text,label\rit broke,fault\rhow nice,praise\r", [A, B]),
    "an ending in capital letters": Case("A.CSV", "text,label\nit broke,fault\n", [A]),
    "a header alone": Case("a.csv", "text,label\n", []),
    # encodings
    "Western European Windows": Case(
        "a.csv", text("text,label\nGrüße aus München – schön,lob\n", "cp1252"), [ACCENTS], Reading(encoding="cp1252")
    ),
    "UTF-16 with a byte order mark, as Excel's Unicode text": Case(
        "a.tsv", text("text\tlabel\r\nGrüße aus München – schön\tlob\r\n", "utf-16"), [ACCENTS],
        Reading(encoding="utf-16"),
    ),
    "a line end inside a character of UTF-16": Case(
        "a.csv", text("text,label\n\u0a0a\u0d0a,x\n", "utf-16-le"), [{"text": "\u0a0a\u0d0a", "label": "x"}],
        Reading(encoding="utf-16-le"), numbers=(2,),
    ),
    "Cyrillic Windows": Case(
        "a.csv", text("text,label\nроутер сломался,x\n", "cp1251"), [{"text": "роутер сломался", "label": "x"}],
        Reading(encoding="cp1251"),
    ),
    "Japanese, whose bytes hold commas and backslashes": Case(
        "a.csv", text("text,label\nソ表能,x\n", "shift_jis"), [{"text": "ソ表能", "label": "x"}],
        Reading(encoding="shift_jis"),
    ),
    "JSON Lines of another encoding": Case(
        "a.jsonl", text('{"text": "café"}\n', "latin-1"), [{"text": "café"}], Reading(encoding="latin-1")
    ),
    # JSON
    "JSON Lines": Case("a.jsonl", lines(A, B), [A, B], numbers=(1, 2)),
    "JSON Lines in a .json": Case("a.json", "\n" + lines(A, B), [A, B], numbers=(2, 3)),
    "a JSON array on one line": Case("a.json", array(A, B), [A, B], unit="row", numbers=(1, 2)),
    "a JSON array over many lines": Case("a.json", "\n " + array(A, B, indent=2) + "\n", [A, B], unit="row"),
    "a JSON array in a .jsonl": Case("a.jsonl", array(A), [A], unit="row"),
    "an empty JSON array": Case("a.json", " [ ] ", [], unit="row"),
    "values that are no texts": Case("a.json", array({"text": "a", "n": [1, {"b": None}]}), [
        {"text": "a", "n": [1, {"b": None}]}], unit="row"),
    # workbooks
    "a workbook": Case(
        "a.xlsx", book(("Sheet1", [["text", "label"], ["it broke", "fault"], ["how nice", "praise"]])), [A, B],
        unit="row", numbers=(2, 3),
    ),
    "a workbook with empty rows, columns and sheets": Case(
        "a.xlsx",
        book(("Notes", []), ("Data", [[], [None, "text", None, "label"], [], [9, "it broke", None, "fault"]])),
        [A], unit="row", numbers=(4,),
    ),
    "numbers, dates and truth in cells": Case(
        "a.xlsx",
        book(("S", [["text", "label", "when", "sure"], ["a", 3.0, datetime.datetime(2024, 5, 31), True]])),
        [{"text": "a", "label": "3", "when": "2024-05-31", "sure": "True"}], unit="row",
    ),
    "a sheet that is named": Case(
        "a.xlsx", book(("Old", [["x"], ["y"]]), ("Gold", [["text", "label"], ["it broke", "fault"]])), [A],
        Reading(sheet="Gold"), unit="row",
    ),
    # Parquet and datasets
    "Parquet, in several row groups": Case(
        "a.parquet", table({"text": ["it broke", "how nice"], "label": ["fault", "praise"]}), [A, B], unit="row",
        numbers=(1, 2),
    ),
    "Parquet with the index of pandas": Case(
        "a.parquet", table({"text": ["it broke"], "label": ["fault"], "__index_level_0__": [7]}), [A], unit="row"
    ),
    "Parquet with categories, times and nothing": Case(
        "a.parquet",
        table(
            {
                "label": pyarrow.array(["fault"]).dictionary_encode(),
                "when": [datetime.date(2024, 5, 31)],
                "none": pyarrow.nulls(1),
            }
        ),
        [{"label": "fault", "when": "2024-05-31", "none": None}], unit="row",
    ),
    "Parquet with classes of datasets": Case(
        "a.parquet",
        table(
            {"text": ["it broke", "hm"], "label": [1, -1]},
            {"label": {"names": ["x", "fault"], "_type": "ClassLabel"}},
        ),
        [A, {"text": "hm", "label": None}], unit="row",
    ),
    "a datasets folder": Case("gold", saved(), [A, B, {"text": "hm", "label": None}], unit="row", numbers=(1, 2, 3)),
    "a datasets folder with one split": Case("gold", saved("train"), [A, B, {"text": "hm", "label": None}], unit="row"),
    # Label Studio
    "Label Studio, one annotator": Case(
        "a.json", array(studio("it broke", {"sentiment": ["fault"]})),
        [{"id": 7, **A, "sentiment": "fault"}], unit="row",
    ),
    "Label Studio, annotators who agree or not": Case(
        "a.json",
        array(
            studio("it broke", {"s": ["fault"]}, {"s": ["fault"]}),
            studio("hm", {"s": ["fault"]}, {"s": ["praise"]}),
            studio("how nice", None, {"s": ["praise"]}),
        ),
        [
            {"id": 7, **A, "s": "fault"},
            ({"id": 7, "text": "hm"}, '2 different answers: "fault", "praise"'),
            {"id": 7, **B, "s": "praise"},
        ],
        unit="row",
    ),
    "Label Studio, skipped, not begun, several choices": Case(
        "a.json",
        array(studio("a", None), studio("b"), studio("c", {"s": ["fault", "praise"]})),
        [
            ({"id": 7, "text": "a"}, "skipped by the annotator"),
            ({"id": 7, "text": "b"}, "no answer"),
            ({"id": 7, "text": "c"}, '2 different answers: "fault", "praise"'),
        ],
        unit="row",
    ),
    "Label Studio, a column that is called label": Case(
        "a.json",
        array(
            {**studio("it broke", {"s": ["fault"]}), "data": {"text": "it broke", "label": "old"}},
            {**studio("b"), "data": {"text": "b", "label": "old"}},
        ),
        [{"id": 7, **A, "s": "fault"}, ({"id": 7, "text": "b"}, "no answer")],
        unit="row",
    ),
    "Label Studio, two questions": Case(
        "a.json", array(studio("it broke", {"mood": ["bad"], "kind": ["fault"]})),
        [{"id": 7, "text": "it broke", "mood": "bad", "kind": "fault"}], unit="row",
    ),
    "Label Studio, its small JSON": Case(
        "a.json", array({"text": "it broke", "id": 7, "sentiment": "fault", "annotator": 1}),
        [{"text": "it broke", "id": 7, "sentiment": "fault", "annotator": 1}], unit="row",
    ),
    "Label Studio, its CSV": Case(
        "a.csv", "text,id,sentiment,annotator\nit broke,7,fault,1\n",
        [{"text": "it broke", "id": "7", "sentiment": "fault", "annotator": "1"}],
    ),
    # doccano
    "doccano": Case(
        "a.jsonl", lines({"id": 1, "text": "it broke", "label": ["fault"]}, {"id": 2, **B, "label": ["praise"]}),
        [{"id": 1, **A}, {"id": 2, **B}],
    ),
    "doccano, without a label and with two": Case(
        "a.jsonl", lines({"text": "a", "label": []}, {"text": "b", "label": ["fault", "praise"]}),
        [
            ({"text": "a", "label": []}, "no answer"),
            ({"text": "b", "label": ["fault", "praise"]}, '2 different answers: "fault", "praise"'),
        ],
    ),
    "doccano, marked spans": Case(
        "a.jsonl", lines({"text": "it broke", "label": [[0, 2, "THING"]]}),
        [({"text": "it broke", "label": [[0, 2, "THING"]]}, "marked spans in place of a label")],
    ),
    "doccano of old": Case("a.jsonl", lines({"text": "it broke", "labels": ["fault"]}), [{**A, "labels": ["fault"]}]),
    # Prodigy
    "Prodigy, yes or no": Case(
        "a.jsonl",
        lines({**A, **HASHES, "answer": "accept"}, {**B, **HASHES, "answer": "reject"}, {**B, "answer": "ignore"}),
        [A, ({"text": "how nice"}, "rejected"), ({"text": "how nice"}, "ignored")],
    ),
    "Prodigy, a choice": Case(
        "a.jsonl",
        lines(
            {"text": "it broke", **HASHES, "options": [{"id": "fault"}], "accept": ["fault"], "answer": "accept"},
            {"text": "b", "accept": [], "answer": "accept"},
            {"text": "c", "accept": ["fault", "praise"], "answer": "accept"},
        ),
        [
            A,
            ({"text": "b", "label": None}, "no answer"),
            ({"text": "c", "label": None}, '2 different answers: "fault", "praise"'),
        ],
    ),
    "an answer that is the word accept": Case(
        "a.jsonl", lines({"context": "we accept", "question": "do we?", "answer": "accept"}),
        [{"context": "we accept", "question": "do we?", "answer": "accept"}],
    ),
    # Argilla
    "Argilla": Case(
        "a.json", array(record({"label": [{"value": "fault", "user_id": "u"}]})), [{"id": "r1", **A}], unit="row"
    ),
    "Argilla, drafts, discarded, not answered": Case(
        "a.json",
        array(
            record({"label": [{"value": "fault", "status": "draft"}]}),
            record({"label": [{"value": "fault"}]}, "discarded"),
            record({}, "pending"),
            record({"label": [{"value": "fault"}, {"value": "praise"}]}),
        ),
        [
            ({"id": "r1", "text": "it broke"}, "no answer"),
            ({"id": "r1", "text": "it broke"}, "discarded"),
            ({"id": "r1", "text": "it broke"}, "no answer"),
            ({"id": "r1", "text": "it broke"}, '2 different answers: "fault", "praise"'),
        ],
        unit="row",
    ),
    "Argilla, flat": Case(
        "a.json",
        array(
            {
                "id": "r1",
                "status": "completed",
                "_server_id": "x",
                "text": "it broke",
                "label.suggestion": "praise",
                "label.responses": ["fault", "praise"],
                "label.responses.users": ["u", "v"],
                "label.responses.status": ["submitted", "discarded"],
            }
        ),
        [{"id": "r1", **A}], unit="row",
    ),
    "Argilla of old": Case(
        "a.jsonl",
        lines(
            {"id": 1, "text": "it broke", "annotation": "fault", "annotation_agent": "u", "status": "Validated"},
            {"id": 2, "text": "b", "annotation": None, "annotation_agent": None, "status": "Default"},
        ),
        [{"id": 1, **A}, ({"id": 2, "text": "b"}, "no answer")],
    ),
}  # fmt: skip


def written(folder: Path, name: str, content: bytes | str | Write) -> Path:
    path = folder / name
    if isinstance(content, str | bytes):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        content(path)
    return path


def rows_of(path: Path, reading: Reading = USUAL) -> tuple[str, list[SourceRow]]:
    with open_rows(path, reading) as source:
        return source.unit, list(source.rows)


@pytest.mark.parametrize("name", CASES)
def test_rows_come_out_as_they_are_meant(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    unit, rows = rows_of(written(tmp_path, case.name, case.content), case.reading)
    wanted = [row if isinstance(row, tuple) else (row, "") for row in case.rows]
    assert [(row.values, row.unanswered) for row in rows] == wanted
    assert unit == case.unit
    if case.numbers:
        assert tuple(row.number for row in rows) == case.numbers


BROKEN: dict[str, tuple[str, bytes | str | Write, Reading, str]] = {
    "Windows-1252": ("a.csv", "text\nschöne Grüße\n".encode("cp1252"), USUAL,
                     r"line 2: byte 0xf6 .* is not UTF-8; it is probably cp1252: read it with --encoding cp1252"),
    "Cyrillic": ("a.csv", ("text\n" + "роутер сломался и не включается\n" * 3).encode("cp1251"), USUAL,
                 "probably cp1251"),
    "Chinese": ("a.jsonl", ('{"text": "' + "我的路由器坏了，请换一个" * 3 + '"}').encode("gb18030"), USUAL,
                "probably gb18030"),
    "UTF-16": ("a.csv", "text\nä\n".encode("utf-16"), USUAL, "line 1: .* --encoding utf_16"),
    "the wrong encoding": ("a.csv", b"text\na\n\x81\n", Reading(encoding="cp1252"), "line 3: not cp1252 .* --encoding"),
    "no array of objects": ("a.json", '[{"text": "a"}, 3]', USUAL, "row 2: a JSON object belongs here, found int"),
    "an array that does not end": ("a.json", '[{"text": "a"}', USUAL, "row 1: not valid JSON: a comma or ]"),
    "an array with a hole": ("a.json", '[{"text": "a"},\n ,]', USUAL, "line 2: not valid JSON: Expecting value"),
    "an array and more": ("a.json", '[{"text": "a"}]\n{}', USUAL, "something stands behind the array"),
    "half a character": ("a.json", '[{"text": "\\ud83d"}]', USUAL, "row 1: found half a character"),
    "brackets without end": ("a.json", "[" * 100_000, USUAL, "nested too deeply"),
    "one object": ("a.json", '{\n"text": "a"\n}', USUAL, "line 1: not valid JSON"),
    "no workbook": ("a.xlsx", b"text,label", USUAL, "not a workbook"),
    "half a workbook": ("a.xlsx", b"PK\3\4 and so on", USUAL, "not a workbook"),
    "an old workbook": ("a.xls", b"", USUAL, "save it as .xlsx"),
    "several sheets": ("a.xlsx", book(("A", [["x"]]), ("B", [["y"]])), USUAL, 'several sheets, "A", "B".*--sheet'),
    "no such sheet": ("a.xlsx", book(("Gold", [["x"]])), Reading(sheet="Gol"), 'did you mean "Gold"'),
    "a column twice": ("a.xlsx", book(("A", [["x", "x"]])), USUAL, 'row 1: the column "x" is there twice'),
    "no Parquet": ("a.parquet", b"PAR1 or not", USUAL, "not a Parquet file"),
    "several splits": ("gold", lambda path: pytest.importorskip("datasets").DatasetDict(
        {name: pytest.importorskip("datasets").Dataset.from_dict({"a": [1]}) for name in ("train", "test")}
    ).save_to_disk(path), USUAL, 'the splits "train", "test"; name one'),
    "a folder": ("gold", lambda path: path.mkdir(), USUAL, "one that the library datasets saved belongs here"),
    "a sheet of a table": ("a.csv", "a\n", Reading(sheet="A"), "has no sheets; leave out --sheet"),
    "a separator of a workbook": ("a.xlsx", b"", Reading(separator=";"), "no separator of columns"),
    "an encoding of Parquet": ("a.parquet", b"", Reading(encoding="cp1252"), "no encoding; leave out --encoding"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    file, content, reading, problem = BROKEN[name]
    path = written(tmp_path, file, content)
    with pytest.raises(InputError, match=problem) as caught:
        rows_of(path, reading)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_one_row_at_a_time(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text\none\n" + "x,\n")
    with open_rows(path) as source:
        assert next(source.rows) == SourceRow(2, {"text": "one"})


@pytest.mark.parametrize(("name", "value"), [("encoding", "hex"), ("encoding", "utf-99"), ("separator", "::")])
def test_a_reading_that_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="Value error, "):
        Reading(**{name: value})


def test_standard_input_is_read_as_json_lines_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for form, content in ((None, lines(A)), ("csv", "text,label\nit broke,fault\n"), ("json", array(A))):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        with open_rows(None, form=form) as source:
            assert [row.values for row in source.rows] == [A]
    with (
        pytest.raises(InputError, match="standard input: the format xlsx is read from a file"),
        open_rows(None, form="xlsx"),
    ):
        pass
