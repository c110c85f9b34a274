"""Parts of dev that are kept apart, so that no row is judged by what learned from it.

A synthetic text descends from the gold rows that its prompt showed. If those all lie in one fold, students that learn
from the texts of the other folds can judge that fold honestly. Knows nothing of students or texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def divide_into_folds(labels: Sequence[str], n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row (n_rows,), the rows of each label spread evenly; -1 for the only row of a label.

    So the rows outside a fold hold every label. There are at most as many folds as rows to spread, and all are -1 if
    no label has two rows. Raises ``ValueError`` for fewer than one fold.
    """
    if n_folds < 1:
        raise ValueError(f"there is one fold at least, got {n_folds}")
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    spread = {label: mine for label, mine in places.items() if len(mine) > 1}
    n_folds = min(n_folds, sum(map(len, spread.values())))
    chance = np.random.default_rng(seed)
    fold_of = np.full(len(labels), -1, dtype=np.int64)
    begin = 0
    for mine in spread.values():
        fold_of[chance.permutation(mine)] = (begin + np.arange(len(mine))) % n_folds
        begin += len(mine)
    return fold_of


def folds_of_descendants(ancestors: Iterable[Iterable[str]], fold_of: Mapping[str, int]) -> NDArray[np.int64]:
    """The fold of each text (n_texts,), given the ids of the gold rows that it descends from.

    It is theirs; a text without any, or with such as are in no fold, goes to each fold in turn.
    Raises ``ValueError`` for a text that descends from two folds.
    """
    n_folds = max(fold_of.values(), default=-1) + 1
    folds = []
    for turn, ids in enumerate(ancestors):
        found = {fold_of[name] for name in ids if fold_of.get(name, -1) >= 0}
        if len(found) > 1:
            raise ValueError(f"a text descends from the folds {sorted(found)}; its prompt may show one alone")
        folds.append(found.pop() if found else turn % max(n_folds, 1))
    return np.array(folds, dtype=np.int64)
