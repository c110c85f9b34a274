"""Laws of the end of a run: which students there are, how sure they are, and which one is selected."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_world import candidates_of, context_for, rows_of, settings

from s3local.evaluation.calibration import fit_temperature
from s3local.records import Candidate, write_jsonl
from s3local.results import AVERAGED, FINAL, FINAL_WITHOUT_GOLD, GOLD_ONLY, LARGE, SHARES, FoldResult, read_result
from s3local.runner import finish as module
from s3local.runner.context import RunContext
from s3local.runner.finish import Finals, FinalStudents, finish
from s3local.runner.loop import RunResult
from s3local.runner.model_selection import Selection
from s3local.runner.relabel import Relabelled, Relabeller
from s3local.student.inference import Classifier
from s3local.task.model import Task
from s3local.task.rows import load_dev


def restarted(task: Task, result: RunResult, body: Path, folder: Path, *gone: str, **changes: object) -> RunContext:
    """The context of a copy of a finished run, in which the stages ``gone`` are not done."""
    shutil.copytree(result.folder, folder)
    for stage in gone:
        shutil.rmtree(folder / stage)
    values: dict[str, object] = {"model_selection": True, "both_finals": True, **changes}
    return context_for(task, settings(body, **values), folder)


def ended(context: RunContext, result: RunResult) -> Finals:
    """The end of a run whose rounds are those of ``result``."""
    relabeller = Relabeller(context, context.divide_dev())
    for entry in result.summary.rounds:
        rows = context.state.read_rows(f"{entry.stage}/synthetic.jsonl")
        relabeller.read(entry.stage, [Candidate.from_row(row) for row in rows])
    return finish(context, relabeller, candidates_of(context.state.path), result.summary.rounds)


def probabilities(folder: Path, stage: str, task: Task) -> list[list[float]]:
    texts = [row.text for row in load_dev(task)]
    return Classifier.load(folder / stage / "student").predict_proba(texts).tolist()


def test_all_final_students_are_kept_and_scored(finished: RunResult) -> None:
    stages = [FINAL, FINAL_WITHOUT_GOLD, GOLD_ONLY, AVERAGED]  # toy rows help, so that there is an average
    assert [student.stage for student in finished.summary.students][-4:] == stages
    for student in finished.summary.students:
        assert student.test is not None
        assert (finished.folder / student.stage / "student" / "model.onnx").is_file()
    summary = finished.summary
    assert summary.gold_only is not None and summary.final_without_gold is not None
    assert summary.gold_only.training.rows == 12
    assert summary.final.training.rows == summary.final_without_gold.training.rows + 12
    assert summary.gold_only.training.seed == summary.final.training.seed  # so that they can be averaged


def test_temperatures_are_fitted_on_rows_that_no_student_was_trained_on(task: Task, finished: RunResult) -> None:
    folds = [read_result(path, FoldResult) for path in sorted(finished.folder.glob("model-selection/fold-*.json"))]
    by_id = {row.id: task.label_names.index(row.label) for row in load_dev(task)}
    labels = np.array([by_id[name] for fold in folds for name in fold.ids])
    verdict = finished.summary.model_selection.verdict
    assert verdict is not None and finished.summary.final.temperature == 1.0
    shares = {GOLD_ONLY: 0.0, AVERAGED: verdict.share}
    for student in finished.summary.students:
        assert Classifier.load(finished.folder / student.stage / "student").temperature == student.temperature
        if student.stage in shares:
            place = SHARES.index(shares[student.stage])
            logits = np.concatenate([fold.logits[place] for fold in folds if fold.logits is not None])
            assert student.temperature == pytest.approx(fit_temperature(logits, labels))


@pytest.mark.parametrize(("share", "selected"), [(0.0, GOLD_ONLY), (0.25, AVERAGED)])
def test_the_share_decides_which_student_is_selected(
    task: Task,
    tiny_bert: Path,
    finished: RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    selected: str,
) -> None:
    context = restarted(task, finished, tiny_bert, tmp_path / "run", AVERAGED)
    temperatures = dict.fromkeys(SHARES, 1.0)
    monkeypatch.setattr(
        module, "select_model", lambda *_: Selection(finished.summary.model_selection, share, temperatures)
    )
    finals = ended(context, finished)
    assert finals.selected == selected
    assert (finals.averaged is None) == (selected == GOLD_ONLY)
    if finals.averaged is not None:
        others = [probabilities(context.state.path, stage, task) for stage in (FINAL, GOLD_ONLY)]
        assert probabilities(context.state.path, AVERAGED, task) not in others


def test_the_average_does_not_depend_on_an_interruption(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    context = restarted(task, finished, tiny_bert, tmp_path / "run", AVERAGED)  # both students are trained again
    finals = ended(context, finished)
    assert finals.selected == AVERAGED
    again, before = (probabilities(folder, AVERAGED, task) for folder in (context.state.path, finished.folder))
    assert again == before


def test_a_large_student_learns_the_same_rows_from_the_judges_encoder_and_is_selected(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    context = restarted(task, finished, tiny_bert, tmp_path / "run", size="large")
    finals = ended(context, finished)
    assert finals.selected == LARGE and finals.large is not None
    assert finals.large.training.rows_per_label == finals.final.training.rows_per_label
    assert (context.state.path / LARGE / "student" / "model.onnx").is_file()


def test_without_gold_there_is_nothing_to_select(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    gone = ("judges", FINAL, FINAL_WITHOUT_GOLD, GOLD_ONLY, AVERAGED)
    changes = {"with_gold": False, "both_finals": False, "label_check": False}
    context = restarted(task, finished, tiny_bert, tmp_path / "run", *gone, **changes)
    finals = ended(context, finished)
    assert (finals.model_selection.outcome, finals.selected, finals.gold_only) == ("off", FINAL, None)
    assert finals.final.training.rows == len(rows_of(finished.dataset))
    assert finals.final.stage == FINAL


def test_a_final_student_is_on_the_disk_before_its_marker(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that only the cache holds are gone after a power cut, and a marker would outlive them."""
    synced: set[int] = set()
    fsync = os.fsync

    def watched(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    gone = (FINAL, FINAL_WITHOUT_GOLD, GOLD_ONLY, AVERAGED)
    context = restarted(task, finished, tiny_bert, tmp_path / "run", *gone, with_gold=False, both_finals=False)
    monkeypatch.setattr(os, "fsync", watched)
    candidates = candidates_of(context.state.path)
    plain = Relabelled([candidate.example for candidate in candidates], None, None)
    FinalStudents(context, plain, finished.summary.rounds).final(FINAL, with_gold=False)
    folder = context.state.path / FINAL
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"student", "predictions.jsonl", "errors.jsonl", "metrics.json"} == {path.name for path in folder.iterdir()}
    assert {path.stat().st_ino for path in (*files, folder, folder / "student")} <= synced


def test_where_dev_has_no_folds_the_final_student_is_selected(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    dev = load_dev(task)
    firsts = [next(row for row in dev if row.label == label) for label in task.label_names]
    write_jsonl(tmp_path / "dev.jsonl", ({"text": row.text, "label": row.label} for row in firsts))
    undivided = task.model_copy(update={"dev": tmp_path / "dev.jsonl"})
    context = restarted(undivided, finished, tiny_bert, tmp_path / "run", "judges", FINAL, both_finals=False)
    finals = ended(context, finished)
    assert (finals.model_selection.outcome, finals.selected) == ("undivided", FINAL)
    assert finals.final.temperature == finished.summary.rounds[-1].student.temperature  # labels were not checked
