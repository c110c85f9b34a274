"""Drawn samples: as many as asked, balanced if asked, the same for the same seed, and untouched."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from s3local.exceptions import InputError
from s3local.records import read_jsonl
from s3local.sources import Reading
from s3local.task.subsample import draw_file, draw_rows, text_of

COUNTS = {"a": 50, "b": 30, "c": 4}


def pool(folder: Path, suffix: str = ".jsonl") -> Path:
    path = folder / f"pool{suffix}"
    rows = [(label, f"text {n}, of {label}") for label, count in COUNTS.items() for n in range(count)]
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label, "more": [1]}) + "\n" for label, text in rows))
    else:
        path.write_text("label,text\n" + "".join(f'{label},"{text}"\n' for label, text in rows))
    return path


def test_a_balanced_sample(tmp_path: Path) -> None:
    rows = draw_rows(pool(tmp_path), 30, 0, label_column="label")
    assert Counter(row["label"] for row in rows) == {"a": 13, "b": 13, "c": 4}
    assert rows == draw_rows(pool(tmp_path), 30, 0, label_column="label")
    assert rows != draw_rows(pool(tmp_path), 30, 1, label_column="label")
    assert rows[0]["more"] == [1]


def test_a_plain_sample_keeps_the_order_and_smaller_ones_are_part_of_it(tmp_path: Path) -> None:
    everything = [row for _, row in read_jsonl(pool(tmp_path))]
    small, large = draw_rows(pool(tmp_path), 10, 3), draw_rows(pool(tmp_path), 40, 3)
    assert len({row["text"] for row in small}) == 10
    assert [row for row in everything if row in large] == large
    assert all(row in large for row in small)


def test_tables_are_drawn_from_too(tmp_path: Path) -> None:
    rows = draw_rows(pool(tmp_path, ".csv"), 6, 0, label_column="label")
    assert Counter(row["label"] for row in rows) == {"a": 2, "b": 2, "c": 2}
    assert draw_file(pool(tmp_path, ".csv"), tmp_path / "out.jsonl", 6, 0, label_column="label") == 6
    assert [row for _, row in read_jsonl(tmp_path / "out.jsonl")] == rows


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="85 rows were asked for, found 84"):
        draw_rows(pool(tmp_path), 85, 0)
    with pytest.raises(InputError, match='line 1: no label in the column "topic", found "text", "label", "more"'):
        draw_rows(pool(tmp_path), 5, 0, label_column="topic")
    empty = tmp_path / "empty.csv"
    empty.write_text("label,text\na,one\n ,two\n")
    with pytest.raises(InputError, match='line 3: no label in the column "label"'):
        draw_rows(empty, 2, 0, label_column="label")
    with pytest.raises(InputError, match=r"ends in \.jsonl"):
        draw_file(pool(tmp_path), tmp_path / "out.csv", 5, 0)


def test_the_pool_is_never_replaced(tmp_path: Path) -> None:
    rows = pool(tmp_path)
    before = rows.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(rows)
    for target in (rows, tmp_path / "link.jsonl", tmp_path / ".." / tmp_path.name / rows.name):
        with pytest.raises(InputError, match="would replace the file that is read"):
            draw_file(rows, target, 5, 0)
    assert rows.read_bytes() == before


def test_a_table_with_another_separator_is_read(tmp_path: Path) -> None:
    table = tmp_path / "pool.csv"
    table.write_text("text;label\na, b;x\nc;y\n")
    assert draw_rows(table, 2, 0) == [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}]
    named = Reading(separator="|")
    assert draw_rows(table, 2, 0, reading=named) == [{"text;label": "a, b;x"}, {"text;label": "c;y"}]
    with pytest.raises(InputError, match="leave out --separator"):
        draw_rows(pool(tmp_path), 1, 0, reading=named)


def test_what_chooses_takes_the_place_of_chance_and_chance_fills_up(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def last_ones(texts: Sequence[str], count: int) -> list[int]:
        asked.append((len(texts), count))
        by_name = sorted(range(len(texts)), key=lambda place: int(texts[place].split()[1].rstrip(",")))
        return by_name[-min(count, 2) :]

    rows = draw_rows(pool(tmp_path), 30, 0, label_column="label", choose=last_ones)
    assert sorted(asked) == [(4, 4), (30, 13), (50, 13)]
    assert Counter(row["label"] for row in rows) == {"a": 13, "b": 13, "c": 4}
    texts = [row["text"] for row in rows]
    assert {"text 49, of a", "text 48, of a", "text 29, of b", "text 28, of b"} <= set(texts)
    assert len(set(texts)) == 30
    assert len(draw_rows(pool(tmp_path), 30, 0, choose=last_ones)) == 30


def test_the_label_is_no_part_of_what_a_row_says() -> None:
    row = {"id": "7", "text": "a storm", "place": "the coast", "kind": "rain", "rows": 3, "label": "x"}
    assert text_of(row, "kind") == "a storm\nthe coast"
