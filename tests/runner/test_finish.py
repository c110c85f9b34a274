"""Laws of the end of a run: no judge and no student judges what it has learned from, and the guard decides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_world import BagOfWords, make_task, settings, toy_models, well_read_judge, write

from s3local.evaluation.calibration import fit_temperature, log_likelihood
from s3local.evaluation.cross_validation import divide_into_folds
from s3local.records import Candidate, Example, read_jsonl, write_jsonl
from s3local.relabelling.label_model import LEAST_GOLD
from s3local.report.text import render
from s3local.results import RunSummary, ScarceLabel, Verdict, read_result
from s3local.runner import finish
from s3local.runner.context import JUDGES
from s3local.runner.finish import Finish, ancestors
from s3local.runner.loop import RunResult, run
from s3local.runner.model_selection import SHARES, weigh
from s3local.runner.models import find_models
from s3local.runner.state import selected_student
from s3local.runner.task_kinds import TrainingSet
from s3local.student.inference import Classifier
from s3local.student.training import TrainedStudent
from s3local.task.model import Task
from s3local.task.rows import load_dev
from s3local.teacher.fake import FakeTeacher


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_task(tmp_path_factory.mktemp("toy"))


def start(task: Task, body: Path, folder: Path, **changes: object) -> RunResult:
    chosen = settings(body, guard=True, rounds=1, **changes)
    return run(task, chosen, folder=folder, models=toy_models(chosen))


TRAINING_SETS: list[TrainingSet] = []
MEANS: list[tuple[int, int, float]] = []
"""What the guard's students learned, and of how many rows each two students were that a mean was made of."""


@pytest.fixture(scope="module")
def guarded(task: Task, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    half_trained, mean = Finish._half_trained, finish.averaged

    def watched(self: Finish, training_set: TrainingSet, name: str) -> Any:
        TRAINING_SETS.append(training_set)
        return half_trained(self, training_set, name)

    def averaged(first: TrainedStudent, second: TrainedStudent, share: float) -> TrainedStudent:
        MEANS.append((first.n_rows, second.n_rows, share))
        return mean(first, second, share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finish, "_half_trained", watched)
        patch.setattr(finish, "averaged", averaged)
        return start(task, tiny_bert, tmp_path_factory.mktemp("guarded") / "run")


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def seed_for(*purpose: int) -> int:
    return int(np.random.SeedSequence([0, *purpose]).generate_state(1)[0])


def test_no_row_is_judged_by_a_judge_that_has_seen_it(task: Task, tiny_bert: Path, guarded: RunResult) -> None:
    dev = load_dev(task)
    fold_of = divide_into_folds([row.label for row in dev], 2, seed_for(JUDGES))
    chosen = settings(tiny_bert).judge
    for fold in range(2):
        others = [row for row, its in zip(dev, fold_of, strict=True) if its != fold]
        judge = well_read_judge(tiny_bert, others, task.label_names, chosen, seed_for(JUDGES, fold))
        said = [row["probabilities"] for row in rows(guarded.folder / "final" / f"judge-{fold}.jsonl")]
        assert judge.predict_proba(dev) == pytest.approx(np.array(said[: len(dev)]), abs=1e-4)


def test_the_guard_judges_each_dev_row_once_and_leaves_out_what_descends_from_it(
    task: Task, guarded: RunResult
) -> None:
    folds = [json.loads((guarded.folder / "final" / f"guard-{fold}.json").read_text()) for fold in range(2)]
    assert sorted(name for fold in folds for name in fold["ids"]) == sorted(row.id for row in load_dev(task))
    dataset = [Candidate.from_row(row) for row in rows(guarded.dataset)]
    found = guarded.summary.model_selection.verdict
    assert found is not None
    for fold, used in zip(folds, found.synthetic_rows, strict=True):
        assert used == sum(not set(fold["ids"]) & set(ancestors(candidate)) for candidate in dataset)
    by_id = {row.id: task.label_names.index(row.label) for row in load_dev(task)}
    own = np.array([by_id[name] for fold in folds for name in fold["ids"]])
    logits = {share: np.concatenate([fold["logits"][n] for fold in folds]) for n, share in enumerate(SHARES)}
    scores = {share: np.concatenate([fold["scores"][n] for fold in folds]) for n, share in enumerate(SHARES)}
    for share in SHARES:
        assert (logits[share].argmax(axis=1) == own).tolist() == scores[share].astype(bool).tolist()
    verdict = weigh(scores, [], {share: log_likelihood(values, own) for share, values in logits.items()})
    assert (found.share, found.selected, found.gain) == (verdict.share, verdict.selected, verdict.gain)


def test_no_student_of_the_guard_has_seen_its_fold(task: Task, guarded: RunResult) -> None:
    dev = {row.id for row in load_dev(task)}
    origins = {row["id"]: row["origin"] for row in rows(guarded.dataset)}
    for fold in range(2):
        held = set(json.loads((guarded.folder / "final" / f"guard-{fold}.json").read_text())["ids"])
        final, gold = TRAINING_SETS[2 * fold : 2 * fold + 2]
        heirs = {name for name, its in origins.items() if held & {its.get("error"), *its.get("shots", ())}}
        assert heirs
        assert {row.id for row in gold.rows} == dev - held
        assert {row.id for row in final.rows} == (dev - held) | (set(origins) - heirs)
        assert final.seed == gold.seed
    n_free = sum("error" not in its for its in origins.values())  # the seed's rows stand in front, in both folds
    first, second = (TRAINING_SETS[place].targets for place in (0, 2))
    assert first is not None and second is not None
    assert not np.allclose(first[:n_free], second[:n_free]), "each fold has the opinion of its own judge alone"
    assert [share for _, _, share in MEANS[:10]] == [*SHARES] * 2
    assert all(n_final > n_gold for n_final, n_gold, _ in MEANS)
    assert guarded.summary.gold_only is not None
    assert guarded.summary.gold_only.training.seed == guarded.summary.final.training.seed


def test_ancestors_are_what_the_prompt_showed() -> None:
    origin = {"error": "a", "context": "b", "shots": ["c"], "against": ["d"]}
    assert ancestors(Candidate(Example("x", {"text": "y"}, "z"), origin)) == ["a", "b", "c"]


def test_both_students_are_kept_and_tested(guarded: RunResult) -> None:
    assert {"final", "gold"} <= {student.stage for student in guarded.summary.students if student.test is not None}
    for stage in ("final", "gold"):
        assert (guarded.folder / stage / "student" / "model.onnx").is_file()
    assert guarded.summary.gold_only is not None
    assert guarded.summary.gold_only.training.rows == 12


def test_each_student_is_as_sure_as_the_rows_that_none_of_its_kind_has_seen_allow(
    task: Task, guarded: RunResult
) -> None:
    folds = [json.loads((guarded.folder / "final" / f"guard-{fold}.json").read_text()) for fold in range(2)]
    by_id = {row.id: task.label_names.index(row.label) for row in load_dev(task)}
    own = np.array([by_id[name] for fold in folds for name in fold["ids"]])
    assert guarded.summary.model_selection.verdict is not None
    shares = {"gold": 0.0, "averaged": guarded.summary.model_selection.verdict.share}
    for student in guarded.summary.students:
        if student.stage in shares:
            place = SHARES.index(shares[student.stage])
            logits = np.concatenate([fold["logits"][place] for fold in folds])
            assert student.temperature == pytest.approx(fit_temperature(logits, own))
            assert Classifier.load(guarded.folder / student.stage / "student").temperature == student.temperature


def test_rows_that_stand_in_dev_twice_are_held_out_together(tiny_bert: Path, tmp_path: Path) -> None:
    task = make_task(tmp_path / "task")
    dev = rows(task.dev)
    twins = [{**row, "id": f"twin-{row['id']}", "text": f"{row['text'].upper()}!"} for row in dev]
    write_jsonl(task.dev, [*dev, *twins])
    result = start(task, tiny_bert, tmp_path / "run", label_check=False)
    for fold in range(2):
        names = set(json.loads((result.folder / "final" / f"guard-{fold}.json").read_text())["ids"])
        assert {f"twin-{name}" for name in names if not name.startswith("twin-")} == {
            name for name in names if name.startswith("twin-")
        }


def deciding(share: float) -> Callable[..., Verdict]:
    """A guard that always chooses this share."""
    return lambda *_: weigh({its: np.full(12, float(its == share)) for its in SHARES}, [])


@pytest.fixture(scope="module")
def undecided(task: Task, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was interrupted when the guard was about to decide."""
    folder = tmp_path_factory.mktemp("undecided") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finish, "weigh", interrupted)
        start(task, tiny_bert, folder, label_check=False)
    return folder


@pytest.mark.parametrize(("share", "stage"), [(0.0, "gold"), (0.5, "averaged")])
def test_the_guard_decides_which_one_is_handed_over(
    task: Task,
    tiny_bert: Path,
    tmp_path: Path,
    undecided: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    stage: str,
) -> None:
    monkeypatch.setattr(finish, "weigh", deciding(share))
    shutil.copytree(undecided, tmp_path / "run")
    result = start(task, tiny_bert, tmp_path / "run", label_check=False)
    assert result.summary.selected == stage
    assert result.model == selected_student(result.folder) == result.folder / stage / "student"
    assert result.classifier().labels == task.label_names
    assert result.summary.selected_student.test is not None


def test_the_mean_of_two_students_does_not_depend_on_an_interruption(
    task: Task, tiny_bert: Path, tmp_path: Path, undecided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "weigh", deciding(0.25))
    whole = start(task, tiny_bert, tmp_path / "whole", label_check=False)
    shutil.copytree(undecided, tmp_path / "broken")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finish, "averaged", interrupted)
        start(task, tiny_bert, tmp_path / "broken", label_check=False)
    assert not (tmp_path / "broken" / "result.json").exists()
    ended = start(task, tiny_bert, tmp_path / "broken", label_check=False)
    texts = [row.text for row in load_dev(task)]
    first, second = (result.classifier().predict_proba(texts) for result in (whole, ended))
    assert first.tolist() == second.tolist()
    alone = Classifier.load(whole.folder / "gold" / "student").predict_proba(texts)
    assert first.tolist() != alone.tolist()


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_without_gold_there_is_nothing_to_guard(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    result = start(task, tiny_bert, tmp_path / "run", with_gold=False, label_check=False)
    assert result.summary.model_selection.outcome == "off"
    assert not (result.folder / "gold").exists()
    assert read_result(result.folder / "result.json", RunSummary).selected == "final"


@pytest.mark.parametrize("knows", [True, False])
def test_the_teacher_is_heard_where_it_knows_what_gold_says_and_reads_all_rows_only_then(
    task: Task, tiny_bert: Path, tmp_path: Path, knows: bool
) -> None:
    label_of = {f" {row.text}\n": row.label for row in load_dev(task)}
    phrase_of = {label.name: label.phrase for label in task.labels}

    def weigh(prompt: str, text: str) -> float:
        return 0.0 if knows and phrase_of[label_of.get(text, task.label_names[0])] in prompt else -30.0

    chosen = settings(tiny_bert, guard=False, rounds=0, teacher_reads=True)
    models = find_models(chosen, teacher=lambda: FakeTeacher(write, weigh=weigh), embedder=BagOfWords())
    result = run(task, chosen, folder=tmp_path / "run", models=models)
    check = result.summary.label_check
    assert check.figures is not None
    assert check.figures.teacher_used is knows
    assert set(check.figures.pool_weights) == ({"judges", "teacher"} if knows else {"judges"})
    assert list(check.figures.correct) == list(task.label_names)
    correct = check.figures.correct.values()
    assert min(correct) <= check.figures.correct_overall <= max(correct)
    console = Console(width=400, record=True)
    console.print(render(result.summary, result.folder))
    assert ("seem to be what they were asked for" in console.export_text()) is check.applied
    read = [row["id"] for row in rows(result.folder / "final" / "teacher.jsonl")]
    written = [row["id"] for row in rows(result.dataset)] if knows else []
    assert read == [row.id for row in load_dev(task)] + written


def test_judges_that_know_nothing_leave_the_labels_as_they_were_asked_for(
    task: Task, tiny_bert: Path, tmp_path: Path
) -> None:
    chosen = settings(tiny_bert, guard=True, rounds=1)
    models = find_models(chosen, teacher=lambda: FakeTeacher(write), embedder=BagOfWords())  # judges of twelve rows
    result = run(task, chosen, folder=tmp_path / "run", models=models)
    check = result.summary.label_check
    assert check.figures is not None
    assert (check.outcome, check.judges, check.figures.relabelled) == ("no_gain", 2, 0)
    assert check.figures.gain <= 0
    written = [row for stage in sorted(result.folder.glob("round-*")) for row in rows(stage / "synthetic.jsonl")]
    assert rows(result.dataset) == written
    assert result.summary.final.temperature == result.summary.rounds[-1].student.temperature
    console = Console(width=400, record=True)
    console.print(render(result.summary, result.folder))
    assert "too few to tell from chance" in console.export_text()


@pytest.mark.parametrize("each", [LEAST_GOLD - 1, LEAST_GOLD])
def test_judges_are_trained_where_dev_has_enough_rows_of_each_label(
    task: Task, tiny_bert: Path, tmp_path: Path, each: int
) -> None:
    dev = load_dev(task)
    some = [row for label in task.label_names for row in [row for row in dev if row.label == label][:each]]
    write_jsonl(tmp_path / "dev.jsonl", ({"text": row.text, "label": row.label} for row in some))
    result = start(task.model_copy(update={"dev": tmp_path / "dev.jsonl"}), tiny_bert, tmp_path / "run", rows=12)
    few = result.summary.label_check.scarce
    assert few == (None if each == LEAST_GOLD else ScarceLabel(label="negative", rows=each, least=LEAST_GOLD))
    assert len(list((result.folder / "final").glob("judge-*.json"))) == (0 if few else 2)
    assert all(("asked" in row["origin"]) is not bool(few) for row in rows(result.dataset))
    console = Console(width=400, record=True)
    console.print(render(result.summary, result.folder))
    assert (f"dev has {each} of 'negative'" in console.export_text()) is bool(few)


@pytest.mark.parametrize("times", [1, LEAST_GOLD])
def test_where_dev_cannot_be_divided_the_report_says_what_is_missing(
    task: Task, tiny_bert: Path, tmp_path: Path, times: int
) -> None:
    dev = load_dev(task)
    firsts = [next(row for row in dev if row.label == label) for label in task.label_names]
    write_jsonl(tmp_path / "dev.jsonl", ({"text": row.text, "label": row.label} for row in times * firsts))
    result = start(task.model_copy(update={"dev": tmp_path / "dev.jsonl"}), tiny_bert, tmp_path / "run")
    assert (result.summary.model_selection.outcome, result.summary.selected) == ("undivided", "final")
    console = Console(width=400, record=True)
    console.print(render(result.summary, result.folder))
    text = console.export_text()
    assert "Guard: none" in text
    assert "Label check: none" in text


def test_a_teacher_that_shall_not_judge_is_not_asked(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    teachers: list[FakeTeacher] = []

    def opened() -> FakeTeacher:
        teachers.append(FakeTeacher(write))
        return teachers[-1]

    chosen = settings(tiny_bert, guard=False, rounds=0, teacher_reads=False)
    run(task, chosen, folder=tmp_path / "run", models=find_models(chosen, teacher=opened, embedder=BagOfWords()))
    assert teachers and not any(teacher.scored for teacher in teachers)
