"""Agreement: a sign test that forgives chance, and figures that can be read without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from s3local.student.agreement import Form, compare_forms, loses


def test_losing_rows_counts_only_beyond_chance() -> None:
    before = np.array([True] * 500 + [False] * 500)

    def after(lost: int, gained: int) -> np.ndarray:
        return np.array([False] * lost + [True] * (500 - lost + gained) + [False] * (500 - gained))

    assert not loses(before, before)
    assert not loses(before, after(4, 0))  # 1 in 16
    assert loses(before, after(5, 0))  # 1 in 32
    assert not loses(before, after(6, 5))
    assert not loses(before, after(0, 9))


def test_the_figures_compare_row_by_row() -> None:
    before = Form(np.float32([[2, 0], [1, 0], [0, 3], [1, 0]]), np.array([0, 0, 1, 0]), np.array([1, 0, 1, 1], bool))
    after = Form(np.float32([[2, 0], [0, 1], [0, 1], [1, 0]]), np.array([0, 1, 1, 0]), np.array([1, 1, 1, 1], bool))
    found = compare_forms(before, after)
    assert (found.n_rows, found.labels, found.largest_difference) == (4, 0.75, 2.0)
    assert (found.accuracy_before, found.accuracy) == (0.75, 1.0)


def test_torch_is_not_imported() -> None:
    program = "import sys, s3local.student.agreement; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
