"""Laws of a whole run, on the scripted teacher: reproducible, resumable, accounted for, and blind to test labels."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

import pytest
from small_world import BagOfWords, Watched, candidates_of, make_task, rows_of, settings, test_scores, toy_models, write

from s3local.allocation import divide_rows
from s3local.exceptions import RunError
from s3local.hardware import cpu_name
from s3local.progress import Advance, Silent, ignore
from s3local.results import score_of
from s3local.runner.loop import RunResult, run
from s3local.runner.models import find_models
from s3local.storage import sha256_of
from s3local.synthesis.prompts import TEMPLATES
from s3local.task.model import Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Completion, Request


def start(
    task: Task,
    body: Path,
    folder: Path,
    teacher: Callable[[], FakeTeacher] = lambda: FakeTeacher(write),
    **changes: object,
) -> RunResult:
    chosen = settings(body, **changes)
    return run(task, chosen, folder=folder, models=toy_models(chosen, teacher))


WHOLE: dict[str, object] = {"model_selection": True, "both_finals": True}
"""The settings of the finished run."""


class Stopping(FakeTeacher):
    """Dies like a killed process, before its n-th call is answered."""

    left = 0

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        if Stopping.left == 0:
            raise KeyboardInterrupt
        Stopping.left -= 1
        return super().generate(requests, advance)


@pytest.fixture(scope="module")
def resumed(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, int]:
    """A run like the finished one that was stopped again and again, one call of the teacher a sitting, on the same rows
    with all labels of test changed; and the number of sittings before the last."""
    task = make_task(tmp_path_factory.mktemp("flipped"), flip_test=True)
    folder = tmp_path_factory.mktemp("resumed") / "run"
    sittings = 0
    while True:
        Stopping.left = 1
        try:
            return start(task, tiny_bert, folder, lambda: Stopping(write), **WHOLE), sittings
        except KeyboardInterrupt:
            sittings += 1


def stages(result: RunResult) -> list[Path]:
    return sorted(result.folder.glob("round-*"))


def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_dataset(
    finished: RunResult, resumed: tuple[RunResult, int]
) -> None:
    result, sittings = resumed
    shards = [path for stage in stages(finished) for path in (stage / "shards").glob("*.jsonl")]
    assert sittings == len(shards)  # each call was made once: with the rationales, one more; the last sitting ends
    assert result.summary.dataset_sha256 == finished.summary.dataset_sha256 == sha256_of(result.dataset)
    assert result.summary.selected == finished.summary.selected


def test_no_label_of_test_is_used_before_the_end(finished: RunResult, resumed: tuple[RunResult, int]) -> None:
    flipped = test_scores(resumed[0])
    for stage, metrics in test_scores(finished).items():
        assert score_of(flipped[stage]) == pytest.approx(1 - score_of(metrics))


def test_the_dataset_has_the_rows_asked_for_and_all_labels_in_the_seed(finished: RunResult) -> None:
    kept = [entry.synthesis.kept for entry in finished.summary.rounds]
    assert len(rows_of(finished.dataset)) == finished.summary.rows == sum(kept)
    assert sum(kept) + finished.summary.rounds[-1].synthesis.shortfall == 24
    assert len(set(finished.summary.rounds[0].synthesis.kept_per_label.values())) == 1


@pytest.mark.parametrize(("n_rows", "seed_share"), [(1, 0.4), (9, 1.0)])
def test_no_more_rows_than_asked_for_come_to_training(
    task: Task, tiny_bert: Path, tmp_path: Path, n_rows: int, seed_share: float
) -> None:
    changes = {"label_check": False, "with_gold": False}
    result = start(task, tiny_bert, tmp_path / "run", rows=n_rows, seed_share=seed_share, **changes)
    assert result.summary.rows == result.summary.final.training.rows == n_rows
    written = [candidate.to_row() for candidate in candidates_of(result.folder)]
    assert rows_of(result.dataset) == written  # without a label check, the requested labels stay


def test_the_errors_are_the_rows_predicted_wrong(finished: RunResult) -> None:
    for stage in stages(finished):
        predicted, errors = rows_of(stage / "predictions.jsonl"), rows_of(stage / "errors.jsonl")
        assert [row["id"] for row in errors] == [row["id"] for row in predicted if row["predicted"] != row["label"]]
        for row in errors:
            assert row["predicted"] != row["label"]
            assert row["predicted_probability"] >= row["own_probability"]


def test_extrapolated_rows_carry_the_label_of_what_they_are_extrapolated_from(finished: RunResult) -> None:
    for stage in stages(finished)[1:]:
        chosen = {row["id"]: row["label"] for row in rows_of(stage / "extrapolated.jsonl")}
        for row in rows_of(stage / "synthetic.jsonl"):
            assert row["label"] == chosen[row["origin"]["error"]]


@pytest.mark.parametrize("rows_per_error", [1, 100])
def test_rows_predicted_right_are_extrapolated_only_where_errors_are_too_few(
    task: Task, tiny_bert: Path, tmp_path: Path, rows_per_error: int
) -> None:
    cap = 1.5 if rows_per_error == 1 else 0.01
    changes = {"label_check": False, "with_gold": False}
    result = start(task, tiny_bert, tmp_path / "run", rounds=1, rows_per_error=rows_per_error, error_cap=cap, **changes)
    before, stage = stages(result)
    chosen, synthesis = rows_of(stage / "extrapolated.jsonl"), result.summary.rounds[1].synthesis
    assert len({row["id"] for row in chosen}) == len(chosen)
    missed = {row["id"] for row in rows_of(before / "errors.jsonl")}
    wanted = math.ceil((synthesis.kept + synthesis.shortfall) / rows_per_error)
    right = [row for row in chosen if row["id"] not in missed]
    assert all(row["predicted"] == row["label"] for row in right)
    if rows_per_error == 1:
        assert right and len(chosen) <= wanted
    else:  # each label has one row at least
        assert not {row["label"] for row in right} & {row["label"] for row in chosen if row["id"] in missed}
    if cap < 1:
        assert max(Counter(row["label"] for row in chosen).values()) == 1
        assert max(Counter(row["label"] for row in rows_of(before / "errors.jsonl")).values()) > 1
    weights = dict.fromkeys(task.label_names, 0.0) | Counter(row["label"] for row in chosen)
    quotas = divide_rows(synthesis.kept + synthesis.shortfall, weights, 0.5)
    assert all(synthesis.kept_per_label[label] <= count for label, count in quotas.items())
    assert result.summary.rows + synthesis.shortfall == 24


def test_no_label_has_less_than_half_its_fair_share_of_a_round(finished: RunResult) -> None:
    for entry in finished.summary.rounds:
        wanted = entry.synthesis.kept + entry.synthesis.shortfall
        counts = entry.synthesis.kept_per_label
        assert entry.synthesis.shortfall == 0
        assert min(counts.values()) >= wanted // len(counts) // 2


def test_a_student_that_errs_on_one_label_alone_does_not_end_the_run_and_the_other_label_is_extrapolated_too(
    task: Task, tiny_bert: Path, tmp_path: Path
) -> None:
    """The seed's texts are in another style than dev for one label, which a student could take for the label."""

    def lopsided(request: Request) -> str:
        text = write(request)
        is_seed = "- " not in request.prompt
        return f"dear sir {text}" if is_seed and "that praise" in request.prompt else text

    result = start(task, tiny_bert, tmp_path / "run", lambda: FakeTeacher(lopsided), rounds=2, rows=48)
    assert len(result.summary.rounds) == 3
    assert sum(entry.synthesis.kept for entry in result.summary.rounds) == 48
    for number in (1, 2):
        extrapolated = [row["label"] for row in rows_of(result.folder / f"round-{number}" / "extrapolated.jsonl")]
        assert set(extrapolated) == set(task.label_names)


def test_a_finished_run_asks_the_teacher_nothing_more(task: Task, tiny_bert: Path, finished: RunResult) -> None:
    Stopping.left = 0
    again = start(task, tiny_bert, finished.folder, lambda: Stopping(write), **WHOLE)
    assert again.summary == finished.summary


def test_the_machine_is_recorded(finished: RunResult) -> None:
    assert json.loads((finished.folder / "config.json").read_text())["machine"]["processor"] == cpu_name()


def test_other_settings_in_the_same_folder_are_refused(task: Task, tiny_bert: Path, finished: RunResult) -> None:
    with pytest.raises(RunError, match=r"settings\.rows: was 24, now 25"):
        start(task, tiny_bert, finished.folder, rows=25, **WHOLE)


def test_a_run_that_was_begun_with_other_prompts_is_refused(
    task: Task, tiny_bert: Path, finished: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {**TEMPLATES["list"][task.kind], "seed": Template("Write $texts.")}
    monkeypatch.setitem(TEMPLATES["list"], task.kind, changed)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="whose prompts or files are not the same"):
        start(task, tiny_bert, finished.folder, **WHOLE)


def test_a_teacher_that_writes_nothing_usable_ends_in_one_clear_error(
    task: Task, tiny_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"not one of .* texts passed the checks \(.*\d.*\)"):
        start(task, tiny_bert, tmp_path / "run", lambda: FakeTeacher(lambda _: "!!!"))


def test_the_teacher_is_closed_before_a_student_trains(watched: Watched) -> None:
    assert watched.open_while_training and not any(watched.open_while_training)
    assert watched.teachers and all(teacher.closed for teacher in watched.teachers)


def test_the_selected_model_predicts_what_the_run_says(finished: RunResult, task: Task) -> None:
    assert task.test is not None
    test = rows_of(task.test)
    predicted = finished.classifier().predict([row["text"] for row in test])
    right = sum(guess == row["label"] for guess, row in zip(predicted, test, strict=True))
    assert right / len(test) == pytest.approx(score_of(test_scores(finished)[finished.summary.selected]))


def test_a_script_that_the_student_cannot_read_is_told_before_anything_is_written(
    tmp_path: Path, tiny_bert: Path
) -> None:
    class Listening(Silent):
        said: list[str] = []  # noqa: RUF012

        def say(self, message: str) -> None:
            self.said.append(message)

    def no_teacher() -> FakeTeacher:
        raise RuntimeError("asked")

    task = make_task(tmp_path / "task")
    rows = [{"id": f"d{n}", "text": "好吃" * n, "label": ("positive", "negative")[n % 2]} for n in range(3, 13)]
    task.dev.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    chosen = settings(tiny_bert)
    models = find_models(chosen, teacher=no_teacher, embedder=BagOfWords())
    with pytest.raises(RuntimeError, match="asked"):
        run(task, chosen, folder=tmp_path / "run", models=models, progress=Listening())
    assert "does not know 100% of dev's word pieces" in Listening.said[0]
