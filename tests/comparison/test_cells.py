"""Draws of gold rows: nested, balanced, and all rows of a rare label."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
from small_world import make_task

from s3local.comparison.cells import Cell, choose_gold, draw_gold
from s3local.comparison.methods import METHODS
from s3local.records import Example
from s3local.task.rows import load_dev


def test_a_method_without_gold_or_seed_has_one_cell_for_all() -> None:
    cells = {Cell.of(METHODS["teacher-zero-shot"], seed, size) for seed in (0, 1) for size in (6, 12)}
    assert [str(cell) for cell in cells] == ["teacher-zero-shot"]
    assert len({Cell.of(METHODS["zerogen"], seed, size) for seed in (0, 1) for size in (6, 12)}) == 2
    assert len({Cell.of(METHODS["s3"], seed, size).folder for seed in (0, 1) for size in (6, 12)}) == 4


def test_gold_draws_are_nested_and_balanced(tmp_path: Path) -> None:
    dev = load_dev(make_task(tmp_path))
    for seed in range(5):
        draws = {size: draw_gold(dev, size, seed) for size in range(2, len(dev) + 1)}
        for size, rows in draws.items():
            counts = Counter(row.label for row in rows)
            assert len(rows) == size and max(counts.values()) - min(counts.values()) <= 1
            assert {row.id for row in draws.get(size - 1, [])} <= {row.id for row in rows}
            assert rows == [row for row in dev if row in rows]
        assert draws[len(dev)] == dev
    assert {row.id for row in draw_gold(dev, 4, 0)} != {row.id for row in draw_gold(dev, 4, 1)}


def test_a_rare_label_gives_all_its_rows_and_the_others_the_rest() -> None:
    dev = [Example(f"e{n}", {"text": "x"}, "rare" if n < 2 else "common") for n in range(30)]
    assert Counter(row.label for row in draw_gold(dev, 10, 0)) == {"rare": 2, "common": 8}


def test_chosen_rows_do_not_depend_on_labels(tmp_path: Path) -> None:
    dev = load_dev(make_task(tmp_path))
    vectors = np.random.default_rng(0).normal(size=(len(dev), 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for size in (3, 6, len(dev) // 2):
        chosen = choose_gold(dev, vectors, size, 1)
        assert len(chosen) == size == len({row.id for row in chosen})
        assert chosen == [row for row in dev if row in chosen]
        other = [dataclasses.replace(row, label="other") for row in dev]
        assert [row.id for row in choose_gold(other, vectors, size, 1)] == [row.id for row in chosen]
