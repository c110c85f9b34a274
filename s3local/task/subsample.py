"""``data draw``: a sample of rows, at random or diverse, balanced over labels on request.

Rows keep all their columns and need no task.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from s3local.allocation import share_out
from s3local.exceptions import InputError
from s3local.labelling_tools import single_label
from s3local.records import Row, write_jsonl
from s3local.sources import Reading, Source, SourceRow, open_rows
from s3local.storage import refuse_same_file, standard_output
from s3local.text import composed, is_blank
from s3local.wording import listed, shown

Choose = Callable[[Sequence[str], int], Sequence[int]]
"""Takes texts and a number, and returns the places of that many of the texts, or of fewer."""

MOST_COMPARED = 10_000
"""Rows that a diverse sample is chosen from; of a larger file, a random sample of this many."""


def draw_file(
    pool: Path,
    target: Path | None,
    count: int,
    seed: int,
    *,
    label_column: str | None = None,
    reading: Reading | None = None,
    choose: Choose | None = None,
) -> int:
    """Write the rows of ``draw_rows`` to ``target`` as JSON Lines (None: to standard output); how many they are.

    Raises ``InputError`` as ``draw_rows`` does, and for a ``target`` that is not a .jsonl file or would replace
    ``pool``; ``StorageError`` if it cannot be written.
    """
    if target is not None:
        if target.suffix.lower() != ".jsonl":
            raise InputError(target, "drawn rows are JSON Lines; a file whose name ends in .jsonl belongs here")
        refuse_same_file(pool, target)
    rows = draw_rows(pool, count, seed, label_column=label_column, reading=reading, choose=choose)
    if target is not None:
        write_jsonl(target, rows)
    else:
        with standard_output() as stream:
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(rows)


def draw_rows(
    pool: Path,
    count: int,
    seed: int,
    *,
    label_column: str | None = None,
    reading: Reading | None = None,
    choose: Choose | None = None,
) -> list[Row]:
    """``count`` rows of a file of rows, in its order; the same ones for the same ``seed``.

    With ``label_column``, every label gets the same number of rows. Where a label has too few, the others get more;
    a remainder goes to the labels with the most rows. Rows are shuffled once and taken from the front, so that without
    ``label_column`` a smaller sample is part of a larger one, and leaves out rows that a labelling tool gave no single
    answer. ``reading`` says how the file is read. ``choose`` takes the place of chance: it gets the text of each of at
    most ``MOST_COMPARED`` random rows, of one label at a time if there is a ``label_column``.
    Raises ``InputError`` if there are fewer than ``count`` rows, or one without a label.
    """
    with open_rows(pool, reading) as source:
        rows = [row for row in source.rows if label_column is None or not row.unanswered]
    if len(rows) < count:
        raise InputError(pool, f"{count:,} rows were asked for, found {len(rows):,}")
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    if label_column is None:
        return [rows[place].values for place in sorted(_first(rows, order, count, choose, None))]
    labels = [_label(row, label_column, source) for row in rows]
    drawn: list[int] = []
    for label, wanted in share_out(count, Counter(labels)).items():
        mine = [place for place in order if labels[place] == label]
        drawn += _first(rows, mine, wanted, choose, label_column)
    return [rows[place].values for place in sorted(drawn)]


def _first(
    rows: Sequence[SourceRow], order: Sequence[int], count: int, choose: Choose | None, label_column: str | None
) -> list[int]:
    """``count`` of the places in ``order``: those that ``choose`` names, and then the first ones."""
    if choose is None or not count:
        return list(order[:count])
    compared = order[:MOST_COMPARED]
    texts = [text_of(rows[place].values, label_column) for place in compared]
    chosen = [compared[place] for place in choose(texts, count)]
    rest = [place for place in order if place not in set(chosen)]
    return (chosen + rest)[:count]


def text_of(row: Mapping[str, object], label_column: str | None) -> str:
    """What a row says: its texts without the label and the id, joined by line breaks."""
    return "\n".join(
        value for key, value in row.items() if isinstance(value, str) and key not in ("id", "label", label_column)
    )


def _label(row: SourceRow, column: str, source: Source) -> str:
    value, _ = single_label(row.values.get(column))
    if not isinstance(value, str | int | float) or (isinstance(value, str) and is_blank(value)):
        problem = f"no label in the column {shown(column)}, found {listed(list(row.values)) or 'nothing'}"
        raise source.error(f"{problem}; name another column with --label-column", row.number)
    return composed(value) if isinstance(value, str) else json.dumps(value)
