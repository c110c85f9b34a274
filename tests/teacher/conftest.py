"""The embedded teacher, loaded once for all tests that need a real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from s3local.exceptions import ModelError
from s3local.teacher.engine import EngineSettings, LlamaTeacher
from s3local.weights.store import find_teacher

SMALL = EngineSettings(slots=6)


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The GGUF of the embedded teacher, the optimised one if there is one."""
    try:
        return find_teacher().path
    except ModelError as exc:
        pytest.skip(f"the embedded teacher is needed: {exc}")


@pytest.fixture(scope="session")
def teacher(model_path: Path) -> Iterator[LlamaTeacher]:
    """An engine with few slots, so that small tests keep all of them busy."""
    teacher = LlamaTeacher(model_path, SMALL)
    yield teacher
    teacher.close()
