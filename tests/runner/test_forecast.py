"""How long a run takes: its steps are planned as it takes them, and what is left follows from speeds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_world import make_task, settings, toy_models

from s3local.progress import Advance, ignore
from s3local.runner import forecast as module
from s3local.runner.forecast import Forecast, Measured, Stage, forecast, rows_of_rounds, speeds_of, stages_of
from s3local.runner.loop import run
from s3local.runner.settings import RunSettings
from s3local.task.model import load_task
from s3local.teacher.protocol import Teacher

CHECKOUT = Path(__file__).parents[2]


class Recorder:
    """A ``Progress`` that keeps the names and totals of all steps."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int | None]] = []

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        self.steps.append((name, total))
        yield ignore

    def say(self, message: str) -> None:
        pass


@pytest.mark.parametrize("changes", [{"model_selection": True, "size": "large"}, {"label_check": False}])
def test_the_stages_are_the_long_steps_of_a_run(tiny_bert: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    chosen = settings(tiny_bert, rows=12, rounds=1, **changes)
    task, recorder = make_task(tmp_path / "task"), Recorder()
    run(task, chosen, folder=tmp_path / "run", models=toy_models(chosen), progress=recorder)
    planned = [stage.step for stage in stages_of(task, chosen, 12) if stage.title != "averaged"]
    taken = [next((its for its in planned if name.startswith(its)), name) for name, _ in recorder.steps]
    words = ("writes", "train", "export", "cross-validation")
    long = [name for name in dict.fromkeys(taken) if any(word in name for word in words)]
    assert [name for name in long if "averaged" not in name] == [name for name in planned if "read" not in name]
    passes = {name: total for name, total in recorder.steps if "trains" in name or "cross-validation" in name}
    for stage in stages_of(task, chosen, 12):
        if stage.step in passes:
            assert stage.amount == pytest.approx(passes[stage.step], rel=0.2)


def encoder(folder: Path, width: int, layers: int) -> Path:
    folder.mkdir()
    config = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_demonstration_takes_as_long_as_the_readme_says(tmp_path: Path) -> None:
    """The speeds are what ``forecast`` measured on two idle cores of the README's machine before such a run."""
    chosen, task = RunSettings(rows=600), load_task(CHECKOUT / "data" / "support_desk")
    stages = stages_of(task, chosen, 84)
    speeds = speeds_of(
        Measured(tokens=521, passes=45, passes_alone=48, workers=2),
        chosen,
        text_tokens=33,
        contrast=True,
        body=encoder(tmp_path / "minilm", 384, 6),
        judge=encoder(tmp_path / "mpnet", 768, 12),
    )
    assert 490 / 1.2 < Forecast(stages, speeds).seconds_left < 490 * 1.2


@given(st.integers(1, 3000), st.integers(0, 6), st.floats(0.01, 1))
def test_rounds_share_the_rows(rows: int, rounds: int, seed_share: float) -> None:
    found = rows_of_rounds(RunSettings(rows=rows, rounds=rounds, seed_share=seed_share))
    assert sum(found) == rows
    assert 1 <= len(found) <= rounds + 1 and min(found) >= 1


def test_more_workers_and_larger_encoders_change_the_speeds_that_they_concern(tmp_path: Path) -> None:
    small, strong = encoder(tmp_path / "small", 384, 6), encoder(tmp_path / "strong", 768, 12)
    chosen = RunSettings()

    def speeds(workers: int, judge: Path) -> dict[str, float | None]:
        measured = Measured(None, 50, 30, workers)
        return dict(speeds_of(measured, chosen, text_tokens=30, contrast=False, body=small, judge=judge))

    one, two, four, eight = (speeds(workers, strong) for workers in (1, 2, 4, 8))
    for kind in ("students", "judges"):
        assert one[kind] < two[kind] < 2 * one[kind]  # workers slow each other down
        assert four[kind] == pytest.approx(2 * two[kind])
    assert eight["students"] == pytest.approx(2 * four["students"])
    assert eight["judges"] == four["judges"]  # there are four of them
    for kind in ("judges", "reading", "large"):
        assert speeds(1, small)[kind] > one[kind]  # type: ignore[operator]
    assert speeds(1, small)["judges"] == pytest.approx(30)  # it is the student's body, trained as a whole
    assert one["texts"] is None


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


STAGES = [
    Stage("round-0: the teacher writes", "texts", 100, "a"),
    Stage("round-0: the student trains", "student", 1000, "b"),
    Stage("round-1: the teacher writes", "texts", 100, "c"),
    Stage("round-1: exporting", "export", 1, "d"),
]


def begun() -> tuple[Forecast, Clock]:
    clock = Clock()
    return Forecast(STAGES, {"texts": 1.0, "student": 10.0, "export": 0.1}, clock), clock


def test_what_is_left_is_work_by_speed() -> None:
    expected, _ = begun()
    assert expected.seconds_left == pytest.approx(100 + 100 + 100 + 10)
    assert expected.share == 0 and expected.to_come == ["round-1"] and expected.is_whole


def test_a_speed_is_learned_for_the_stages_to_come() -> None:
    expected, clock = begun()
    with expected.step("round-0: the teacher writes, shard 1", 50) as advance:
        for _ in range(50):
            clock.now += 4
            advance(1)
    assert 0.25 < (expected.speed("texts") or 0) < 0.4  # a quarter of what was measured
    assert expected.seconds_left > 100 + 10 + 150 / 0.4
    assert expected.speed("student") == 10
    assert 0 < expected.share < 1


def test_a_later_step_ends_the_ones_before_it() -> None:
    expected, clock = begun()
    with expected.step("round-1: the teacher writes, shard 1", 100) as advance:
        clock.now += 100
        advance(100)
    assert expected.seconds_left == pytest.approx(10)
    assert expected.to_come == []
    with expected.step("round-1: exporting to ONNX", None):
        clock.now += 10
    assert expected.seconds_left == 0 and expected.share == 1


def test_time_passes_while_a_step_says_nothing() -> None:
    expected, clock = begun()
    with expected.step("round-1: exporting to ONNX", None):
        clock.now += 4
        assert expected.seconds_left == pytest.approx(6)
        clock.now += 100
        assert expected.seconds_left == 0


def test_a_step_that_is_not_planned_changes_nothing() -> None:
    expected, clock = begun()
    with expected.step("looking for duplicates", 10) as advance:
        clock.now += 1
        advance(10)
    assert expected.speed("texts") == 1 and expected.to_come == ["round-1"]


def test_a_kind_that_was_not_measured_counts_as_soon_as_something_of_it_is_done() -> None:
    clock = Clock()
    expected = Forecast(STAGES, {"texts": None, "student": 10.0, "export": 0.1}, clock)
    assert not expected.is_whole and expected.seconds_left == pytest.approx(110)
    with expected.step("round-0: the teacher writes, shard 1", 100) as advance:
        clock.now += 5
        advance(10)
    assert expected.is_whole and expected.seconds_left == pytest.approx(110 + 190 / 2)


def test_nothing_is_left_of_nothing() -> None:
    expected = Forecast([], {}, Clock())
    assert expected.seconds_left == 0 and expected.to_come == [] and expected.is_whole


def test_a_machine_is_measured_and_finished_stages_do_not_count(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.02)
    asked = list[Teacher]()

    def speed(teacher: Teacher) -> float:
        asked.append(teacher)
        return 100.0

    monkeypatch.setattr(module, "writing_speed", speed)
    chosen = settings(tiny_bert, rows=12, rounds=1)
    task, models = make_task(tmp_path / "task"), toy_models(chosen)
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    whole = forecast(task, chosen, models, 2, tmp_path / "run")
    assert whole.is_whole and whole.seconds_left > 0 and len(asked) == 1
    assert torch.equal(random, torch.get_rng_state()) and threads == torch.get_num_threads()
    for stage in stages_of(task, chosen, 12):
        if stage.kind != "export":
            (tmp_path / "run" / stage.marker).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "run" / stage.marker).touch()
    assert forecast(task, chosen, models, 2, tmp_path / "run").seconds_left == 0
    assert len(asked) == 1  # nothing is left for the teacher
