"""Laws of relabelling: no judge predicts a row that it was trained on, judges are trained once, and requested
labels stay where judges know nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_world import (
    BagOfWords,
    candidates_of,
    context_for,
    rows_of,
    settings,
    toy_models,
    well_read_judges,
    write,
)

from s3local.records import write_jsonl
from s3local.relabelling.judge import Judges
from s3local.runner.context import JUDGES, RunContext
from s3local.runner.loop import RunResult
from s3local.runner.models import Models, find_models
from s3local.runner.relabel import Relabelled, Relabeller, training_set
from s3local.task.model import Task
from s3local.task.rows import load_dev
from s3local.teacher.fake import FakeTeacher


def relabelled(
    context: RunContext, result: RunResult, stage: str = "round-0", n_rows: int | None = None
) -> tuple[Relabeller, Relabelled]:
    """The first rows of a finished run, relabelled in another folder."""
    relabeller = Relabeller(context, context.divide_dev())
    candidates = candidates_of(result.folder)[:n_rows]
    relabeller.read(stage, candidates)
    return relabeller, relabeller.relabel(candidates)


def counting(trained: list[int]) -> Callable[..., Judges]:
    """Trains judges, and notes how many."""

    def judges(folder: Path, rows: Any, labels: Any, fold_of: Any, settings: Any, seeds: Any, *others: Any) -> Judges:
        trained.append(len(seeds))
        return well_read_judges(folder, rows, labels, fold_of, settings, seeds, *others)

    return judges


def models_with(models: Models, trained: list[int]) -> Models:
    return dataclasses.replace(models, train_judges=counting(trained))


def test_no_dev_row_is_predicted_by_a_judge_that_was_trained_on_it(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    context = context_for(task, settings(tiny_bert), tmp_path)
    folds, labels = context.divide_dev(), task.label_names
    said = {row["id"]: row["probabilities"] for row in rows_of(finished.folder / "judges" / "dev.jsonl")}
    assert list(said) == [row.id for row in folds.divided(context.dev)]
    for fold in range(folds.count):
        gold = folds.outside(fold, context.dev)
        seed, nobody = context.seed_for(JUDGES, fold), np.full(len(gold), -1)
        further = context.kind.descriptions()
        judge = well_read_judges(tiny_bert, gold, labels, nobody, context.settings.judging, [seed], further)
        held_out = folds.inside(fold, context.dev)
        expected = np.array([said[row.id] for row in held_out])
        assert judge.predict_proba(held_out)[0] == pytest.approx(expected, abs=1e-4)


def test_the_dataset_says_how_probable_each_label_is(task: Task, finished: RunResult) -> None:
    for row in rows_of(finished.dataset):
        probabilities = row["origin"]["probabilities"]
        assert list(probabilities) == list(task.label_names)
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-3)
        assert probabilities[row["label"]] == max(probabilities.values())
        assert row["origin"]["asked"] in task.label_names


def test_judges_are_trained_once_and_only_where_a_round_was_not_read(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    chosen, trained = settings(tiny_bert), []
    context = context_for(task, chosen, tmp_path, models_with(toy_models(chosen), trained))
    candidates = candidates_of(finished.folder)
    relabeller, first = relabelled(context, finished, n_rows=4)
    relabeller.read("round-1", candidates[4:])
    second = relabeller.relabel(candidates)
    assert trained == [2]
    assert first.targets is not None and second.targets is not None
    assert (first.targets.shape, second.targets.shape) == ((4, 2), (len(candidates), 2))
    resumed = Relabeller(context, context.divide_dev())
    for stage, rows in (("round-0", candidates[:4]), ("round-1", candidates[4:])):
        resumed.read(stage, rows)
    assert (resumed.relabel(candidates).targets == second.targets).all()
    assert trained == [2]
    others = [
        dataclasses.replace(row, example=dataclasses.replace(row.example, id=f"new-{row.example.id}"))
        for row in candidates[:2]
    ]
    resumed.read("round-2", others)
    assert trained == [2, 2]


def test_a_fold_has_the_predictions_of_its_own_judge_alone(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    context = context_for(task, settings(tiny_bert), tmp_path)
    relabeller, whole = relabelled(context, finished)
    first, second = (relabeller.fold_targets(candidates_of(finished.folder), fold) for fold in range(2))
    assert first is not None and second is not None and whole.targets is not None
    assert not np.allclose(first, second)
    assert first.shape == whole.targets.shape


def test_judges_that_know_nothing_leave_the_requested_labels(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    chosen = settings(tiny_bert)
    models = find_models(chosen, teacher=lambda: FakeTeacher(write), embedder=BagOfWords())  # judges of twelve rows
    relabeller, after = relabelled(context_for(task, chosen, tmp_path, models), finished)
    judges = relabeller.prepare()
    assert (judges.outcome, judges.judges) == ("no_gain", 2)
    assert judges.gain <= 0
    requested = [candidate.example for candidate in candidates_of(finished.folder)]
    assert (after.rows, after.targets, after.figures) == (requested, None, None)
    relabeller.finish(candidates_of(finished.folder))
    written = [candidate.to_row() for candidate in candidates_of(finished.folder)]
    assert rows_of(tmp_path / "final" / "dataset.jsonl") == written


def test_dev_without_folds_and_a_run_without_a_check_keep_the_requested_labels(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    dev = load_dev(task)
    firsts = [next(row for row in dev if row.label == label) for label in task.label_names]
    write_jsonl(tmp_path / "dev.jsonl", ({"text": row.text, "label": row.label} for row in 4 * firsts))
    undivided = task.model_copy(update={"dev": tmp_path / "dev.jsonl"})
    for name, one, changes in (("undivided", undivided, {}), ("off", task, {"label_check": False})):
        context = context_for(one, settings(tiny_bert, **changes), tmp_path / name)
        relabeller, after = relabelled(context, finished, n_rows=4)
        assert (relabeller.prepare().outcome, after.targets) == (name, None)


def test_gold_rows_are_certain_among_the_targets(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    context = context_for(task, settings(tiny_bert), tmp_path)
    rows, gold = context.dev[:2], context.dev[2:]
    made = training_set(context, rows, np.array([[1.0, 3.0], [0.5, 0.5]], np.float32), gold, seed=7)
    assert made.targets is not None and made.seed == 7
    assert made.targets[:2].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert [task.label_names[best] for best in made.targets[2:].argmax(axis=1)] == [row.label for row in gold]
    assert made.targets[2:].max(axis=1).tolist() == [1.0] * len(gold)
