"""Export of readers: the ONNX file gives PyTorch's answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from toys import READER_SETTINGS, questions, write_body

from s3local.student.reader import Reader
from s3local.student.reader_export import export_reader
from s3local.student.reader_training import TrainedReader, train_reader


def test_onnx_answers_as_pytorch_does(reader: TrainedReader, exported_reader: Path) -> None:
    rows = [*questions(6, seed=7), *questions(4, seed=8, long=True)]
    opened = Reader.load(exported_reader, file="model.onnx")
    logits = np.concatenate(opened.logits(opened.windows(rows)))
    assert np.abs(logits - reader.predict_logits(rows)).max() < 1e-3
    assert opened.predict(rows) == reader.predict(rows)


@pytest.mark.parametrize("model_type", ["bert", "mpnet"])  # one graph with token types, one with another padding id
def test_other_bodies_read_too(model_type: str, tmp_path: Path) -> None:
    write_body(tmp_path / "body", model_type)
    student = train_reader(tmp_path / "body", questions(8, 1), dataclasses.replace(READER_SETTINGS, epochs=1), seed=1)
    report = export_reader(student, tmp_path / "student", questions(8, 2, long=True))
    assert report.fp32.labels == 1
    assert report.fp32.largest_difference < 1e-4
