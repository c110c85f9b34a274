"""Laws of a whole run, on the scripted teacher: reproducible, resumable, accounted for, and blind to test labels."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_world import BagOfWords, make_task, settings, test_scores, toy_models, write

from s3local.allocation import divide_rows
from s3local.exceptions import RunError
from s3local.hardware import cpu_name
from s3local.progress import Advance, Silent, ignore
from s3local.records import read_jsonl
from s3local.results import score_of
from s3local.runner.loop import RunResult, _Loop, run
from s3local.runner.models import find_models
from s3local.runner.state import RunFolder
from s3local.storage import sha256_of
from s3local.student.inference import Classifier
from s3local.task.model import Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Completion, Request


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_task(tmp_path_factory.mktemp("toy"))


def start(
    task: Task,
    body: Path,
    folder: Path,
    teacher: Callable[[], FakeTeacher] = lambda: FakeTeacher(write),
    **changes: object,
) -> RunResult:
    chosen = settings(body, **changes)
    return run(task, chosen, folder=folder, models=toy_models(chosen, teacher))


@pytest.fixture(scope="module")
def whole(task: Task, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run that was never interrupted."""
    return start(task, tiny_bert, tmp_path_factory.mktemp("whole") / "run")


def rows(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def stages(result: RunResult) -> list[Path]:
    return sorted(result.folder.glob("round-*"))


def test_every_text_of_the_teacher_is_kept_or_dropped_with_a_reason(whole: RunResult) -> None:
    for stage in stages(whole):
        written = sum(len(rows(path)) for path in (stage / "shards").glob("*.jsonl"))
        kept, dropped = rows(stage / "synthetic.jsonl"), rows(stage / "dropped.jsonl")
        assert len(kept) + len(dropped) == written
        assert len({row["id"] for row in kept + dropped}) == written
        assert all(row["reason"] and isinstance(row["score"], float) for row in dropped)


def test_the_dataset_has_the_rows_asked_for_and_all_labels_in_the_seed(whole: RunResult) -> None:
    dataset = rows(whole.dataset)
    asked = sum(
        sum(json.loads((stage / "synthesis.json").read_text())["kept_per_label"].values()) for stage in stages(whole)
    )
    assert len(dataset) == asked == whole.summary.rows
    seed = json.loads((whole.folder / "round-0" / "synthesis.json").read_text())["kept_per_label"]
    assert len(set(seed.values())) == 1


@pytest.mark.parametrize(("n_rows", "seed_share"), [(1, 0.4), (9, 1.0)])
def test_no_more_rows_than_asked_for_come_to_training(
    task: Task, tiny_bert: Path, tmp_path: Path, n_rows: int, seed_share: float
) -> None:
    result = start(task, tiny_bert, tmp_path / "run", rows=n_rows, seed_share=seed_share, label_check=False)
    assert result.summary.rows == n_rows


def test_no_more_texts_than_allowed_are_asked_for(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    result = start(task, tiny_bert, tmp_path / "run", rows=10, attempts=1, rounds=0, label_check=False)
    assert result.summary.rounds[0].synthesis.requests == 10


def test_no_synthetic_row_is_a_gold_row(task: Task, whole: RunResult) -> None:
    gold = {row["text"] for path in (task.dev, task.test) if path for row in rows(path)}
    assert not gold & {row["text"] for row in rows(whole.dataset)}


def test_no_filter_is_left_out(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    assert task.test is not None
    dev, test = (rows(path)[0]["text"] for path in (task.dev, task.test))
    said = [dev, f"so {dev} it was", test, "x", "the film was good and the plot of the story quite fine"]

    def dirty(request: Request) -> str:
        place = request.seed % 8
        return f"{said[place]}\n" if place < len(said) else write(request)

    result = start(
        task,
        tiny_bert,
        tmp_path / "run",
        lambda: FakeTeacher(dirty),
        rows=8,
        rounds=0,
        rationales=0,
        label_check=False,
        with_gold=False,
    )
    reasons = {row["reason"] for row in rows(result.folder / "round-0" / "dropped.jsonl")}
    assert {"copies_gold", "overlaps_dev", "copies_test", "too_short", "exact_duplicate"} <= reasons
    texts = [row["text"] for row in rows(result.dataset)]
    assert len(set(texts)) == len(texts) and not set(said[:4]) & set(texts)


def test_the_errors_are_the_rows_predicted_wrong(whole: RunResult) -> None:
    for stage in stages(whole):
        predicted, errors = rows(stage / "predictions.jsonl"), rows(stage / "errors.jsonl")
        assert [row["id"] for row in errors] == [row["id"] for row in predicted if row["predicted"] != row["label"]]
        for row in errors:
            assert row["predicted"] != row["label"]
            assert row["predicted_probability"] >= row["own_probability"]


def test_what_the_teacher_is_asked_is_in_the_origin(whole: RunResult) -> None:
    for stage in stages(whole):
        for path in (stage / "shards").glob("*.jsonl"):
            for origin in (row["origin"] for row in rows(path)):
                assert origin["against"]
                if "error" in origin:
                    assert len(origin["shots"]) == 4 and origin["error"] not in origin["shots"]
                else:
                    assert origin["rationales"]


@pytest.mark.parametrize(
    ("seen", "errors", "over"),
    [
        ([0.5], 1, False),
        ([0.5, 0.5], 1, False),
        ([0.5, 0.36], 1, False),
        ([0.5, 0.35], 1, True),
        ([0.9, 0.5, 0.55], 1, True),
        ([1.0], 0, True),
    ],
)
def test_a_run_ends_where_a_round_is_worse_beyond_chance(seen: list[float], errors: int, over: bool) -> None:
    loop: Any = SimpleNamespace(
        kept=[], settings=SimpleNamespace(rows=9), dev=[0] * 12, kind=SimpleNamespace(headline="accuracy")
    )
    entries: Any = [
        SimpleNamespace(student=SimpleNamespace(dev=SimpleNamespace(accuracy=accuracy), errors=errors))
        for accuracy in seen
    ]
    assert _Loop._is_over(loop, entries) is over


def test_a_student_is_as_sure_as_its_figures_say(whole: RunResult) -> None:
    for student in (whole.summary.rounds[-1].student, whole.summary.final):
        assert Classifier.load(whole.folder / student.stage / "student").temperature == student.temperature
    assert whole.summary.final.temperature == 1.0


def test_extrapolated_rows_carry_the_label_of_what_they_are_extrapolated_from(whole: RunResult) -> None:
    for stage in stages(whole)[1:]:
        chosen = {row["id"]: row["label"] for row in rows(stage / "extrapolated.jsonl")}
        for row in rows(stage / "synthetic.jsonl"):
            assert row["label"] == chosen[row["origin"]["error"]]


@pytest.mark.parametrize("rows_per_error", [1, 100])
def test_rows_predicted_right_are_extrapolated_only_where_errors_are_too_few(
    task: Task, tiny_bert: Path, tmp_path: Path, rows_per_error: int
) -> None:
    cap = 1.5 if rows_per_error == 1 else 0.01
    result = start(task, tiny_bert, tmp_path / "run", rounds=1, rows_per_error=rows_per_error, error_cap=cap)
    before, stage = stages(result)
    chosen = rows(stage / "extrapolated.jsonl")
    assert len({row["id"] for row in chosen}) == len(chosen)
    missed = {row["id"] for row in rows(before / "errors.jsonl")}
    synthesis = json.loads((stage / "synthesis.json").read_text())
    wanted = math.ceil((synthesis["kept"] + synthesis["shortfall"]) / rows_per_error)
    right = [row for row in chosen if row["id"] not in missed]
    assert all(row["predicted"] == row["label"] for row in right)
    assert bool(right) == (rows_per_error == 1)
    assert not right or len(chosen) <= wanted
    if cap < 1:
        assert max(Counter(row["label"] for row in chosen).values()) == 1
        assert max(Counter(row["label"] for row in rows(before / "errors.jsonl")).values()) > 1
    quotas = divide_rows(synthesis["kept"] + synthesis["shortfall"], Counter(row["label"] for row in chosen))
    assert all(synthesis["kept_per_label"][label] <= count for label, count in quotas.items())
    assert result.summary.rows + synthesis["shortfall"] == 24


def test_the_dataset_says_how_probable_each_label_is(task: Task, whole: RunResult) -> None:
    for row in rows(whole.dataset):
        probabilities = row["origin"]["probabilities"]
        assert list(probabilities) == list(task.label_names)
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-3)
        assert probabilities[row["label"]] == max(probabilities.values())
        assert row["origin"]["asked"] in task.label_names


def test_without_a_label_check_the_teachers_labels_stand(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    plain = start(task, tiny_bert, tmp_path / "run", label_check=False, rounds=1)
    written = [row for stage in stages(plain) for row in rows(stage / "synthetic.jsonl")]
    assert rows(plain.dataset) == written
    assert plain.summary.final.temperature == plain.summary.rounds[-1].student.temperature
    assert not list(plain.folder.rglob("judge-*"))


def test_the_same_seed_gives_the_same_dataset_and_another_seed_another(
    task: Task, tiny_bert: Path, whole: RunResult, tmp_path: Path
) -> None:
    again = start(task, tiny_bert, tmp_path / "again")
    other = start(task, tiny_bert, tmp_path / "other", seed=1, rounds=0, rows=10)  # as many as the seed of the whole
    assert again.summary.dataset_sha256 == whole.summary.dataset_sha256 == sha256_of(again.dataset)
    assert test_scores(again) == test_scores(whole)
    first, second = (
        [row["text"] for row in rows(result.folder / "round-0" / "shards" / "0000.jsonl")] for result in (whole, other)
    )
    assert len(first) == len(second) and first != second
    assert len({result.summary.rounds[0].student.training.seed for result in (whole, other)}) == 2


class Stopping(FakeTeacher):
    """Dies like a killed process, before its n-th call is answered."""

    left = 0

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        if Stopping.left == 0:
            raise KeyboardInterrupt
        Stopping.left -= 1
        return super().generate(requests, advance)


def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_dataset(
    task: Task, tiny_bert: Path, whole: RunResult, tmp_path: Path
) -> None:
    """One call of the teacher a sitting: each is asked for once, and none again."""
    sittings = 0
    while True:
        Stopping.left = 1
        try:
            resumed = start(task, tiny_bert, tmp_path / "run", lambda: Stopping(write))
            break
        except KeyboardInterrupt:
            sittings += 1
    shards = [path for stage in stages(whole) for path in (stage / "shards").glob("*.jsonl")]
    assert sittings == len(shards)  # with the rationales, one call more; the last sitting ends
    assert resumed.summary.dataset_sha256 == whole.summary.dataset_sha256
    assert test_scores(resumed) == test_scores(whole)


def test_a_finished_run_asks_the_teacher_nothing_more(task: Task, tiny_bert: Path, whole: RunResult) -> None:
    Stopping.left = 0
    again = start(task, tiny_bert, whole.folder, lambda: Stopping(write))
    assert again.summary == whole.summary


def test_the_loop_does_not_see_the_labels_of_test(
    task: Task, tiny_bert: Path, whole: RunResult, tmp_path: Path
) -> None:
    flipped = start(make_task(tmp_path / "task", flip_test=True), tiny_bert, tmp_path / "run")
    assert flipped.summary.dataset_sha256 == whole.summary.dataset_sha256
    for stage, metrics in test_scores(whole).items():
        assert score_of(test_scores(flipped)[stage]) == pytest.approx(1 - score_of(metrics))


def test_other_settings_in_the_same_folder_are_refused_by_name(task: Task, tiny_bert: Path, whole: RunResult) -> None:
    with pytest.raises(RunError, match=r"settings\.rows: was 24, now 25"):
        start(task, tiny_bert, whole.folder, rows=25)


def test_another_machine_is_recorded_and_may_go_on(
    task: Task, tiny_bert: Path, whole: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = json.loads((whole.folder / "config.json").read_text())["machine"]
    assert recorded["processor"] == cpu_name()
    monkeypatch.setattr("s3local.runner.models.cpu_name", lambda: "another processor")
    assert start(task, tiny_bert, whole.folder).summary == whole.summary


def test_a_run_that_was_killed_before_its_first_file_was_whole_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".config.json.17.part").write_text("{")
    with RunFolder.open(tmp_path, {"settings": {}}):
        assert (tmp_path / "config.json").is_file()
    (tmp_path / "config.json").unlink()
    (tmp_path / "letter.txt").write_text("not a run")
    with pytest.raises(RunError, match="holds other files"), RunFolder.open(tmp_path, {}):
        pass


def test_two_runs_cannot_share_a_folder(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path / "run", {"settings": {}}),
        pytest.raises(RunError, match="another s3local is working"),
        RunFolder.open(tmp_path / "run", {"settings": {}}),
    ):
        pass


def test_a_teacher_that_writes_nothing_usable_ends_in_one_clear_error(
    task: Task, tiny_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"not one of .* texts passed the checks"):
        start(task, tiny_bert, tmp_path / "run", lambda: FakeTeacher(lambda _: "!!!"))


def test_the_teacher_is_closed_before_a_student_trains(
    task: Task, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3local.runner import task_kinds

    teachers: list[FakeTeacher] = []
    open_while_training = []

    def opener() -> FakeTeacher:
        teachers.append(FakeTeacher(write))
        return teachers[-1]

    def watched(*args: object, **kwargs: object) -> object:
        open_while_training.append(sum(not teacher.closed for teacher in teachers))
        return train(*args, **kwargs)  # type: ignore[arg-type]

    train = task_kinds.train
    monkeypatch.setattr(task_kinds, "train", watched)
    start(task, tiny_bert, tmp_path / "run", opener)
    assert open_while_training and not any(open_while_training)
    assert all(teacher.closed for teacher in teachers)


def test_the_final_model_predicts_what_the_run_says(whole: RunResult, task: Task) -> None:
    assert task.test is not None
    test = rows(task.test)
    predicted = whole.classifier().predict([row["text"] for row in test])
    right = sum(guess == row["label"] for guess, row in zip(predicted, test, strict=True))
    assert right / len(test) == pytest.approx(score_of(test_scores(whole)["final"]))


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
