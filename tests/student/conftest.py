"""A trained student, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import LABELS, SETTINGS, reviews

from s3local.student.training import TrainedStudent, train


@pytest.fixture(scope="session")
def tiny_student(tiny_bert: Path) -> TrainedStudent:
    return train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1)
