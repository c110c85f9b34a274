"""The whole loop once, with the real embedded models, and small: a few minutes on one core."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_world import test_scores

from s3local import RunSettings, Task, run
from s3local.exceptions import ModelError
from s3local.prediction import predict_file
from s3local.records import write_jsonl
from s3local.relabelling.judge import JudgeSettings
from s3local.student.training import TrainingSettings
from s3local.task.model import load_task
from s3local.task.subsample import draw_rows
from s3local.weights.store import find_student_body, find_teacher

CHECKOUT = Path(__file__).parents[2]

pytestmark = pytest.mark.models


def test_the_loop_ends_with_a_classifier_on_the_embedded_models(tmp_path: Path) -> None:
    try:
        find_teacher(), find_student_body()
    except ModelError as exc:
        pytest.skip(f"needs the embedded models: {exc}")
    whole = Task.load(CHECKOUT / "data" / "support_desk")
    assert whole.test is not None
    for name, source in (("dev", whole.dev), ("test", whole.test)):
        write_jsonl(tmp_path / f"{name}.jsonl", draw_rows(source, 24, 0, label_column="label"))
    task = load_task(CHECKOUT / "data" / "support_desk", tmp_path / "dev.jsonl", tmp_path / "test.jsonl")
    settings = RunSettings(
        rows=16,
        rounds=1,
        rationales=2,
        contrast=0.0,
        shard_size=32,
        folds=2,
        judging=JudgeSettings(passes=32),
        training=TrainingSettings(passes=32, max_length=64),
    )
    result = run(task, settings, folder=tmp_path / "run")
    dataset = [json.loads(line) for line in result.dataset.read_text(encoding="utf-8").splitlines()]
    assert len(dataset) == 16
    assert {row["origin"]["asked"] for row in dataset} <= set(task.label_names)
    assert {"round-0", "round-1", "final"} <= set(test_scores(result))

    target = tmp_path / "predicted.csv"
    assert predict_file(result.classifier(), task.test, target).rows == 24
    right = result.classifier().predict_proba(["my bill is twice what it should be"])
    assert right.shape == (1, len(task.labels))
    assert np.isclose(right.sum(), 1.0)

    again = run(task, settings, folder=tmp_path / "run")
    assert again.summary == result.summary
