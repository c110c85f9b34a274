"""The first answer is the gold-only student of the run with the same settings, and its cross-validation too."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_world import settings

from s3local.evaluation.metrics import ClassificationMetrics
from s3local.exceptions import StorageError
from s3local.executor import InThisProcess
from s3local.progress import Silent
from s3local.results import GOLD_ONLY, QUICK_FILE, QuickResult, read_result
from s3local.runner.loop import RunResult
from s3local.runner.quick import train_quickly
from s3local.student.inference import Classifier
from s3local.task.model import Task
from s3local.task.rows import load_rows


def test_it_is_the_gold_only_student_of_the_run(
    task: Task, finished: RunResult, tiny_bert: Path, tmp_path: Path
) -> None:
    rounds = len(finished.summary.rounds) - 1
    chosen = settings(tiny_bert, model_selection=True, rounds=rounds)
    result = train_quickly(task, chosen, tiny_bert, tmp_path / "quick", InThisProcess(), Silent())
    assert task.test is not None
    texts = [row.text for row in load_rows(task.test, task)]
    quick, whole = (Classifier.load(path) for path in (tmp_path / "quick", finished.folder / GOLD_ONLY / "student"))
    assert quick.logits(texts).tolist() == whole.logits(texts).tolist()
    verdict, test = finished.summary.model_selection.verdict, finished.summary.gold_only
    assert verdict is not None and test is not None and isinstance(result.test, ClassificationMetrics)
    assert (result.score, result.scored) == (verdict.gold_only, verdict.n_rows)
    assert result.test == test.test
    assert read_result(tmp_path / "quick" / QUICK_FILE, QuickResult) == result


def test_another_folder_is_left_alone(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(StorageError, match="it holds something else"):
        train_quickly(task, settings(tiny_bert), tiny_bert, tmp_path, InThisProcess(), Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
