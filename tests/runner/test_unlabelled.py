"""Laws of unlabelled rows: they come first, no label takes more than its quota, and the teacher writes what is left."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_world import make_task, rows_of, settings, toy_models, write

from s3local.exceptions import InputError, RunError
from s3local.export.dataset import exported_rows
from s3local.finished_run import FinishedRun
from s3local.records import Candidate, is_unlabelled
from s3local.report.run_record import read_run
from s3local.runner.loop import RunResult, run
from s3local.runner.settings import RunSettings
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev, load_rows, load_unlabelled
from s3local.teacher.fake import FakeTeacher

WORDS = {"positive": ("good", "great", "fine"), "negative": ("bad", "awful", "poor")}


def unlabelled_texts(counts: dict[str, int]) -> list[str]:
    """Different reviews in the words of dev, with as many of each label as asked for."""
    chance = random.Random(3)
    labels = [label for label, n in counts.items() for _ in range(n)]
    return [f"i found number {100 + n} {chance.choice(WORDS[label])} in the end" for n, label in enumerate(labels)]


def task_with(folder: Path, texts: list[str]) -> Task:
    make_task(folder)
    (folder / "unlabelled.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return load_task(folder)


def ran(task: Task, body: Path, folder: Path, **changes: object) -> RunResult:
    chosen = settings(body, **changes)
    return run(task, chosen, folder=folder, models=toy_models(chosen))


def candidates(result: RunResult) -> list[Candidate]:
    return [Candidate.from_row(row) for row in rows_of(result.dataset)]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return task_with(tmp_path_factory.mktemp("pool"), unlabelled_texts({"positive": 60, "negative": 4}))


@pytest.fixture(scope="module")
def result(task: Task, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return ran(task, tiny_bert, tmp_path_factory.mktemp("with-pool") / "run", model_selection=True)


def test_the_rows_come_from_the_file_once_each_and_the_teacher_writes_the_rest(task: Task, result: RunResult) -> None:
    assert task.unlabelled is not None
    texts = Counter(fields["text"] for _, fields in load_unlabelled(task.unlabelled, task))
    real = Counter(row.text for row in candidates(result) if is_unlabelled(row))
    assert real and not real - texts and max(real.values()) == 1
    written = [row for row in candidates(result) if not is_unlabelled(row)]
    assert written, "the file has too few negative rows for their share"
    assert len(candidates(result)) == result.summary.rows == sum(entry.rows for entry in result.summary.rounds)


def test_no_label_takes_more_than_its_quota(result: RunResult) -> None:
    for entry in result.summary.rounds:
        assert entry.unlabelled is not None
        for label, taken in entry.unlabelled.taken_per_label.items():
            written = entry.synthesis.kept_per_label[label]
            assert taken + written <= (entry.rows + entry.synthesis.shortfall)
        rows = rows_of(result.folder / entry.stage / "unlabelled.jsonl")
        assert Counter(row["label"] for row in rows) == Counter(
            {label: n for label, n in entry.unlabelled.taken_per_label.items() if n}
        )
    first = result.summary.rounds[0]
    assert first.unlabelled is not None
    totals = {label: n + first.synthesis.kept_per_label[label] for label, n in first.unlabelled.taken_per_label.items()}
    assert len(set(totals.values())) == 1, "the seed has as many rows of each label"


def test_the_same_seed_takes_the_same_rows_and_a_stopped_run_goes_on(
    task: Task, tiny_bert: Path, tmp_path: Path, result: RunResult
) -> None:
    chosen, calls = settings(tiny_bert, model_selection=True), 0

    def stopping(request: object) -> str:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return write(request)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        run(task, chosen, folder=tmp_path / "run", models=toy_models(chosen, lambda: FakeTeacher(stopping)))
    again = ran(task, tiny_bert, tmp_path / "run", model_selection=True)
    assert again.summary.dataset_sha256 == result.summary.dataset_sha256


def test_copies_of_dev_and_test_and_what_is_out_of_scope_are_not_taken(tiny_bert: Path, tmp_path: Path) -> None:
    whole = make_task(tmp_path / "whole")
    assert whole.test is not None
    gold = [row.text for row in (*load_dev(whole), *load_rows(whole.test, whole))]
    strange = "quarterly tariffs concerning maritime insurance premiums were adjusted"
    texts = [*unlabelled_texts({"positive": 12, "negative": 12}), *gold, strange]
    task = task_with(tmp_path / "task", texts)
    finished = ran(task, tiny_bert, tmp_path / "run", rounds=0, generate=False, rows=40)
    found = {row.text for row in candidates(finished)}
    assert found and not found & {*gold, strange}
    dropped = rows_of(finished.folder / "unlabelled" / "dropped.jsonl")
    assert {row["text"] for row in dropped} == set(gold), "copies are dropped before anything is embedded"
    later = rows_of(finished.folder / "round-0" / "dropped-unlabelled.jsonl")
    assert strange in {row["text"] for row in later if row["reason"] == "out_of_scope"}


def test_without_a_teacher_none_is_opened(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    def refused() -> FakeTeacher:
        raise AssertionError("the teacher was opened")

    chosen = settings(tiny_bert, rounds=0, generate=False)
    finished = run(task, chosen, folder=tmp_path / "run", models=toy_models(chosen, refused))
    assert all(map(is_unlabelled, candidates(finished)))


def test_real_texts_stay_out_of_reports_and_exports(result: RunResult) -> None:
    real = {row.text for row in candidates(result) if is_unlabelled(row)}
    shown = {row.text for entry in read_run(result.folder).rounds for row in entry.kept}
    assert real and not real & shown
    run = FinishedRun.read(result.folder)
    exported = exported_rows(run, {})
    assert not real & {row["text"] for row in exported} and len(exported) == result.summary.rows - len(real)
    marked = {row["text"] for row in exported_rows(run, {}, real_texts=True) if row["method"] == "unlabelled"}
    assert marked == real


def test_where_judges_know_nothing_no_real_row_is_used(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    finished = ran(task, tiny_bert, tmp_path / "run", label_check=False, rounds=0)
    assert not any(map(is_unlabelled, candidates(finished)))
    chosen = settings(tiny_bert, generate=False, rounds=0)
    models = dataclasses.replace(toy_models(chosen), train_judges=Guessing)
    with pytest.raises(RunError, match="no rows can be had"):
        run(task, chosen, folder=tmp_path / "none", models=models)


class Guessing:
    """Judges that find all labels equally likely."""

    def __init__(
        self, _folder: Path, _rows: Any, labels: Any, _folds: Any, _settings: Any, seeds: Any, *_: Any
    ) -> None:
        self._shape = len(seeds), len(labels)

    def predict_proba(self, texts: Any, advance: Any = None) -> Any:
        return np.full((self._shape[0], len(texts), self._shape[1]), 1 / self._shape[1], np.float32)


def test_bad_files_and_settings_are_one_line(tmp_path: Path) -> None:
    task = task_with(tmp_path, ["fine"])
    assert task.unlabelled is not None
    task.unlabelled.write_text('{"text": "good"}\n{"words": "x"}\n')
    with pytest.raises(InputError, match=r"unlabelled\.jsonl, line 2"):
        list(load_unlabelled(task.unlabelled, task))
    with pytest.raises(InputError, match="test"):
        load_task(tmp_path, unlabelled=task.test)
    with pytest.raises(ValueError, match="without a teacher"):
        RunSettings(generate=False, label_check=False)
