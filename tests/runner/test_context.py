"""Folds of dev: duplicates stay together, and every row outside a fold may be learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_world import context_for, rows_of, settings

from s3local.evaluation.cross_validation import NO_FOLD
from s3local.records import write_jsonl
from s3local.runner.context import Folds
from s3local.task.model import Task


def test_a_fold_and_the_rows_outside_are_all_rows() -> None:
    folds = Folds(np.array([0, 1, NO_FOLD, 1]))
    assert folds.count == 2
    for fold in range(folds.count):
        assert sorted(folds.inside(fold, "abcd") + folds.outside(fold, "abcd")) == list("abcd")
    assert folds.divided("abcd") == list("abd")


def test_duplicates_share_a_fold(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    dev = rows_of(task.dev)
    twins = [{**row, "id": f"twin-{row['id']}", "text": f"{row['text'].upper()}!"} for row in dev]
    write_jsonl(tmp_path / "dev.jsonl", [*dev, *twins])
    doubled = task.model_copy(update={"dev": tmp_path / "dev.jsonl"})
    context = context_for(doubled, settings(tiny_bert), tmp_path / "run")
    folds = context.divide_dev()
    fold_of = dict(zip((row.id for row in context.dev), folds.of_row.tolist(), strict=True))
    assert all(fold_of[row["id"]] == fold_of[f"twin-{row['id']}"] for row in dev)
    assert (folds.of_row == context.divide_dev().of_row).all()


def test_dev_of_one_row_a_label_has_no_folds(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    dev = {row["label"]: row for row in rows_of(task.dev)}
    write_jsonl(tmp_path / "dev.jsonl", [{**row, "id": f"{row['id']}-{n}"} for n in range(4) for row in dev.values()])
    few = task.model_copy(update={"dev": tmp_path / "dev.jsonl"})
    assert context_for(few, settings(tiny_bert), tmp_path / "run").divide_dev().count == 0
