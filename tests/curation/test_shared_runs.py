"""Shared runs: laws over any words, and rows of the real datasets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.curation.shared_runs import RunIndex

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
WORDS = [f"w{number}" for number in range(12)]
sentences = st.lists(st.sampled_from(WORDS), max_size=30)


def index_of(*texts: str, n_words: int = 5, n_characters: int = 6, short_share: float = 0.75) -> RunIndex:
    return RunIndex(texts, n_words=n_words, n_characters=n_characters, short_share=short_share)


def longest_shared(a: list[str], b: list[str]) -> int:
    runs = {tuple(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1)}
    return max((j - i for i in range(len(b)) for j in range(i + 1, len(b) + 1) if tuple(b[i:j]) in runs), default=0)


@given(st.lists(sentences, min_size=1, max_size=5), sentences)
def test_a_shared_run_is_found_where_there_is_one(indexed: list[list[str]], words: list[str]) -> None:
    size, short_share = 5, 0.75
    index = index_of(*map(" ".join, indexed), n_words=size, short_share=short_share)
    found = index.find(" ".join(words))
    shared = [longest_shared(words, other) for other in indexed]
    whole = [
        n == min(len(words), len(other)) > 0 and n >= short_share * max(len(words), len(other))
        for n, other in zip(shared, indexed, strict=True)
    ]
    assert (found is not None) == (max(shared) >= size or any(whole))
    if found is not None:
        assert found.n_units == shared[found.row]
        assert found.n_units >= size or whole[found.row]


def test_a_short_text_overlaps_only_what_it_nearly_fills() -> None:
    index = index_of("a fine film", short_share=0.75)
    assert index.find("A fine film!") is not None
    assert index.find("such a fine film") is not None  # 3 of 4 words
    assert index.find("such a fine film too") is None
    assert index.find("fine film") is None  # 2 of 3 words
    assert index.find("") is None
    assert index_of().find("anything") is None
    assert index_of("", "...").find("") is None


def test_chinese_is_compared_by_characters() -> None:
    index = index_of("昨天的足球比赛因为下雨推迟了")
    assert index.by_character
    found = index.find("他说:足球比赛因为下雨,没有开始")
    assert found is not None
    assert found.n_units == 8
    assert index.find("足球比赛明天继续进行") is None


@pytest.mark.datasets
def test_real_rows_seldom_share_eight_words_by_chance() -> None:
    if not DATASETS.is_dir():
        pytest.skip("needs ../shared/datasets, which is not here")
    rows = {
        split: [json.loads(line)["text"] for line in (DATASETS / "sst2" / f"{split}.jsonl").open(encoding="utf-8")]
        for split in ("pool", "test")
    }
    index = index_of(*rows["pool"], n_words=8, n_characters=16)
    found = [index.find(text) for text in rows["test"]]
    assert sum(shared is not None for shared in found) / len(found) < 0.005
    assert all(index.find(text.upper()) is not None for text in rows["pool"][:200])


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="n_words 0"):
        index_of("a", n_words=0)
    with pytest.raises(ValueError, match="short_share"):
        index_of("a", short_share=0)
