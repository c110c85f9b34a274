"""Export a trained reader to ONNX, and check that it gives the same answers.

The folder is like that of a classifier (export.py), with ``s3local.json`` for ``Reader.load``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s3local.records import Example
from s3local.student.agreement import ExportReport, Form
from s3local.student.export import StudentKind, export_checked
from s3local.student.reader import KIND, Reader
from s3local.student.reader_training import TrainedReader
from s3local.student.training import Floats


def export_reader(student: TrainedReader, folder: Path, examples: Sequence[Example]) -> ExportReport:
    """Write the reader to ``folder`` as ONNX in 32 bits and, if it passes its checks, in 8 bits.

    ``examples`` are gold rows with answers, such as dev; the checks and the 8-bit scales use them. The checks are those
    of ``export``, on answers instead of labels; an answer is correct if it equals one of the row's own. The report's
    temperature is 1. Raises as ``export`` does.
    """

    def form(logits: Floats) -> Form:
        answers = student.answers(examples, logits)
        pairs = zip(answers, examples, strict=True)
        right = np.array([answer in {own.text for own in row.answers} for answer, row in pairs])
        return Form(logits, np.array(answers, dtype=object), right)

    def opened(part: Path, file: str) -> Floats:
        reader = Reader.load(part, file=file)
        return np.concatenate(reader.logits(reader.windows(examples)))

    kind = StudentKind("question-answering", {"kind": KIND}, form, opened)
    return export_checked(student, folder, examples, kind, temperature=1.0)
