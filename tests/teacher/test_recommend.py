"""Estimates of teachers: more memory never fits fewer, a larger file never takes less time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.teacher.recommend import ROWS, TOKENS_PER_ROW, estimate, measure_speed, recommended
from s3local.weights.manifest import Model, WeightFile, load_manifest

MODELS = list(load_manifest().values())
EMBEDDED = MODELS[0]


def teacher(name: str, size: int, memory: float, style: str = "chat") -> Model:
    files = (WeightFile(path="m.gguf", size=size),)
    return Model(id=name, roles=("teacher",), licence="MIT", files=files, memory_gb=memory, prompt_style=style)  # type: ignore[arg-type]


def test_minutes_follow_from_speed_size_and_contrast() -> None:
    small, list_style, large = teacher("a", 100, 1), teacher("b", 100, 1, "list"), teacher("c", 400, 3)
    found = estimate([large, list_style, small], small, ROWS * TOKENS_PER_ROW / 60, memory=2 * 10**9)
    assert [(entry.model.id, entry.fits, round(entry.minutes, 6)) for entry in found] == [
        ("a", True, 1.0), ("b", True, 2.0), ("c", False, 4.0),
    ]  # fmt: skip


@given(st.floats(1, 10_000), st.integers(0, 10**11), st.integers(0, 10**11), st.floats(1, 10_000))
def test_more_memory_and_more_time_never_recommend_a_smaller_one(
    speed: float, memory: int, more: int, minutes: float
) -> None:
    before = estimate(MODELS, EMBEDDED, speed, memory)
    after = estimate(MODELS, EMBEDDED, speed, memory + more)
    assert [entry.model.id for entry in before] == [entry.model.id for entry in after]
    assert all(entry.fits <= later.fits for entry, later in zip(before, after, strict=True))
    first, second = recommended(before, minutes), recommended(after, 2 * minutes)
    if first is not None:
        assert first.fits and first.minutes <= minutes
        assert second is not None and (second.model.size or 0) >= (first.model.size or 0)


def test_nothing_fits_no_memory() -> None:
    assert recommended(estimate(MODELS, EMBEDDED, 100.0, 0), 10**9) is None


def test_only_teachers_are_estimated() -> None:
    assert {entry.model.id for entry in estimate(MODELS, EMBEDDED, 1.0, 1)} == {
        model.id for model in MODELS if "teacher" in model.roles
    }


def test_the_speed_of_the_embedded_teacher_is_measured(model_path: Path) -> None:
    assert measure_speed(model_path, texts=2) > 0


def test_a_model_without_a_size_measures_nothing() -> None:
    nothing = Model(id="x", roles=("student",), licence="MIT", files=(WeightFile(path="a"),))
    with pytest.raises(ValueError, match="no size"):
        estimate(MODELS, nothing, 1.0, 1)
