"""``predict``: rows in, the same rows with predictions out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import call, complains
from toys import LABELS, SETTINGS, UNSEEN, reviews

from s3local.student.export import export
from s3local.student.training import train


@pytest.fixture(scope="module")
def model(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "student"
    export(train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1), folder, UNSEEN)
    return folder


def test_rows_of_standard_input_come_out_with_predictions(model: Path) -> None:
    rows = [{"note": number, "text": row.text} for number, row in enumerate(reviews())]
    result = call("predict", str(model), stdin="".join(json.dumps(row) + "\n" for row in rows))
    assert result.exit_code == 0
    written = [json.loads(line) for line in result.stdout.splitlines()]
    assert [{key: row[key] for key in ("note", "text")} for row in written] == rows
    assert {row["predicted"] for row in written} == set(LABELS)


def test_separator_prefix_and_columns_are_chosen(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("body;predicted\nthe film was good;mine\n")
    options = ("--separator", ";", "--prefix", "new_", "--column", "text=body", "--probabilities")
    result = call("predict", str(model), str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv"), *options)
    assert result.stderr.endswith(f"wrote 1 row to {tmp_path / 'out.csv'}\n")
    header = (tmp_path / "out.csv").read_text().splitlines()[0]
    new = ["new_predicted", "new_probability", *(f"new_probability_{label}" for label in LABELS)]
    assert header == ";".join(["body", "predicted", *new])


def test_what_would_be_lost_is_told_in_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,predicted\nthe film was good,mine\n")
    arguments = ("predict", str(model), str(tmp_path / "in.csv"), "--quiet")
    complains(call(*arguments), "line 1", "predicted", "--prefix")
    complains(call(*arguments, "-o", str(tmp_path / "in.csv")), "would replace the file that is read")
    result = call(*arguments, "--column", "text")
    assert result.exit_code == 2 and "FIELD=COLUMN" in result.stderr
