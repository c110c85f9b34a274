"""Export a trained student to ONNX, and check that it gives the same predictions.

The folder holds ``config.json`` and the tokenizer as transformers and optimum read them, ``model.onnx`` in 32 bits,
``model_int8.onnx`` if it passed its checks, and ``s3local.json`` for ``Classifier.load``. The graph is not fused:
onnxruntime optimises it when it opens the file, and was slower with both.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.exceptions import ModelError, StorageError
from s3local.hardware import int8_is_exact
from s3local.records import Example
from s3local.storage import replace_durably, translated_errors
from s3local.student.agreement import ExportReport, Form, compare_forms, loses
from s3local.student.body import layers
from s3local.student.inference import FP32_FILE, META_FILE, PADDING, Classifier
from s3local.student.training import Floats, Trained, TrainedStudent

INT8_FILE = "model_int8.onnx"
LOGIT_TOLERANCE = 1e-3
LABEL_AGREEMENT = 0.99
QUANTISED_OPERATIONS = ("MatMul", "Gemm")
SMOOTHING = 0.75
"""How far peaks are moved from activations to weights: alpha of SmoothQuant. It is above the paper's 0.5, because
weights have a scale for each output channel here."""


def export(
    student: TrainedStudent, folder: Path, examples: Sequence[Example], temperature: float = 1.0
) -> ExportReport:
    """Write the student to ``folder`` as ONNX in 32 bits and, if it passes its checks, in 8 bits.

    ``examples`` are gold rows, such as dev; the checks and the 8-bit scales use them. The 32-bit file must give
    PyTorch's logits within ``LOGIT_TOLERANCE``. The 8-bit file must give the 32-bit file's label for
    ``LABEL_AGREEMENT`` of the rows, and must not be wrong on significantly more of them (see ``loses``). In front of
    the second feed-forward matrix, single tokens have very large activations. So this matrix stays in 32 bits: first
    that of the lowest layer, and if a check fails, those of half of the layers; else the 8-bit file is left out.
    ``temperature`` divides the logits in ``Classifier``, see ``fit_temperature``.
    The folder appears complete or not at all, and replaces an earlier exported student.
    Raises ``ModelError`` if the 32-bit check fails, ``StorageError`` if ``folder`` holds something else or cannot be
    written, ``ValueError`` for no examples.
    """
    gold = np.array([student.labels.index(example.label) for example in examples])

    def form(logits: Floats) -> Form:
        labels = logits.argmax(axis=1)
        return Form(logits, labels, labels == gold)

    def opened(part: Path, file: str) -> Floats:
        return Classifier.load(part, file=file).logits(examples)

    meta = {"labels": student.labels, "temperature": temperature}
    kind = StudentKind("text-classification", meta, form, opened)
    return export_checked(student, folder, examples, kind, temperature)


@dataclass(frozen=True)
class StudentKind:
    """What the export of one kind of student needs.

    ``onnx_task`` is optimum's name of the task, ``meta`` are the entries of s3local.json for this kind alone. ``form``
    interprets logits, ``opened`` computes the logits of the examples with an ONNX file in a folder.
    """

    onnx_task: str
    meta: Mapping[str, Any]
    form: Callable[[Floats], Form]
    opened: Callable[[Path, str], Floats]


def export_checked(
    student: Trained, folder: Path, examples: Sequence[Example], kind: StudentKind, temperature: float
) -> ExportReport:
    """Export a student of any ``kind``; see ``export``."""
    if not examples:
        raise ValueError("an export is checked on labelled rows; there are none")
    if folder.exists() and not (folder / META_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"cannot write {folder}: it holds something else than an exported student")

    def write_meta(part: Path, file: str) -> None:
        own = {
            "fields": student.fields,
            "max_length": student.settings.max_length,
            PADDING: student.model.config.pad_token_id,
            "file": file,
        }
        whole = {**kind.meta, **own, "int8_full_range": int8_is_exact()}
        (part / META_FILE).write_text(json.dumps(whole, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def write(part: Path) -> ExportReport:
        model, logits = smoothed(student, examples)
        write_onnx(model, part, kind.onnx_task)
        student.tokenizer.save_pretrained(part)
        write_meta(part, FP32_FILE)
        fp32_form = kind.form(kind.opened(part, FP32_FILE))
        fp32 = compare_forms(kind.form(logits), fp32_form)
        if fp32.largest_difference > LOGIT_TOLERANCE:
            raise ModelError(
                f"the exported student differs from PyTorch's by up to {fp32.largest_difference:.2g} in a logit, "
                f"more than {LOGIT_TOLERANCE}; nothing was written"
            )
        matrices = second_matrices(model.base_model)
        for kept_layers in (1, math.ceil(len(matrices) / 2)):
            quantise(part, matrices[:kept_layers])
            int8_form = kind.form(kind.opened(part, INT8_FILE))
            int8 = compare_forms(fp32_form, int8_form)
            passed = int8.labels >= LABEL_AGREEMENT and not loses(fp32_form.right, int8_form.right)
            if passed:
                break
        if passed:
            note = f"second feed-forward matrix of the first {kept_layers} of {len(matrices)} layers kept in 32 bits"
            write_meta(part, INT8_FILE)
        else:
            (part / INT8_FILE).unlink()
            note = (
                f"left out: {int8.labels:.1%} of {int8.n_rows} rows keep their prediction ({LABEL_AGREEMENT:.0%} "
                f"belong there), {int8.accuracy_before:.1%} right become {int8.accuracy:.1%}"
            )
        sizes = {path.name: path.stat().st_size for path in sorted(part.glob("*.onnx"))}
        return ExportReport(INT8_FILE if passed else FP32_FILE, fp32, int8, passed, note, temperature, sizes)

    with translated_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            report = write(part)
            replace_durably(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return report


def write_onnx(model: Any, folder: Path, task: str) -> None:
    """Write ``model.onnx``, with variable batch size and length, and ``config.json``; ``task`` as optimum names it."""
    from optimum.exporters.onnx import export as export_to_onnx
    from optimum.exporters.tasks import TasksManager

    family = model.config.model_type
    with _quiet("optimum"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, about code that is not ours
        constructor = TasksManager.get_exporter_config_constructor(
            "onnx", model_type=family, task=task, library_name="transformers"
        )
        export_to_onnx(model, constructor(model.config, task=task), folder / FP32_FILE)
    model.config.save_pretrained(folder)


@contextlib.contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Hide a library's warnings inside the block."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _SmoothedLinear(torch.nn.Module):  # type: ignore[misc]
    """A linear layer whose input channels are divided by a scale that its weights are multiplied by."""

    def __init__(self, linear: Any, peaks: Any) -> None:
        super().__init__()
        tiny = 1e-5
        weight_peaks = linear.weight.detach().abs().amax(dim=0).clamp(min=tiny)
        scale = peaks.clamp(min=tiny) ** SMOOTHING / weight_peaks ** (1 - SMOOTHING)
        self.inverse = torch.nn.Parameter(1 / scale)
        self.linear = copy.deepcopy(linear)
        with torch.no_grad():
            self.linear.weight.mul_(scale)

    def forward(self, states: Any) -> Any:
        return self.linear(states * self.inverse)


def smoothed(student: Trained, examples: Sequence[Example]) -> tuple[Any, Floats]:
    """A copy of the model whose activations are easier to quantise, and the original's logits on ``examples``.

    A few input channels of a layer have far larger values than the rest, and would set the quantisation step for all.
    Their peaks on ``examples`` are divided out of the activations and multiplied into the weights; the copy computes
    the same function.
    Source: Xiao et al., "SmoothQuant", 2023, equation 4. There the scale is merged into the layer before, which
    residual connections after the layer norm do not allow.
    """
    model = copy.deepcopy(student.model)
    linears = [
        (layer, name, module)
        for layer in layers(model.base_model)
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    peaks: dict[Any, Any] = {}

    def note_peaks(linear: Any, inputs: Any) -> None:
        seen = inputs[0].abs().flatten(0, -2).amax(dim=0)
        peaks[linear] = torch.maximum(peaks.get(linear, seen), seen)

    hooks = [linear.register_forward_pre_hook(note_peaks) for _, _, linear in linears]
    logits = dataclasses.replace(student, model=model).predict_logits(examples)
    for hook in hooks:
        hook.remove()
    for layer, name, linear in linears:
        parent, _, own_name = name.rpartition(".")
        setattr(layer.get_submodule(parent), own_name, _SmoothedLinear(linear, peaks[linear]))
    return model, logits


def second_matrices(model: Any) -> list[NDArray[np.float32]]:
    """The weights (out, in) of the second feed-forward matrix of each layer: its last linear module."""
    last = [
        [module for module in layer.modules() if isinstance(module, torch.nn.Linear)][-1] for layer in layers(model)
    ]
    return [linear.weight.detach().numpy() for linear in last]


def nodes_with(graph: Any, matrices: Sequence[NDArray[np.float32]]) -> list[str]:
    """The names of the nodes of an ONNX graph that multiply by one of ``matrices`` (out, in)."""
    from onnx import numpy_helper

    weights = {weight.name: weight for weight in graph.initializer}
    names = []
    for node in graph.node:
        if node.op_type in QUANTISED_OPERATIONS and node.input[1] in weights:
            weight = numpy_helper.to_array(weights[node.input[1]])
            if any(np.array_equal(weight, matrix.T) or np.array_equal(weight, matrix) for matrix in matrices):
                names.append(node.name)
    return names


def quantise(folder: Path, kept: Sequence[NDArray[np.float32]]) -> None:
    """Write ``INT8_FILE``: weight matrices in 8 bits, activations quantised dynamically.

    The matrices ``kept`` (out, in) stay in 32 bits, and so do the embeddings: quantising those makes the file smaller,
    but not faster, and costs agreement.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnxruntime.quantization import QuantType, quantize_dynamic

    excluded = nodes_with(onnx.load(folder / FP32_FILE).graph, kept)
    try:
        with _quiet(""):
            quantize_dynamic(
                folder / FP32_FILE,
                folder / INT8_FILE,
                op_types_to_quantize=list(QUANTISED_OPERATIONS),
                nodes_to_exclude=excluded,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=not int8_is_exact(),
            )
    except DecodeError as exc:  # onnx writes a copy of the model on the way, and does not notice a full disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from exc
