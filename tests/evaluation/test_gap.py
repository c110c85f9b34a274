"""Laws of the gap between two sets of texts, and of their diversity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3local.embedder import Vectors
from s3local.evaluation.gap import (
    DIVERSITY_TEXTS,
    coverage,
    distinct,
    measure_diversity,
    measure_gap,
    self_bleu,
    squared_mmd,
    two_sample_auc,
)


def unit_rows(n: int, seed: int, shift: float = 0.0, dim: int = 16) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(n, dim)) + shift * np.eye(dim)[0]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_set_and_itself_have_no_gap() -> None:
    rows = unit_rows(40, 0)
    gap = measure_gap(rows, rows)
    assert gap.auc == pytest.approx(0.5, abs=0.01)
    assert gap.coverage == 1.0
    assert gap.mmd is not None and gap.mmd <= 0


def test_two_draws_of_one_distribution_have_hardly_a_gap() -> None:
    aucs = [two_sample_auc(unit_rows(200, seed), unit_rows(60, 100 + seed)) for seed in range(5)]
    mmds = [squared_mmd(unit_rows(200, seed), unit_rows(60, 100 + seed)) for seed in range(20)]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.1)  # type: ignore[arg-type]
    assert np.mean(mmds) == pytest.approx(0, abs=0.002)  # type: ignore[arg-type]


def test_a_shift_is_seen_by_every_measure_and_a_larger_one_more() -> None:
    gold = unit_rows(60, 0)
    near, far = (measure_gap(unit_rows(200, 1, shift), gold) for shift in (1.0, 6.0))
    for key in ("auc", "mmd"):
        assert 0 < getattr(near, key) < getattr(far, key)
    assert far.auc is not None and far.auc > 0.95
    assert near.coverage is not None and far.coverage is not None and far.coverage < near.coverage


def test_coverage_counts_the_gold_rows_that_are_met() -> None:
    gold = np.concatenate([unit_rows(20, 0, 20.0), -unit_rows(20, 1, 20.0)])  # two clusters far apart
    assert coverage(gold[:20], gold) == pytest.approx(0.5)


def test_too_few_rows_give_none_and_no_error() -> None:
    one = unit_rows(1, 0)
    assert measure_gap(one, one) == measure_gap(one, unit_rows(1, 1))
    assert measure_gap(one, one).auc is None
    assert measure_diversity([""], one).self_bleu is None
    assert measure_diversity([], one[:0]).distinct_1 is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), max_size=8), st.integers(1, 3))
def test_diversity_is_a_share(units: list[list[str]], n: int) -> None:
    share, bleu = distinct(units, n), self_bleu(units)
    assert share is None or 0 < share <= 1
    assert bleu is None or 0 <= bleu <= 1 + 1e-9


def test_copies_have_no_diversity_and_different_words_all_of_it() -> None:
    copies = measure_diversity(["the same five words here"] * 10, np.repeat(unit_rows(1, 0), 10, axis=0))
    assert copies.self_bleu == pytest.approx(1.0)
    assert copies.distinct_1 == pytest.approx(1 / 10)
    assert copies.neighbour_distance == pytest.approx(0, abs=1e-6)
    others = measure_diversity(
        [" ".join(f"w{row}x{place}" for place in range(6)) for row in range(10)], unit_rows(10, 0)
    )
    assert others.distinct_1 == others.distinct_2 == 1.0
    assert others.self_bleu is not None and others.self_bleu < 0.1


def test_a_script_without_spaces_is_cut_into_characters() -> None:
    diversity = measure_diversity(["今天天气很好", "今天天气不好"], unit_rows(2, 0))
    assert diversity.distinct_1 is not None and 0 < diversity.distinct_1 < 1


def test_diversity_does_not_depend_on_the_number_of_texts() -> None:
    texts = [f"word{row % DIVERSITY_TEXTS} again" for row in range(DIVERSITY_TEXTS * 3)]
    diversity = measure_diversity(texts, unit_rows(len(texts), 0))
    assert diversity.distinct_2 is not None and diversity.distinct_2 > 0.5  # of all 300 it would be a third
