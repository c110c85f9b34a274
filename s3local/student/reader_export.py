"""Turn a trained reader into a folder that runs on onnxruntime, and check that it answers the same.

The folder is the one that ``export.py`` writes for a classifier, with ``s3local.json`` for ``Reader.load``.
Knows nothing of runs, tasks or teachers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s3local.records import Example
from s3local.student.agreement import ExportReport, Form
from s3local.student.export import export_checked
from s3local.student.reader import KIND, Reader
from s3local.student.reader_training import TrainedReader
from s3local.student.training import Floats


def export_reader(student: TrainedReader, folder: Path, examples: Sequence[Example]) -> ExportReport:
    """Write the reader to ``folder`` as ONNX in 32 bits and, if it passes, 8 bits.

    ``examples`` are real rows with answers, such as dev: the checks and the 8-bit scales use them. The checks are
    those of ``export``, with the answer of a row in the place of its label, right if it is word for word one of the
    row's own. A report's temperature is always 1.
    Raises as ``export`` does.
    """

    def form(logits: Floats) -> Form:
        answers = student.answers(examples, logits)
        pairs = zip(answers, examples, strict=True)
        right = np.array([answer in {own.text for own in row.answers} for answer, row in pairs])
        return Form(logits, np.array(answers, dtype=object), right)

    def opened(part: Path, file: str) -> Floats:
        reader = Reader.load(part, file=file)
        return np.concatenate(reader.logits(reader.windows(examples)))

    return export_checked(student, folder, examples, "question-answering", {"kind": KIND}, form, opened, 1.0)
