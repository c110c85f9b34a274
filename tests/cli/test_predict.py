"""``predict``: rows in, the same rows with predictions out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import call, complains
from toys import LABELS, SETTINGS, UNSEEN, reviews

from s3local.finished_run import FinishedRun
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


def test_a_threshold_is_chosen_on_held_out_rows_of_a_run(toy_run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nthe film was good\nthe song was bad\n")
    held_out = toy_run.held_out
    assert held_out is not None
    lowest = min(held_out.right.mean(), 0.9)
    arguments = ("predict", str(toy_run.folder), str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv"))
    result = call(*arguments, "--target-accuracy", str(lowest), "--top", "2")
    assert result.exit_code == 0, result.output
    assert f"of {len(held_out.right)} held-out dev rows the classifier answers 100 %" in result.stderr
    assert "wrote 2 rows" in result.stderr
    header = (tmp_path / "out.csv").read_text().splitlines()[0]
    assert header == "text,predicted,probability,predicted_2,probability_2"
    result = call(*arguments, "--threshold", "1")
    assert "2 of 2 rows without a label (abstain)" in result.stderr
    assert (tmp_path / "out.csv").read_text().count("abstain") == 2


def test_a_threshold_that_cannot_be_is_told(toy_run: FinishedRun, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\na\n")
    source = str(tmp_path / "in.csv")
    complains(call("predict", str(model), source, "--target-accuracy", "0.9"), "holds no finished run")
    complains(call("predict", str(toy_run.folder), source, "--target-accuracy", "0.99"), "12 held-out", "needs 100")
    result = call("predict", str(toy_run.folder), source, "--target-accuracy", "0.9", "--threshold", "0.5")
    assert result.exit_code == 2 and "exclude each other" in result.stderr
    complains(call("predict", str(model), source, "--top", "3", "--quiet"), "--top 3", "2 labels")
    complains(call("predict", str(tmp_path), source, "--quiet"), "is not an exported student")


def test_serve_tells_what_it_cannot_serve(tmp_path: Path) -> None:
    complains(call("serve", str(tmp_path)), "is not an exported student")
