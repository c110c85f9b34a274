"""Predictions on files: every row once, in order, with all its columns, whatever the format."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from toys import LABELS, SETTINGS, UNSEEN, reviews

from s3local.exceptions import InputError
from s3local.prediction import predict_file
from s3local.records import SPAN, Answer, Example
from s3local.student.export import export
from s3local.student.inference import Classifier
from s3local.student.reader import load_student
from s3local.student.reader_export import export_reader
from s3local.student.reader_training import train_reader
from s3local.student.training import train


@pytest.fixture(scope="module")
def classifier(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("exported") / "student"
    export(train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1), folder, UNSEEN)
    return Classifier.load(folder)


ROWS = [{"note": str(n), "text": row.text, "extra": 'a "quoted", cell'} for n, row in enumerate(reviews())]


def written(form: str) -> str:
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS)
    if form == "txt":
        return "".join(row["text"] + "\n" for row in ROWS)
    out = io.StringIO()
    table = csv.DictWriter(out, ["note", "text", "extra"], delimiter="," if form == "csv" else "\t")
    table.writeheader()
    table.writerows(ROWS)
    return out.getvalue()


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "txt"])
def test_rows_come_out_in_order_with_their_columns(classifier: Classifier, tmp_path: Path, form: str) -> None:
    source, target = tmp_path / f"in.{form}", tmp_path / "out.jsonl"
    source.write_text(written(form), encoding="utf-8")
    assert predict_file(classifier, source, target) == len(ROWS)
    result = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    expected = classifier.predict([row["text"] for row in ROWS])
    assert [row["predicted"] for row in result] == expected
    kept = ["text"] if form == "txt" else ["note", "text", "extra"]
    assert [[row[name] for name in kept] for row in result] == [[row[name] for name in kept] for row in ROWS]


def test_a_table_comes_out_as_a_table(classifier: Classifier, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(written("csv"), encoding="utf-8")
    predict_file(classifier, source, target, all_probabilities=True)
    with target.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(ROWS)
    for row in rows:
        assert sum(float(row[f"probability_{label}"]) for label in LABELS) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("in.jsonl", '{"text": "fine"}\n{"text": 3}\n', "line 2"),
        ("in.jsonl", '{"text": "fine"}\n{oops\n', "line 2"),
        ("in.csv", "text,note\nfine,1\nfine\n", "line 3"),
        ("in.csv", "body\nfine\n", "'text'"),
        ("in.csv", "text,note,note\nfine,1,2\n", "there twice"),
        ("in.jsonl", '{"text": "fine"}\n{"text": "fine", "note": "\\ud83d"}\n', "line 2: found half a character"),
        ("in.docx", "", "ending"),
    ],
)
def test_a_bad_file_is_told_and_leaves_nothing(
    classifier: Classifier, tmp_path: Path, name: str, content: str, problem: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        predict_file(classifier, tmp_path / name, tmp_path / "out.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_columns_can_have_other_names(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("body\nthe film was good\n", encoding="utf-8")
    assert predict_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv", columns={"text": "body"}) == 1


def test_pairs_and_questions_are_predicted_from_their_columns(tiny_bert: Path, tmp_path: Path) -> None:
    context, question = "the film was good and the book was bad", "the book?"
    row = Example("q", {"context": context, "question": question}, SPAN, (Answer("bad", context.index("bad")),))
    quick = dataclasses.replace(SETTINGS, epochs=1)
    export_reader(train_reader(tiny_bert, [row] * 4, quick, seed=1), tmp_path / "reader", [row])
    source = tmp_path / "in.csv"
    source.write_text(f"text,question,note\n{context},{question},first\n", encoding="utf-8")
    reader = load_student(tmp_path / "reader")
    assert predict_file(reader, source, tmp_path / "out.jsonl", columns={"context": "text"}) == 1
    (result,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(result) == ["text", "question", "note", "predicted", "predicted_start", "probability"]
    assert context.startswith(result["predicted"], result["predicted_start"])

    pairs = [Example(r.id, {"premise": r.text, "hypothesis": "the film"}, r.label) for r in reviews()]
    export(train(tiny_bert, pairs, LABELS, quick, seed=1), tmp_path / "pairs", pairs[:4])
    source.write_text(f"premise,hypothesis\n{context},{question}\n", encoding="utf-8")
    assert predict_file(load_student(tmp_path / "pairs"), source, tmp_path / "out.csv") == 1
    with pytest.raises(InputError, match="'premise'"):
        predict_file(load_student(tmp_path / "pairs"), tmp_path / "out.jsonl", tmp_path / "no.jsonl")
