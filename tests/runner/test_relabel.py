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
    well_read_judge,
    write,
)

from s3local.records import write_jsonl
from s3local.relabelling.judge import Judge
from s3local.relabelling.label_model import LEAST_GOLD
from s3local.results import ScarceLabel
from s3local.runner.context import JUDGES, RunContext
from s3local.runner.loop import RunResult
from s3local.runner.models import Models, find_models
from s3local.runner.relabel import Relabelled, Relabeller, training_set
from s3local.task.model import Task
from s3local.task.rows import load_dev
from s3local.teacher.fake import FakeTeacher


def relabelled(
    context: RunContext, result: RunResult, stage: str = "final", n_rows: int | None = None
) -> tuple[Relabeller, Relabelled]:
    """The first rows of a finished run, relabelled in another folder."""
    relabeller = Relabeller(context, context.divide_dev())
    return relabeller, relabeller.relabel(stage, candidates_of(result.folder)[:n_rows])


def counting(trained: list[int]) -> Callable[..., Judge]:
    """Trains judges, and notes the number of gold rows of each."""

    def judge(body: Path, rows: Any, *others: Any) -> Judge:
        trained.append(len(rows))
        return well_read_judge(body, rows, *others)

    return judge


def models_with(models: Models, trained: list[int]) -> Models:
    return dataclasses.replace(models, judge=counting(trained))


def test_no_row_is_predicted_by_a_judge_that_was_trained_on_it(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    context = context_for(task, settings(tiny_bert), tmp_path)
    folds = context.divide_dev()
    for fold in range(folds.count):
        gold, seed = folds.outside(fold, context.dev), context.seed_for(JUDGES, fold)
        judge = well_read_judge(tiny_bert, gold, task.label_names, context.settings.judge, seed)
        said = [row["probabilities"] for row in rows_of(finished.folder / "judges" / f"dev-{fold}.jsonl")]
        assert judge.predict_proba(context.dev) == pytest.approx(np.array(said), abs=1e-4)


def test_the_dataset_says_how_probable_each_label_is(task: Task, finished: RunResult) -> None:
    for row in rows_of(finished.dataset):
        probabilities = row["origin"]["probabilities"]
        assert list(probabilities) == list(task.label_names)
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-3)
        assert probabilities[row["label"]] == max(probabilities.values())
        assert row["origin"]["asked"] in task.label_names


def test_judges_are_trained_once_for_any_number_of_stages_and_again_only_after_they_were_released(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    chosen, trained = settings(tiny_bert), []
    context = context_for(task, chosen, tmp_path, models_with(toy_models(chosen), trained))
    relabeller, first = relabelled(context, finished, "round-0", n_rows=4)
    assert len(trained) == 2
    candidates = candidates_of(finished.folder)
    second = relabeller.relabel("final", candidates)
    assert len(trained) == 2
    assert first.targets is not None and second.targets is not None
    assert (first.targets.shape, second.targets.shape) == ((4, 2), (len(candidates), 2))
    relabeller.release()
    relabeller.relabel("final", candidates)  # its predictions are there
    relabeller.relabel("later", candidates[:2])
    assert len(trained) == 4


def test_a_fold_has_the_predictions_of_its_own_judge_alone(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    context = context_for(task, settings(tiny_bert), tmp_path)
    relabeller, whole = relabelled(context, finished)
    targets = [relabeller.fold_targets("final", candidates_of(finished.folder), fold) for fold in range(2)]
    assert not np.allclose(targets[0], targets[1])
    assert whole.targets is not None and targets[0].shape == whole.targets.shape


@pytest.mark.parametrize("knows", [True, False])
def test_the_teacher_is_used_where_it_explains_gold_and_reads_all_rows_only_then(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path, knows: bool
) -> None:
    label_of = {f" {row.text}\n": row.label for row in load_dev(task)}
    phrase_of = {label.name: label.phrase for label in task.labels}

    def weigh(prompt: str, text: str) -> float:
        return 0.0 if knows and phrase_of[label_of.get(text, task.label_names[0])] in prompt else -30.0

    teachers: list[FakeTeacher] = []

    def opened() -> FakeTeacher:
        teachers.append(FakeTeacher(write, weigh=weigh))
        return teachers[-1]

    chosen = settings(tiny_bert)
    models = find_models(chosen, teacher=opened, embedder=BagOfWords())
    context = context_for(task, chosen, tmp_path, models)
    figures = relabelled(context, finished)[1].result.figures
    assert figures is not None
    assert figures.teacher_used is knows
    assert set(figures.pool_weights) == ({"judges", "teacher"} if knows else {"judges"})
    assert list(figures.correct) == list(task.label_names)
    assert min(figures.correct.values()) <= figures.correct_overall <= max(figures.correct.values())
    assert [row["id"] for row in rows_of(tmp_path / "judges" / "teacher.jsonl")] == [row.id for row in context.dev]
    assert (tmp_path / "final" / "teacher.jsonl").exists() is knows
    if knows:
        read = [row["id"] for row in rows_of(tmp_path / "final" / "teacher.jsonl")]
        assert read == [candidate.example.id for candidate in candidates_of(finished.folder)]
    assert all(teacher.closed for teacher in teachers)


def test_a_teacher_that_shall_not_read_is_not_asked(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    chosen, teacher = settings(tiny_bert, teacher_reads=False), FakeTeacher(write)
    context = context_for(task, chosen, tmp_path, toy_models(chosen, lambda: teacher))
    assert relabelled(context, finished, n_rows=4)[1].result.applied
    assert not teacher.scored


def test_judges_that_know_nothing_leave_the_requested_labels(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    chosen = settings(tiny_bert, teacher_reads=False)
    models = find_models(chosen, teacher=lambda: FakeTeacher(write), embedder=BagOfWords())  # judges of twelve rows
    _, after = relabelled(context_for(task, chosen, tmp_path, models), finished)
    assert after.result.figures is not None
    assert (after.result.outcome, after.result.judges, after.result.figures.relabelled) == ("no_gain", 2, 0)
    assert after.result.figures.gain <= 0
    assert after.targets is None
    asked = candidates_of(finished.folder)
    assert [row.label for row in after.rows] == [candidate.example.label for candidate in asked]
    assert rows_of(tmp_path / "final" / "dataset.jsonl") == [candidate.to_row() for candidate in asked]


@pytest.mark.parametrize("each", [LEAST_GOLD - 1, LEAST_GOLD])
def test_judges_are_trained_where_dev_has_enough_rows_of_each_label(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path, each: int
) -> None:
    dev = load_dev(task)
    some = [row for label in task.label_names for row in [row for row in dev if row.label == label][:each]]
    write_jsonl(tmp_path / "dev.jsonl", ({"text": row.text, "label": row.label} for row in some))
    small = task.model_copy(update={"dev": tmp_path / "dev.jsonl"})
    _, after = relabelled(context_for(small, settings(tiny_bert), tmp_path / "run"), finished, n_rows=4)
    few = each < LEAST_GOLD
    assert after.result.scarce == (ScarceLabel(label="negative", rows=each, least=LEAST_GOLD) if few else None)
    assert len(list((tmp_path / "run" / "final").glob("judge-*.json"))) == (0 if few else 2)
    assert (tmp_path / "run" / "judges").exists() is not few
    assert (after.targets is None) is few


def test_dev_without_folds_and_a_run_without_a_check_keep_the_requested_labels(
    task: Task, tiny_bert: Path, finished: RunResult, tmp_path: Path
) -> None:
    dev = load_dev(task)
    firsts = [next(row for row in dev if row.label == label) for label in task.label_names]
    write_jsonl(tmp_path / "dev.jsonl", ({"text": row.text, "label": row.label} for row in LEAST_GOLD * firsts))
    undivided = task.model_copy(update={"dev": tmp_path / "dev.jsonl"})
    for name, one, changes in (("undivided", undivided, {}), ("off", task, {"label_check": False})):
        _, after = relabelled(context_for(one, settings(tiny_bert, **changes), tmp_path / name), finished, n_rows=4)
        assert (after.result.outcome, after.targets) == (name, None)


def test_gold_rows_are_certain_among_the_targets(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    context = context_for(task, settings(tiny_bert), tmp_path)
    rows, gold = context.dev[:2], context.dev[2:]
    made = training_set(context, rows, np.array([[1.0, 3.0], [0.5, 0.5]], np.float32), gold, seed=7)
    assert made.targets is not None and made.seed == 7
    assert made.targets[:2].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert [task.label_names[best] for best in made.targets[2:].argmax(axis=1)] == [row.label for row in gold]
    assert made.targets[2:].max(axis=1).tolist() == [1.0] * len(gold)
