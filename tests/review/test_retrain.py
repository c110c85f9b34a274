"""A run trained again: decisions and new dev rows are learned, and the run stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_world import make_task, rows_of, settings, toy_models

from s3local.exceptions import RunError
from s3local.progress import Silent
from s3local.records import Candidate, Example
from s3local.report.html import write_report
from s3local.review.decisions import DECISIONS_FILE, Decision, DecisionLog
from s3local.review.retrain import _folds, retrain, reviewed
from s3local.review.rows import dataset_checksum, read_finished, sheet_of_run
from s3local.runner.context import Folds
from s3local.runner.loop import RunResult, run
from s3local.runner.models import Models


@pytest.fixture(scope="module")
def models(tiny_bert: Path) -> Models:
    return toy_models(settings(tiny_bert))


@pytest.fixture(scope="module")
def finished(tiny_bert: Path, models: Models, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("retrain")
    chosen = settings(tiny_bert, rows=16, rounds=1, model_selection=True)
    return run(make_task(folder / "task"), chosen, folder=folder / "run", models=models)


def row(name: str, text: str, label: str) -> Example:
    return Example(name, {"text": text}, label)


def test_decisions_change_rows_and_nothing_else() -> None:
    rows = [Candidate(row(name, f"text {name}", "x"), {"stage": "round-0"}) for name in "abcde"]
    decisions = [
        Decision("b", "drop"),
        Decision("c", "relabel", "y", time=1.0),
        Decision("d", "edit", "x", {"text": "new"}, 2.0),
        Decision("e", "keep", "x", time=3.0),
    ]
    found = reviewed(rows, {decision.row: decision for decision in decisions})
    assert [(its.example.id, its.text, its.example.label) for its in found] == [
        ("a", "text a", "x"),
        ("c", "text c", "y"),
        ("d", "new", "x"),
        ("e", "text e", "x"),
    ]
    assert found[0] == rows[0]
    assert found[1].origin == {"stage": "round-0", "asked": "x", "decision": "relabel", "decided": 1.0}


def test_new_dev_rows_leave_the_folds_of_the_others_and_copies_share_theirs() -> None:
    dev = [row(str(number), f"text {number}", "xy"[number % 2]) for number in range(6)]
    new = [row("n0", "TEXT 3!", "y"), *(row(f"n{number}", f"other {number}", "x") for number in range(1, 4))]
    before = Folds(np.array([0, 0, 1, 1, 2, 2]))
    found = _folds(before, dev + new)
    assert found.of_row[:6].tolist() == before.of_row.tolist()
    assert found.of_row[6] == 1
    assert sorted(found.of_row[7:].tolist()) == [0, 1, 2]


def test_a_run_learns_decisions_and_new_rows_and_stays_as_it_is(finished: RunResult, models: Models) -> None:
    folder, dev = finished.folder, finished.folder.parent / "task" / "dev.jsonl"
    with pytest.raises(RunError, match="nothing new"):
        retrain(folder, progress=Silent(), models=models)
    sheet = sheet_of_run(folder)
    first, second, third, *_ = sheet.ids
    kept = next((name for name, why in zip(sheet.ids, sheet.reason, strict=True) if why in sheet.hidden), None)
    with DecisionLog.open(folder / DECISIONS_FILE, dataset_checksum(folder, read_finished(folder))) as log:
        log.append(Decision(first, "drop"))
        other = "negative" if sheet.content(1)["label"] == "positive" else "positive"
        log.append(Decision(second, "relabel", other))
        log.append(Decision(third, "edit", "positive", {"text": "the film was simply great"}))
        if kept is not None:
            log.append(Decision(kept, "keep", "positive"))
    with dev.open("a") as stream:
        stream.write(json.dumps({"id": "n1", "text": "the music was good indeed", "label": "positive"}) + "\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".owner.json"}
    found = retrain(folder, progress=Silent(), models=models)
    assert {path: path.read_bytes() for path in before} == before
    target = found.result.folder
    assert target == folder / "retrained-1" and found.new_dev == 1
    rows = {its["id"]: its for its in rows_of(target / "final" / "dataset.jsonl")}
    n_before = len(rows_of(folder / "final" / "dataset.jsonl"))
    assert len(rows) == found.result.summary.rows == n_before - 1 + (kept is not None)
    assert first not in rows and rows[second]["label"] == other
    assert rows[third]["text"] == "the film was simply great"
    for name in (second, third):
        assert rows[name]["origin"]["probabilities"][rows[name]["label"]] == 1.0
    assert found.result.summary.final.training.rows == len(rows) + len(rows_of(dev))
    assert found.result.classifier().predict(["the film was good"])
    assert write_report(target).is_file()
    again = retrain(folder, progress=Silent(), models=models)
    assert again.result == found.result, "the same decisions are learned once"
    with pytest.raises(RunError, match="was made from"):
        sheet_of_run(target)


def test_a_dev_file_that_was_changed_is_refused(finished: RunResult, models: Models) -> None:
    dev = finished.folder.parent / "task" / "dev.jsonl"
    content = dev.read_text()
    dev.write_text(content.replace("number 3", "number three", 1))
    with pytest.raises(RunError, match="d3"):
        retrain(finished.folder, progress=Silent(), models=models)
    dev.write_text(content)
