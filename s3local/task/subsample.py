"""``data draw``: a random sample of rows, by a seed, balanced over labels if that is wanted.

Rows are drawn as they are, with all their columns, and need no task. Knows nothing of models or runs.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3local.allocation import share_out
from s3local.exceptions import InputError
from s3local.records import write_jsonl
from s3local.task.rows import read_rows


def draw_rows(pool: Path, count: int, seed: int, *, label_column: str | None = None) -> list[dict[str, Any]]:
    """``count`` rows of a .jsonl, .csv or .tsv file, in its order; the same ones for the same ``seed``.

    With ``label_column``, as many of each label; what a label has too few rows for goes to the others, and what
    cannot be divided to the labels with the most rows. Rows are shuffled once and taken from the front, so that
    without ``label_column`` a smaller sample is part of a larger one.
    Raises ``InputError`` if there are fewer than ``count`` rows, or one without a label.
    """
    numbered = list(read_rows(pool))
    if len(numbered) < count:
        raise InputError(pool, f"{count:,} rows were asked for, found {len(numbered):,}")
    order = np.random.default_rng(seed).permutation(len(numbered)).tolist()
    if label_column is None:
        return [numbered[place][1] for place in sorted(order[:count])]
    labels = [_label(row, label_column, pool, line) for line, row in numbered]
    left = share_out(count, Counter(labels))
    drawn = []
    for place in order:
        if left[labels[place]] > 0:
            left[labels[place]] -= 1
            drawn.append(place)
    return [numbered[place][1] for place in sorted(drawn)]


def write_drawn(rows: Sequence[Mapping[str, Any]], target: Path | None) -> None:
    """Write rows as JSON Lines, None: to standard output. Raises ``InputError`` for another ending than .jsonl."""
    if target is None:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    if target.suffix.lower() != ".jsonl":
        raise InputError(target, "drawn rows are JSON Lines; the name of a file that ends in .jsonl belongs here")
    write_jsonl(target, rows)


def _label(row: Mapping[str, Any], column: str, pool: Path, line: int) -> str:
    value = row.get(column)
    if value is None or not isinstance(value, str | int | float) or (isinstance(value, str) and not value.strip()):
        found = ", ".join(map(str, row)) or "nothing"
        problem = f"no label in the column {column!r}, found {found}; name another column with --label-column"
        raise InputError(pool, problem, line=line)
    return value if isinstance(value, str) else json.dumps(value)
