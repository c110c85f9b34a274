"""Encoding: a model reads the text, cut where it is too long, and a mask that marks padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import tiny_tokenizer, write_body
from transformers import DistilBertTokenizerFast

from s3local.exceptions import ModelError
from s3local.records import Example
from s3local.student.encoding import batches_by_length, encode, fitted_length, pad, unknown_share

ROWS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=20)


@given(ROWS, st.integers(0, 3))
def test_the_mask_gives_back_each_row(rows: list[list[int]], padding: int) -> None:
    ids, mask = pad(rows, padding)
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows)))
    assert [line[seen == 1].tolist() for line, seen in zip(ids, mask, strict=True)] == rows
    assert (ids[mask == 0] == padding).all()


@given(ROWS, st.integers(1, 7))
def test_batches_hold_every_row_once_longest_first(rows: list[list[int]], batch_size: int) -> None:
    batches = batches_by_length(rows, batch_size)
    assert sorted(np.concatenate(batches)) == list(range(len(rows)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    lengths = [len(rows[number]) for batch in batches for number in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_a_pair_is_two_texts_with_separators() -> None:
    tokenizer = tiny_tokenizer()
    (pair,) = encode(tokenizer, [("the film", "was good")], 32)
    assert tokenizer.decode(pair, skip_special_tokens=False) == "[CLS] the film [SEP] was good [SEP]"


def test_the_longer_side_of_a_pair_is_cut_and_the_last_separator_stays() -> None:
    tokenizer = tiny_tokenizer()
    (pair,) = encode(tokenizer, [("very " * 40, "was good")], 10)
    assert tokenizer.decode(pair, skip_special_tokens=False) == "[CLS] very very very very very [SEP] was good [SEP]"
    (single,) = encode(tokenizer, ["very " * 40], 4)
    assert tokenizer.decode(single, skip_special_tokens=False) == "[CLS] very very [SEP]"


def test_examples_read_like_their_fields() -> None:
    tokenizer = tiny_tokenizer()
    single = Example("1", {"text": "the film was bad"}, "x")
    pair = Example("2", {"premise": "the film", "hypothesis": "was bad"}, "x")
    assert encode(tokenizer, [single, pair], 32) == encode(tokenizer, ["the film was bad", ("the film", "was bad")], 32)
    with pytest.raises(ValueError, match=r"one field or two, example '3' has 3"):
        encode(tokenizer, [Example("3", {"a": "1", "b": "2", "c": "3"}, "x")], 32)


def test_it_reads_as_transformers_does() -> None:
    wrapped = DistilBertTokenizerFast(tokenizer_object=tiny_tokenizer())
    texts = ["A film!", "", "very " * 40, "Ünseen wörds 42"]
    expected = wrapped(texts, truncation=True, max_length=16)["input_ids"]
    assert encode(wrapped, texts, 16) == encode(tiny_tokenizer(), texts, 16) == expected


def test_the_length_fits_the_longest_text_and_the_body(tiny_bert: Path) -> None:
    long = ["good " * 40]
    assert fitted_length(tiny_bert, None, 20) == 20
    assert fitted_length(tiny_bert, None, 20, ["good"]) == 20
    assert fitted_length(tiny_bert, None, 20, long) == 42  # 40 words, [CLS] and [SEP]
    assert fitted_length(tiny_bert, None, 20, ["good " * 200]) == 64  # all that the body can read
    assert fitted_length(tiny_bert, 30, 20, long) == 30
    with pytest.raises(ModelError, match=r"max_length is 65, but .* reads 64 tokens"):
        fitted_length(tiny_bert, 65, 20)
    with pytest.raises(ModelError, match=r"config.json or tokenizer.json is missing"):
        fitted_length(tiny_bert / "nowhere", None, 20)


def test_unknown_pieces_are_counted_with_any_special_tokens(tiny_bert: Path, tmp_path: Path) -> None:
    assert unknown_share(tiny_bert, []) == 0
    assert unknown_share(tiny_bert, ["the film", "电影"]) == 0.5  # each character is a word, and unknown
    write_body(tmp_path, "xlm-roberta")
    assert unknown_share(tmp_path, ["the film", "电影"]) == 0.5


def test_positions_after_the_padding_id_are_not_readable(tmp_path: Path) -> None:
    write_body(tmp_path, "mpnet", max_position_embeddings=40)
    assert fitted_length(tmp_path, None, 99) == 38


@pytest.mark.models
def test_unknown_share_tells_a_script_that_the_body_cannot_read(minilm: Path) -> None:
    assert unknown_share(minilm, []) == 0
    assert unknown_share(minilm, ["the film was good", "the router restarts"]) == 0
    assert unknown_share(minilm, ["这家餐厅的菜很好吃"]) > 0.4
