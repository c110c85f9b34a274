"""A trained and an exported reader, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import READER_SETTINGS, questions

from s3local.student.reader_export import export_reader
from s3local.student.reader_training import TrainedReader, train_reader


@pytest.fixture(scope="session")
def reader(tiny_bert: Path) -> TrainedReader:
    return train_reader(tiny_bert, questions(160, seed=1), READER_SETTINGS, seed=1)


@pytest.fixture(scope="session")
def exported_reader(reader: TrainedReader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "reader"
    export_reader(reader, folder, questions(30, seed=2))
    return folder
