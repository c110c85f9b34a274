"""Turn a trained reader into a folder that runs on onnxruntime, and check that it answers the same.

The folder is the one that ``export.py`` writes for a classifier, with ``s3local.json`` for ``Reader.load``.
Knows nothing of runs, tasks or teachers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError
from s3local.hardware import int8_is_exact
from s3local.records import Example
from s3local.student.export import (
    INT8_FILE,
    LABEL_AGREEMENT,
    LOGIT_TOLERANCE,
    Agreement,
    ExportReport,
    loses,
    quantise,
    smoothed,
    write_folder,
    write_onnx,
)
from s3local.student.inference import FP32_FILE, META_FILE
from s3local.student.reader import KIND, Reader, as_question
from s3local.student.reader_training import TrainedReader
from s3local.student.windows import best_spans


def export_reader(student: TrainedReader, folder: Path, examples: Sequence[Example]) -> ExportReport:
    """Write the reader to ``folder`` as ONNX in 32 bits and, if it passes, 8 bits.

    ``examples`` are real rows with answers, such as dev: the checks and the 8-bit scales use them. The checks are
    those of ``export``, with the answer of a row in the place of its label, right if it is word for word one of the
    row's own. A report's temperature is always 1.
    Raises as ``export`` does.
    """
    return write_folder(folder, examples, lambda part: _write(student, part, examples))


def _write(student: TrainedReader, folder: Path, examples: Sequence[Example]) -> ExportReport:
    model, reference = smoothed(student, examples)
    write_onnx(model, folder, "question-answering")
    student.tokenizer.save_pretrained(folder)
    _write_meta(student, folder, FP32_FILE)
    fp32_logits = _logits(Reader.load(folder), examples)
    expected = _answers(student, reference, examples)
    fp32_answers = _answers(student, fp32_logits, examples)
    fp32 = _compare(reference, fp32_logits, expected, fp32_answers, examples)
    if fp32.largest_difference > LOGIT_TOLERANCE:
        raise ModelError(
            f"the exported student differs from PyTorch's by up to {fp32.largest_difference:.2g} in a logit, "
            f"more than {LOGIT_TOLERANCE}; nothing was written"
        )
    layers = student.model.config.n_layers
    for kept_layers in (1, math.ceil(layers / 2)):
        quantise(folder, kept_layers)
        int8_logits = _logits(Reader.load(folder, file=INT8_FILE), examples)
        int8_answers = _answers(student, int8_logits, examples)
        int8 = _compare(fp32_logits, int8_logits, fp32_answers, int8_answers, examples)
        passed = int8.labels >= LABEL_AGREEMENT and not loses(
            _right(fp32_answers, examples), _right(int8_answers, examples)
        )
        if passed:
            break
    if passed:
        note = f"second feed-forward matrix of the first {kept_layers} of {layers} layers kept in 32 bits"
        _write_meta(student, folder, INT8_FILE)
    else:
        (folder / INT8_FILE).unlink()
        note = (
            f"left out: {int8.labels:.1%} of {int8.n_rows} rows keep their answer ({LABEL_AGREEMENT:.0%} belong "
            f"there), {int8.accuracy_before:.1%} right become {int8.accuracy:.1%}"
        )
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.onnx"))}
    return ExportReport(INT8_FILE if passed else FP32_FILE, fp32, int8, passed, note, 1.0, sizes)


def _write_meta(student: TrainedReader, folder: Path, file: str) -> None:
    meta = {
        "kind": KIND,
        "fields": student.fields,
        "max_length": student.settings.max_length,
        "file": file,
        "int8_full_range": int8_is_exact(),
    }
    (folder / META_FILE).write_text(json.dumps(meta, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _logits(reader: Reader, examples: Sequence[Example]) -> NDArray[np.float32]:
    """(n_tokens of all windows, 2), as ``TrainedReader.predict_logits`` gives them."""
    return np.concatenate(reader.logits(reader.windows(examples)))


def _answers(student: TrainedReader, logits: NDArray[Any], examples: Sequence[Example]) -> list[str]:
    windows = student.windows(examples)
    ends = np.cumsum([len(window.ids) for window in windows])[:-1]
    spans = best_spans(windows, np.split(logits, ends), [as_question(row)[0] for row in examples])
    return [answer.text for answer, _ in spans]


def _right(answers: Sequence[str], examples: Sequence[Example]) -> NDArray[np.bool_]:
    pairs = zip(answers, examples, strict=True)
    return np.array([answer in {own.text for own in row.answers} for answer, row in pairs])


def _compare(
    before: NDArray[Any],
    after: NDArray[Any],
    answers_before: Sequence[str],
    answers: Sequence[str],
    examples: Sequence[Example],
) -> Agreement:
    return Agreement(
        n_rows=len(examples),
        labels=float(np.mean([one == other for one, other in zip(answers_before, answers, strict=True)])),
        largest_difference=float(np.abs(before - after).max()),
        accuracy_before=float(_right(answers_before, examples).mean()),
        accuracy=float(_right(answers, examples).mean()),
    )
