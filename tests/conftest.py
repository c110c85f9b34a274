"""What many tests share: bodies of students that train in a second, and where the real models and data lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tiny_body import write_tiny_bert
from toys import LABELS, SETTINGS, Exported, reviews

from s3local.student.export import export
from s3local.student.training import TrainedStudent, train

CHECKOUT = Path(__file__).parents[1]

settings.register_profile("no deadline", deadline=None)  # a loaded machine is no failure
settings.load_profile("no deadline")
torch.set_num_threads(1)  # the toys are too small to share


@pytest.fixture(scope="session")
def minilm() -> Path:
    folder = CHECKOUT / "models" / "all-minilm-l6-v2"
    if not (folder / "model.safetensors").exists():
        pytest.skip("needs the embedded models: models/all-minilm-l6-v2 is absent")
    return folder


@pytest.fixture(scope="session")
def mpnet() -> Path:
    folder = CHECKOUT / "models" / "all-mpnet-base-v2"
    if not (folder / "model.safetensors").exists():
        pytest.skip("needs the larger encoder: models/all-mpnet-base-v2 is absent")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT-shaped body."""
    return write_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def tiny_student(tiny_bert: Path) -> TrainedStudent:
    """A student that has learned ``reviews``. Tests share it: they may not change it."""
    return train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1)


@pytest.fixture(scope="session")
def exported(tiny_student: TrainedStudent, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``tiny_student`` in its ONNX folder, with temperature 2. Tests share it: they may not change it."""
    folder = tmp_path_factory.mktemp("exported") / "student"
    return Exported(folder, export(tiny_student, folder, reviews(), temperature=2.0))
