"""Folds of gold rows, so that no row is judged by a model that learned from it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

NO_FOLD = -1
"""The fold of a row that is never held out."""


def divide_into_folds(
    labels: Sequence[str], n_folds: int, seed: int, groups: Sequence[Hashable] | None = None
) -> NDArray[np.int64]:
    """The fold of each row (n_rows,), stratified by label; ``NO_FOLD`` for the only row of a label.

    So the rows outside of a fold hold every label. Rows of the same group in ``groups`` (n_rows,), such as questions on
    one context, share a fold; a group is stratified by the label of its first row. No fold is empty: there may be fewer
    than ``n_folds``, and none if no label has two rows. Raises ``ValueError`` for fewer than one fold.
    """
    if n_folds < 1:
        raise ValueError(f"there is one fold at least, got {n_folds}")
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(range(len(labels)) if groups is None else groups):
        members.setdefault(group, []).append(place)
    units = list(members.values())
    units_of: dict[str, list[int]] = {}
    for number, places in enumerate(units):
        units_of.setdefault(labels[places[0]], []).append(number)
    spread = [mine for mine in units_of.values() if len(mine) > 1]
    n_folds = min(n_folds, sum(map(len, spread)))
    generator = np.random.default_rng(seed)
    fold_of_unit = np.full(len(units), NO_FOLD, dtype=np.int64)
    begin = 0
    for mine in spread:
        fold_of_unit[generator.permutation(mine)] = (begin + np.arange(len(mine))) % n_folds
        begin += len(mine)
    fold_of = np.empty(len(labels), dtype=np.int64)
    for fold, places in zip(fold_of_unit, units, strict=True):
        fold_of[places] = fold
    if groups is not None:  # a label whose groups all fell into one fold would be missing outside of it
        for label in sorted(set(labels)):
            mine = [place for place, own in enumerate(labels) if own == label]
            if len(set(fold_of[mine].tolist())) == 1:
                for places in units:
                    if set(places) & set(mine):
                        fold_of[places] = NO_FOLD
    inside = fold_of != NO_FOLD
    fold_of[inside] = np.unique(fold_of[inside], return_inverse=True)[1]  # a fold may have become empty
    return fold_of
