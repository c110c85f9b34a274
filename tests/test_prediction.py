"""Predictions on files: every row once, in order, with all its columns, whatever the format."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from toys import LABELS, READER_SETTINGS, SETTINGS, UNSEEN, reviews

from s3local.exceptions import InputError, S3LocalError
from s3local.prediction import ABSTAIN, Predicted, Wanted, predict_file
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
    assert predict_file(classifier, source, target).rows == len(ROWS)
    result = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    expected = classifier.predict([row["text"] for row in ROWS])
    assert [row["predicted"] for row in result] == expected
    kept = ["text"] if form == "txt" else ["note", "text", "extra"]
    assert [[row[name] for name in kept] for row in result] == [[row[name] for name in kept] for row in ROWS]


def test_a_table_comes_out_as_a_table(classifier: Classifier, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(written("csv"), encoding="utf-8")
    predict_file(classifier, source, target, wanted=Wanted(all_probabilities=True))
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
        ("in.csv", "body\nfine\n", 'line 1: no "text" here, found "body"; .* --column text=COLUMN'),
        ("in.csv", "", "the file is empty"),
        ("in.csv", "text,note,note\nfine,1,2\n", "there twice"),
        ("in.csv", "text;note\nfine;1;2\n", "line 2: .* divided by a semicolon.*--separator"),
        ("in.json", '[{"text": "fine"}, {"text": 3}]', "row 2: text: found 3"),
        ("in.csv", "text,note\nfine,1\n\u200b,2\n", "line 3: text: the text is empty"),
        ("in.jsonl", '{"text": "fine"}\n{"text": " \\n"}\n', "line 2: text: the text is empty"),
        ("in.jsonl", '{"text": "fine"}\n{"note": "fine"}\n', 'line 2: no "text" here, found "note"'),
        ("in.jsonl", '{"text": "fine"}\n{"text": "fine", "predicted": "mine"}\n', 'line 2: .* "predicted" already'),
        ("in.csv", "text,probability\nfine,1\n", 'line 1: .* "probability" already, .* --prefix'),
        ("in.txt", "fine\n\nfine\n", "line 2: the line is blank"),
        ("in.jsonl", '{"text": "fine"}\n{"text": "fine", "note": "\\ud83d"}\n', "line 2: found half a character"),
        ("in.docx", "", "name ends in .*--format"),
    ],
)
def test_a_bad_file_is_told_and_leaves_nothing(
    classifier: Classifier, tmp_path: Path, name: str, content: str, problem: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        predict_file(classifier, tmp_path / name, tmp_path / "out.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_a_missing_text_in_the_last_row_is_told_before_the_first_prediction(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        pytest.fail("a prediction was made")

    monkeypatch.setattr(classifier, "predict_stream", never)
    (tmp_path / "in.jsonl").write_text('{"text": "fine"}\n' * 50 + '{"text": ""}\n')
    with pytest.raises(InputError, match="line 51"):
        predict_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.jsonl")


def test_a_table_has_a_column_for_every_key_or_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"text": "fine", "note": 1}\n{"text": "fine"}\n')
    predict_file(classifier, source, target)
    with target.open(newline="") as stream:
        assert [row["note"] for row in csv.DictReader(stream)] == ["1", ""]
    source.write_text('{"text": "fine"}\n{"text": "fine", "note": 1}\n')
    with pytest.raises(InputError, match='line 2: the key "note" is not in the first row'):
        predict_file(classifier, source, target)
    assert predict_file(classifier, source, tmp_path / "out.jsonl").rows == 2


def test_a_cell_holds_json_where_the_value_is_no_text(classifier: Classifier, tmp_path: Path) -> None:
    row = {"text": "fine", "list": ["a", "é"], "keys": {"b": None}, "null": None, "true": True, "number": 1.5}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    predict_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        (cells,) = csv.DictReader(stream)
    assert cells["null"] == ""
    assert "é" in cells["list"]
    assert {key: json.loads(cells[key]) for key in row if key not in ("text", "null")} == {
        key: row[key] for key in row if key not in ("text", "null")
    }


@pytest.mark.parametrize(
    ("name", "content", "header"),
    [
        ("in.csv", "note,text\n", "note,text,new_predicted,new_probability\n"),
        ("in.jsonl", "", "text,new_predicted,new_probability\n"),
    ],
)
def test_a_table_without_rows_has_a_header(
    classifier: Classifier, tmp_path: Path, name: str, content: str, header: str
) -> None:
    (tmp_path / name).write_text(content)
    assert predict_file(classifier, tmp_path / name, tmp_path / "out.csv", wanted=Wanted(prefix="new_")).rows == 0
    assert (tmp_path / "out.csv").read_text() == header


def test_a_prefix_keeps_a_users_own_columns(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,predicted\nthe film was good,mine\n")
    predict_file(
        classifier, tmp_path / "in.csv", tmp_path / "out.jsonl", wanted=Wanted(prefix="new_", all_probabilities=True)
    )
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["predicted"] == "mine"
    assert row["new_predicted"] in LABELS
    assert {f"new_probability_{label}" for label in LABELS} < row.keys()


def test_lines_of_plain_text_stay_aligned(classifier: Classifier, tmp_path: Path) -> None:
    texts = [row.text for row in reviews()]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n\n \n")
    assert predict_file(classifier, tmp_path / "in.txt", tmp_path / "out.txt").rows == len(texts)
    assert (tmp_path / "out.txt").read_text().splitlines() == classifier.predict(texts)


@pytest.mark.parametrize("length", [130_000, 140_000])
def test_long_texts_are_treated_alike_in_every_format(classifier: Classifier, tmp_path: Path, length: int) -> None:
    text = ("the film was good " * length)[:length]
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": text}))
    (tmp_path / "in.csv").write_text(f"text\n{text}\n")
    for name in ("in.jsonl", "in.csv"):
        assert predict_file(classifier, tmp_path / name, tmp_path / "out.jsonl").rows == 1


def test_another_separator_is_kept(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('text;note\n"the film; it was good";1\n')
    predict_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "text;note;predicted;probability"
    assert lines[1].startswith('"the film; it was good";1;')


def test_the_file_that_is_read_is_never_replaced(classifier: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "fine"}\n')
    (tmp_path / "link.jsonl").symlink_to(source)
    for target in (source, tmp_path / "link.jsonl"):
        with pytest.raises(InputError, match="would replace the file that is read"):
            predict_file(classifier, source, target)
    assert source.read_text() == '{"text": "fine"}\n'


def test_a_field_that_the_model_does_not_have_is_named(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("body\nfine\n")
    with pytest.raises(InputError, match='unknown field of the model "txt", did you mean "text"'):
        predict_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv", columns={"txt": "body"})


def test_columns_can_have_other_names(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("body\nthe film was good\n", encoding="utf-8")
    assert predict_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv", columns={"text": "body"}).rows == 1


def test_pairs_and_questions_are_predicted_from_their_columns(tiny_bert: Path, tmp_path: Path) -> None:
    context, question = "the film was good and the book was bad", "the book?"
    row = Example("q", {"context": context, "question": question}, SPAN, (Answer("bad", context.index("bad")),))
    quick = dataclasses.replace(SETTINGS, passes=32)
    short = dataclasses.replace(READER_SETTINGS, epochs=1)
    export_reader(train_reader(tiny_bert, [row] * 4, short, seed=1), tmp_path / "reader", [row])
    source = tmp_path / "in.csv"
    source.write_text(f"text,question,note\n{context},{question},first\n", encoding="utf-8")
    reader = load_student(tmp_path / "reader")
    assert predict_file(reader, source, tmp_path / "out.jsonl", columns={"context": "text"}).rows == 1
    (result,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(result) == ["text", "question", "note", "predicted", "predicted_start", "probability"]
    assert context.startswith(result["predicted"], result["predicted_start"])

    pairs = [Example(r.id, {"premise": r.text, "hypothesis": "the film"}, r.label) for r in reviews()]
    export(train(tiny_bert, pairs, LABELS, quick, seed=1), tmp_path / "pairs", pairs[:4])
    source.write_text(f"premise,hypothesis\n{context},{question}\n", encoding="utf-8")
    assert predict_file(load_student(tmp_path / "pairs"), source, tmp_path / "out.csv").rows == 1
    (tmp_path / "in.txt").write_text("one text\n")
    with pytest.raises(InputError, match="one text a line, the model needs premise and hypothesis"):
        predict_file(load_student(tmp_path / "pairs"), tmp_path / "in.txt", tmp_path / "no.jsonl")
    with pytest.raises(S3LocalError, match="needs a classifier"):
        predict_file(reader, source, tmp_path / "no.jsonl", wanted=Wanted(all_probabilities=True))
    with pytest.raises(InputError, match='no "premise" here'):
        predict_file(load_student(tmp_path / "pairs"), tmp_path / "out.jsonl", tmp_path / "no.jsonl")


def test_rows_below_the_threshold_get_no_label_and_are_counted(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(written("jsonl"))
    probabilities = classifier.predict_proba([row["text"] for row in ROWS]).max(axis=1)
    threshold = float(sorted(probabilities)[len(ROWS) // 3])
    done = predict_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.csv", wanted=Wanted(threshold))
    below = [value < threshold for value in probabilities.tolist()]
    assert done == Predicted(len(ROWS), sum(below)) and 0 < sum(below) < len(ROWS)
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["predicted"] == ABSTAIN for row in rows] == below
    assert [float(row["probability"]) for row in rows] == pytest.approx(probabilities.tolist(), abs=1e-4)


def test_the_likeliest_labels_stand_in_order(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nthe film was good\nthe song was bad\n")
    predict_file(classifier, tmp_path / "in.csv", tmp_path / "out.jsonl", wanted=Wanted(top=2))
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert {row["predicted"], row["predicted_2"]} == set(LABELS)
        assert row["probability"] >= row["probability_2"]
        assert row["probability"] + row["probability_2"] == pytest.approx(1, abs=2e-4)
    with pytest.raises(S3LocalError, match="--top 3 is more than the model's 2 labels"):
        predict_file(classifier, tmp_path / "in.csv", tmp_path / "no.jsonl", wanted=Wanted(top=3))


def test_a_workbook_is_predicted(classifier: Classifier, tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["text", "n"], ["the film was good", 1], ["the song was bad", 2]):
        book.active.append(row)
    book.save(tmp_path / "in.xlsx")
    assert predict_file(classifier, tmp_path / "in.xlsx", tmp_path / "out.csv").rows == 2
    assert (tmp_path / "out.csv").read_text().startswith("text,n,predicted,probability\nthe film was good,1,positive,")
