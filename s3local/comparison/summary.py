"""The summary of a comparison's cells: each method over its seeds, and the reference method against every other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.comparison.cells import Cell
from s3local.comparison.methods import METHODS, Method
from s3local.comparison.significance import Right, compare_pair, in_words, mean_interval, spread
from s3local.results import CellResult, MethodComparison, MethodSummary


def summarise(
    cells: Mapping[Cell, CellResult], methods: Sequence[Method], sizes: Sequence[int], seeds: Sequence[int]
) -> list[MethodSummary]:
    """Mean, spread and interval of each method over its seeds, for each number of gold rows."""
    return [
        _summary(method, size, [cells[cell] for cell in dict.fromkeys(Cell.of(method, seed, size) for seed in seeds)])
        for size in sizes
        for method in methods
    ]


def compare_all(
    cells: Mapping[Cell, CellResult], methods: Sequence[Method], sizes: Sequence[int], seeds: Sequence[int], name: str
) -> list[MethodComparison]:
    """The method ``name`` against every other one, for each number of gold rows; nothing if it has no cells."""
    reference = METHODS[name]
    if reference not in methods:
        return []
    return [
        _comparison(
            reference,
            method,
            size,
            [(cells[Cell.of(reference, seed, size)], cells[Cell.of(method, seed, size)]) for seed in seeds],
        )
        for size in sizes
        for method in methods
        if method is not reference
    ]


def _summary(method: Method, size: int, cells: Sequence[CellResult]) -> MethodSummary:
    right: Right = np.array([marks[~np.isnan(marks)] == 1 for marks in map(_marks, cells)])
    accuracy, accuracy_std = spread([cell.test_accuracy for cell in cells])
    macro_f1, macro_f1_std = spread([cell.test_macro_f1 for cell in cells])
    low, high = mean_interval(right)
    return MethodSummary(
        gold_rows=size,
        method=method.name,
        meaning=method.meaning,
        seeds=len(cells),
        test_rows=cells[0].test_rows,
        synthetic_rows=spread([cell.synthetic_rows for cell in cells])[0],
        shortfall=spread([cell.shortfall for cell in cells])[0],
        accuracy=accuracy,
        accuracy_std=accuracy_std,
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=macro_f1,
        macro_f1_std=macro_f1_std,
        seconds=spread([cell.seconds for cell in cells])[0],
    )


def _comparison(
    reference: Method, method: Method, size: int, cells: Sequence[tuple[CellResult, CellResult]]
) -> MethodComparison:
    """The comparison on the test rows that both methods predicted with every seed."""
    pairs = [(_marks(first), _marks(second)) for first, second in cells]
    shared = ~np.isnan(pairs).any(axis=(0, 1))
    first, second = (np.array([pair[side][shared] == 1 for pair in pairs]) for side in (0, 1))
    found = compare_pair(first, second)
    return MethodComparison(
        **dataclasses.asdict(found),
        gold_rows=size,
        reference=reference.name,
        method=method.name,
        test_rows=int(shared.sum()),
        in_words=in_words(found, reference.name, method.name),
    )


def _marks(cell: CellResult) -> NDArray[np.float64]:
    """A cell's ``right`` as numbers (n_test,), NaN for rows that it did not predict."""
    return np.array([np.nan if mark == "-" else float(mark) for mark in cell.right])
