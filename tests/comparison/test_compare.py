"""Laws of a comparison, on the scripted teacher: one budget, shared work, resumable, honest about what is missing."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from kinds_world import pair_task
from small_world import make_task, settings, toy_models, write
from toys import SETTINGS

from s3local.comparison import compare as module
from s3local.comparison.cells import CellComputer
from s3local.comparison.compare import CompareResult, CompareSettings, compare
from s3local.exceptions import InputError, RunError, S3LocalError
from s3local.progress import Advance, Silent, ignore
from s3local.results import CellResult, CompareSummary, RunSummary, read_result
from s3local.runner.settings import RunSettings
from s3local.task.model import Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Completion, Request, Teacher

METHODS = ("gold", "probe", "teacher", "zerogen", "goldgen", "s3", "s3-no-ees", "s3+gold", "goldgen+gold")
SIZES = (6, 12)
QUICK = dataclasses.replace(SETTINGS, passes=64)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_task(tmp_path_factory.mktemp("toy"))


class Recording(FakeTeacher):
    """Notes each call's requests for all teachers together, and dies like a killed process after ``left`` calls."""

    calls: list[tuple[Request, ...]] = []  # noqa: RUF012
    left: int | None = None

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        if Recording.left is not None:
            if Recording.left == 0:
                raise KeyboardInterrupt
            Recording.left -= 1
        Recording.calls.append(tuple(requests))
        return super().generate(requests, advance)


def start(
    task: Task,
    body: Path,
    folder: Path,
    *,
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = (0,),
    gold: Sequence[int] = SIZES,
    teacher: Callable[[], Teacher] = lambda: FakeTeacher(write),
    **changes: object,
) -> CompareResult:
    chosen = CompareSettings(
        tuple(methods), tuple(seeds), tuple(gold), run=settings(body, **{"training": QUICK, **changes})
    )
    return compare(task, chosen, folder=folder, models=toy_models(chosen.run, teacher))


@pytest.fixture(scope="module")
def whole(task: Task, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> CompareResult:
    """A comparison that was never interrupted."""
    Recording.calls.clear()
    Recording.left = None
    return start(task, tiny_bert, tmp_path_factory.mktemp("whole") / "c", teacher=lambda: Recording(write))


def cells_of(result: CompareResult) -> dict[tuple[str, int | None, int], CellResult]:
    """The cells without their times."""
    return {
        (cell.method, cell.seed, cell.gold_rows): dataclasses.replace(cell, seconds=0) for cell in result.summary.cells
    }


def test_every_method_has_its_cells(whole: CompareResult) -> None:
    found = Counter(cell.method for cell in whole.summary.cells)
    once = {"zerogen": 1, "teacher-zero-shot": 1}  # they use no gold, so that one cell serves both sizes
    twice = dict.fromkeys(set(METHODS) - {"teacher", "zerogen"} | {"teacher-few-shot"}, 2)
    assert found == {**once, **twice}
    assert read_result(whole.folder / "compare.json", CompareSummary) == whole.summary


def test_all_that_generate_have_the_same_rows_or_say_what_is_missing(whole: CompareResult) -> None:
    for (method, _, _), cell in cells_of(whole).items():
        if method in ("gold", "probe", "teacher-zero-shot", "teacher-few-shot"):
            assert cell.synthetic_rows == cell.shortfall == 0
        else:
            assert cell.rounds[-1].rows == cell.synthetic_rows
            assert cell.synthetic_rows + cell.shortfall == 24
            if method in ("zerogen", "goldgen", "s3-no-ees"):
                assert cell.shortfall == 0 and len(cell.rounds) == 1


def test_every_round_has_its_gap(whole: CompareResult) -> None:
    for cell in whole.summary.cells:
        for entry in cell.rounds:
            assert entry.gap.auc is not None and entry.gap.coverage is not None
            assert 0 <= entry.gap.auc <= 1 and 0 <= entry.gap.coverage <= 1


def test_only_what_is_called_so_has_seen_gold(whole: CompareResult) -> None:
    for folder in (whole.folder / "runs").iterdir():
        result = read_result(folder / "result.json", RunSummary)
        gold = int(folder.name.split("-gold")[1].split("-")[0])
        assert (result.final_without_gold or result.final).training.rows == result.rows
        assert (result.final_without_gold is not None) == folder.name.startswith(("s3-gold", "goldgen"))
        if result.final_without_gold is not None:
            assert result.final.training.rows == result.rows + gold
        assert (result.label_check.judges.outcome == "off") is folder.name.startswith("zerogen")


def test_nothing_is_asked_of_the_teacher_twice_and_the_seed_is_shared(whole: CompareResult) -> None:
    assert len(Recording.calls) == len(set(map(repr, Recording.calls)))
    for size in SIZES:
        first = [
            whole.folder / "runs" / f"{run}-gold{size}-seed0" / "round-0/shards/0000.jsonl"
            for run in ("s3", "s3-no-ees")
        ]
        assert first[0].read_text() == first[1].read_text()


def test_cache_hits_are_noted_with_their_time(whole: CompareResult) -> None:
    events = (whole.folder / "runs/s3-no-ees-gold12-seed0/events.jsonl").read_text() + (
        whole.folder / "runs/s3-gold12-seed0/events.jsonl"
    ).read_text()
    assert '"cache hit"' in events


def test_no_student_is_left_behind(whole: CompareResult) -> None:
    assert not list(whole.folder.rglob("*.onnx"))


def test_predictions_give_the_accuracy_again(whole: CompareResult) -> None:
    for cell in whole.summary.cells:
        seed = "" if cell.seed is None else f"-seed{cell.seed}"
        path = whole.folder / "cells" / f"{cell.method}-gold{cell.gold_rows}{seed}" / "predictions.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert sum(row["label"] == row["predicted"] for row in rows) / len(rows) == cell.test_accuracy


def test_s3_is_tested_against_every_other_method_at_every_size(whole: CompareResult) -> None:
    tested = {(row.gold_rows, row.method) for row in whole.summary.comparisons}
    assert tested == {(row.gold_rows, row.method) for row in whole.summary.summary if row.method != "s3"}


@pytest.mark.parametrize("calls", [3])
def test_a_comparison_that_was_stopped_ends_as_one_that_was_not(
    task: Task, tiny_bert: Path, whole: CompareResult, tmp_path: Path, calls: int
) -> None:
    chosen = {"methods": ("gold", "goldgen", "s3", "s3+gold"), "gold": (12,)}
    Recording.left = calls
    try:
        with pytest.raises(KeyboardInterrupt):
            start(task, tiny_bert, tmp_path / "c", teacher=lambda: Recording(write), **chosen)  # type: ignore[arg-type]
    finally:
        Recording.left = None
    resumed = cells_of(start(task, tiny_bert, tmp_path / "c", **chosen))  # type: ignore[arg-type]
    assert resumed == {key: cell for key, cell in cells_of(whole).items() if key in resumed}
    assert len(resumed) == 4


def test_a_finished_comparison_computes_nothing_again(
    task: Task, tiny_bert: Path, whole: CompareResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CellComputer, "compute", None)
    again = start(task, tiny_bert, whole.folder, gold=(12,))
    assert cells_of(again).items() <= cells_of(whole).items()


def test_other_settings_in_the_same_folder_are_refused(task: Task, tiny_bert: Path, whole: CompareResult) -> None:
    with pytest.raises(RunError, match=r"settings\.rows: was 24, now 30"):
        start(task, tiny_bert, whole.folder, rows=30)


def test_what_cannot_be_compared_is_said(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(S3LocalError, match=r"unknown method 's4'; known are gold, "):
        CompareSettings(methods=("s4",))
    with pytest.raises(S3LocalError, match="unknown method 'teacher'"):
        CompareSettings(reference="teacher")
    with pytest.raises(InputError, match="12 rows, but 13 gold rows"):
        start(task, tiny_bert, tmp_path / "c", gold=(13,))
    with pytest.raises(InputError, match="1 gold rows cannot show"):
        start(task, tiny_bert, tmp_path / "c", gold=(1,))
    with pytest.raises(InputError, match="needs test rows"):
        start(task.model_copy(update={"test": None}), tiny_bert, tmp_path / "c")
    with pytest.raises(ValueError, match="without rounds"):
        RunSettings(extrapolate="dev")
    with pytest.raises(ValueError, match="with_gold must be true"):
        RunSettings(with_gold=False, both_finals=True)
    assert not (tmp_path / "c").exists()


def test_an_absent_setfit_is_left_out_with_a_line(
    task: Task, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_setfit", lambda: False)
    result = start(task, tiny_bert, tmp_path / "c", methods=("probe", "setfit"), gold=(12,))
    assert "setfit" in result.summary.skipped
    assert {cell.method for cell in result.summary.cells} == {"probe"}
    with pytest.raises(S3LocalError, match="nothing is left to compare"):
        start(task, tiny_bert, tmp_path / "d", methods=("setfit",), gold=(12,))


def test_the_time_left_is_told_once_every_method_that_waits_was_timed(
    task: Task, tiny_bert: Path, tmp_path: Path
) -> None:
    lines: list[str] = []

    class Noting(Silent):
        def say(self, message: str) -> None:
            lines.append(message)

    chosen = CompareSettings(("probe", "gold"), (0, 1), (6,), run=settings(tiny_bert, training=QUICK))
    models = toy_models(chosen.run, lambda: FakeTeacher(write))
    compare(task, chosen, folder=tmp_path / "c", models=models, progress=Noting())
    assert [" left" in line for line in lines if line.startswith("cell ")] == [False, False, True, True]


def test_pairs_have_no_s3_without_rationales(tiny_bert: Path, tmp_path: Path) -> None:
    methods = ("probe", "s3-no-rationale")
    result = start(pair_task(tmp_path / "pairs"), tiny_bert, tmp_path / "c", methods=methods, gold=(6,))
    assert list(result.summary.skipped) == ["s3-no-rationale"]
    assert {cell.method for cell in result.summary.cells} == {"probe"}


def test_zerogen_is_asked_for_without_contrast_only_where_it_has_one(
    task: Task, tiny_bert: Path, tmp_path: Path
) -> None:
    asked: list[Request] = []

    class Noting(FakeTeacher):
        def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
            asked.extend(requests)
            return super().generate(requests, advance)

    methods = ("zerogen", "zerogen-no-contrast")
    start(task, tiny_bert, tmp_path / "c", methods=methods, gold=(12,), teacher=lambda: Noting(write))
    assert {request.contrast is None for request in asked} == {True, False}

    plain = start(task, tiny_bert, tmp_path / "d", methods=methods, gold=(12,), contrast=0.0)
    assert list(plain.summary.skipped) == ["zerogen-no-contrast"]
    assert {cell.method for cell in plain.summary.cells} == {"zerogen"}


def test_known_cells_are_not_computed_again(task: Task, tiny_bert: Path, whole: CompareResult, tmp_path: Path) -> None:
    chosen = CompareSettings(("gold", "probe"), (0,), SIZES, run=settings(tiny_bert))
    models = toy_models(chosen.run)
    known = [dataclasses.replace(cell, seconds=1234.5) for cell in whole.summary.cells]
    again = compare(task, chosen, folder=tmp_path / "c", models=models, known=known)
    assert again.summary.cells == tuple(cell for cell in known if cell.method in ("gold", "probe"))


def test_what_a_server_cannot_do_is_left_out_with_a_line(task: Task, tiny_bert: Path) -> None:
    chosen = CompareSettings(methods=("gold", "teacher", "zerogen-no-contrast"), run=settings(tiny_bert))
    behind_server = dataclasses.replace(toy_models(chosen.run), can_contrast=False, can_score=False)
    methods, skipped = module._available(task, chosen, behind_server)
    assert [method.name for method in methods] == ["gold"]
    assert set(skipped) == {"teacher-zero-shot", "teacher-few-shot", "zerogen-no-contrast"}
    assert "log-probabilities" in skipped["teacher-few-shot"]
