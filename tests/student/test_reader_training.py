"""Training of readers: the same seed gives the same reader, and bad rows are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from toys import READER_SETTINGS, questions, write_body

from s3local.exceptions import ModelError
from s3local.records import SPAN, Answer, Example
from s3local.student.reader_training import ReaderSettings, _shuffled_batches, train_reader


def test_the_same_seed_gives_the_same_reader_and_every_row_is_told(tiny_bert: Path) -> None:
    short = dataclasses.replace(READER_SETTINGS, epochs=2)
    counted: list[int] = []
    first, again = (
        train_reader(tiny_bert, questions(20, seed=1, long=True), short, seed=1, advance=counted.append) for _ in "12"
    )
    rows = questions(5, seed=5)
    assert np.array_equal(again.predict_logits(rows), first.predict_logits(rows))
    assert again.loss == first.loss
    assert sum(counted) == 2 * 2 * 20


def test_misuse_is_named(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        train_reader(tiny_bert, [], READER_SETTINGS, seed=1)
    bad = Example("b", {"context": "the film", "question": "the?"}, SPAN, (Answer("film", 0),))
    with pytest.raises(ValueError, match="'b' has no answer that stands in its context"):
        train_reader(tiny_bert, [bad], READER_SETTINGS, seed=1)
    with pytest.raises(ModelError, match="reads 64 tokens"):
        train_reader(tiny_bert, questions(2, 1), ReaderSettings(max_length=65), seed=1)


def test_modern_bert_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    write_body(tmp_path, "modernbert")
    with pytest.raises(ModelError, match="'modernbert' cannot be exported"):
        train_reader(tmp_path, questions(2, 1), READER_SETTINGS, seed=1)


def test_an_epoch_holds_every_row_once() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(3, 60, 501)]
    batches = _shuffled_batches(lengths, 16, np.random.default_rng(1))
    assert sorted(np.concatenate(batches)) == list(range(501))
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    arrival = sum(len(part) * max(part) for part in (lengths[at : at + 16] for at in range(0, 501, 16)))
    assert padded < 0.75 * arrival
    again = _shuffled_batches(lengths, 16, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("n_rows", [1, 60, 500, 1000, 20_000])
def test_rules_fill_in_what_is_open_and_nothing_else(n_rows: int) -> None:
    settings = ReaderSettings().resolved(n_rows)
    assert settings.learning_rate and settings.epochs and settings.batch_size
    mine = ReaderSettings(learning_rate=1e-3, epochs=7, batch_size=3)
    assert mine.resolved(n_rows) == mine
    assert ReaderSettings(brief=True).passes_for(n_rows) <= ReaderSettings().passes_for(n_rows)
