"""How two forms of one student agree: PyTorch with ONNX, 32 bits with 8 bits.

Needs numpy only, so that reports and results can be read where torch is not installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOSS_SIGNIFICANCE = 0.05
"""Significance level of the sign test in ``loses``."""


@dataclass(frozen=True)
class Form:
    """The output of one form of a student for labelled rows.

    ``logits`` has one line for each row (for each token of a window, where answers are found), ``outcomes`` (n_rows,)
    holds the predicted label or answer, ``right`` (n_rows,) says which of them are correct.
    """

    logits: NDArray[np.float32]
    outcomes: NDArray[Any]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """How one form of a student compares with another on the same ``n_rows`` labelled rows.

    ``labels`` is the share of rows with the same label or answer, ``largest_difference`` the largest difference
    between two logits, ``accuracy_before`` and ``accuracy`` are the shares of correct rows of the two forms.
    """

    n_rows: int
    labels: float
    largest_difference: float
    accuracy_before: float
    accuracy: float


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and the result of its checks. ``dataclasses.asdict`` gives plain JSON values.

    ``file`` is the ONNX file that ``Classifier.load`` opens. ``fp32`` compares onnxruntime with PyTorch, ``int8``
    the 8-bit file with the 32-bit file. ``int8_passed`` says whether the 8-bit file was kept, ``int8_note`` how it
    was made or why it was left out. ``bytes`` are the sizes of the ONNX files.
    """

    file: str
    fp32: Agreement
    int8: Agreement
    int8_passed: bool
    int8_note: str
    temperature: float
    bytes: dict[str, int]


def compare_forms(before: Form, after: Form) -> Agreement:
    """The agreement of two forms on the same rows."""
    return Agreement(
        n_rows=len(before.right),
        labels=float((before.outcomes == after.outcomes).mean()),
        largest_difference=float(np.abs(before.logits - after.logits).max()),
        accuracy_before=float(before.right.mean()),
        accuracy=float(after.right.mean()),
    )


def loses(right_before: NDArray[np.bool_], right_after: NDArray[np.bool_]) -> bool:
    """Whether significantly more rows turned wrong than right: a one-sided sign test at ``LOSS_SIGNIFICANCE``.

    Both arrays, (n_rows,), say which rows are correct.
    """
    lost, gained = int((right_before & ~right_after).sum()), int((right_after & ~right_before).sum())
    changed = lost + gained
    as_bad = sum(math.comb(changed, number) for number in range(lost, changed + 1))
    return as_bad < LOSS_SIGNIFICANCE * 2.0**changed
