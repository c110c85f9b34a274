"""Deduplication: the laws of the deduplicator, compared with brute force, and real pairs in MiniLM's embedding."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.curation import dedup
from s3local.curation.dedup import Deduplicator, DedupSettings
from s3local.embedder import CachedEmbedder, SentenceTransformerEmbedder, Vectors
from s3local.progress import Advance, ignore
from s3local.records import Candidate, Dropped, Example, FilterResult
from s3local.text import normal_form

MODEL = Path(__file__).parents[2] / "models" / "all-minilm-l6-v2"
THRESHOLD = 0.9


class AngleEmbedder:
    """Embeds a text on the unit circle: its digits are the angle in degrees, so that similarities are known."""

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        advance(len(texts))
        degrees = [float(re.sub(r"\D", "", text) or 0) for text in texts]
        angles = np.radians(degrees).astype(np.float32).reshape(-1, 1)
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def candidate(name: object, **fields: str) -> Candidate:
    return Candidate(Example(str(name), fields, "any"))


def candidates_of(texts: Sequence[str]) -> list[Candidate]:
    return [candidate(place, text=text) for place, text in enumerate(texts)]


def ids(candidates: Sequence[Candidate]) -> list[str]:
    return [row.example.id for row in candidates]


def fates(result: FilterResult) -> list[tuple[str, str, str]]:
    return [(drop.candidate.example.id, drop.reason, drop.detail) for drop in result.dropped]


def deduplicator(threshold: float = THRESHOLD, compared_field: str | None = None) -> Deduplicator:
    return Deduplicator(AngleEmbedder(), DedupSettings(threshold=threshold), compared_field=compared_field)


def kept_by_definition(texts: Sequence[str], threshold: float) -> list[int]:
    """Row by row: kept unless its form or its direction is that of a kept earlier row."""
    vectors = AngleEmbedder().embed(texts)
    kept: list[int] = []
    for row, text in enumerate(texts):
        repeats = any(normal_form(text) == normal_form(texts[other]) for other in kept)
        if not repeats and not any(vectors[row] @ vectors[other] >= threshold for other in kept):
            kept.append(row)
    return kept


# No cosine of whole degrees lies within rounding of 0.9 or 0.99.
texts_of_angles = st.lists(
    st.builds(lambda word, degree: f"{word} {degree}", st.sampled_from(["a", "A", "b!"]), st.integers(0, 359)),
    max_size=60,
)


@given(texts_of_angles, st.sampled_from([0.9, 0.99]), st.integers(2, 9))
def test_the_result_is_the_sequential_definition(texts: list[str], threshold: float, block_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "BLOCK_ROWS", block_rows)
        result = deduplicator(threshold).filter(candidates_of(texts))
    assert ids(result.kept) == [str(row) for row in kept_by_definition(texts, threshold)]


@given(texts_of_angles)
def test_kept_and_dropped_are_every_candidate_in_order(texts: list[str]) -> None:
    candidates = candidates_of(texts)
    result = deduplicator().filter(candidates)
    kept, dropped = ids(result.kept), ids([drop.candidate for drop in result.dropped])
    assert sorted(kept + dropped, key=int) == ids(candidates)
    assert kept == sorted(kept, key=int)
    assert dropped == sorted(dropped, key=int)


@given(texts_of_angles)
def test_every_drop_names_a_kept_earlier_neighbour_and_its_similarity(texts: list[str]) -> None:
    result = deduplicator().filter(candidates_of(texts))
    vectors = AngleEmbedder().embed(texts)
    for drop in result.dropped:
        row, neighbour = int(drop.candidate.example.id), int(drop.detail.split(":")[0])
        assert str(neighbour) in ids(result.kept)
        assert neighbour < row
        assert f'"{texts[neighbour]}"' in drop.detail
        if drop.reason == "exact_duplicate":
            assert normal_form(texts[row]) == normal_form(texts[neighbour])
            assert drop.score == 1
        else:
            assert drop.reason == "near_duplicate"
            assert THRESHOLD <= drop.score <= 1
            assert drop.score == pytest.approx(float(vectors[row] @ vectors[neighbour]), abs=1e-6)


@given(texts_of_angles, st.lists(st.integers(0, 60), max_size=4))
def test_how_candidates_are_divided_into_calls_makes_no_difference(texts: list[str], cuts: list[int]) -> None:
    candidates = candidates_of(texts)
    at_once = deduplicator().filter(candidates)
    in_parts = deduplicator()
    bounds = [0, *sorted(cuts), len(candidates)]
    parts = [in_parts.filter(candidates[start:end]) for start, end in itertools.pairwise(bounds)]
    assert [row for part in parts for row in part.kept] == at_once.kept
    assert [fate for part in parts for fate in fates(part)] == fates(at_once)


@given(texts_of_angles, texts_of_angles)
def test_a_restored_deduplicator_goes_on_as_one_that_never_stopped(first: list[str], second: list[str]) -> None:
    through = deduplicator()
    kept = through.filter(candidates_of(first)).kept
    resumed = deduplicator()
    resumed.filter(candidates_of(["leftover 7", "leftover 200"]))
    resumed.restore(kept)
    later = [candidate(f"later-{place}", text=text) for place, text in enumerate(second)]
    a, b = through.filter(later), resumed.filter(later)
    assert a.kept == b.kept
    assert fates(a) == fates(b)


@given(texts_of_angles)
def test_filtering_what_was_kept_drops_nothing(texts: list[str]) -> None:
    kept = deduplicator().filter(candidates_of(texts)).kept
    assert deduplicator().filter(kept) == FilterResult(kept, [])


def test_a_row_near_only_to_a_dropped_row_stays() -> None:
    # 20 degrees are near (0.94), 40 are not (0.77): the second row falls to the first, the third has no kept neighbour
    result = deduplicator().filter(candidates_of(["a 0", "b 20", "c 40"]))
    assert ids(result.kept) == ["0", "2"]


def test_a_copy_in_another_form_is_an_exact_duplicate() -> None:
    result = deduplicator().filter(candidates_of(["Caf\u00e9 au lait: 10", "  CAFE\u0301, au lait 10!!"]))
    assert [drop.reason for drop in result.dropped] == ["exact_duplicate"]


def test_no_candidates_give_no_result_and_progress_adds_up() -> None:
    told: list[int] = []
    rows = deduplicator()
    rows.protect(["gold text 300"], "dev")
    assert rows.filter([], told.append) == FilterResult([], [])
    rows.filter(candidates_of(["a 0", "gold text 300", "b 90"]), told.append)
    assert sum(told) == 3


def test_gold_rows_are_protected_by_copy_by_run_and_by_cosine() -> None:
    rows = Deduplicator(AngleEmbedder(), DedupSettings(gold_threshold=0.95))
    rows.protect(["one two three four five six seven eight nine ten 200"], "dev")
    rows.protect(["quite another row 100"], "test")
    result = rows.filter(
        candidates_of(
            [
                "One, two, three, four, five, six, seven, eight, nine, ten 200",
                "so: two three four five six seven eight nine, and 20 more",
                "unlike in its words 101",
                "far from all 300",
            ]
        )
    )
    assert ids(result.kept) == ["3"]
    assert [drop.reason for drop in result.dropped] == ["copies_dev", "overlaps_dev", "near_test"]
    assert [drop.score for drop in result.dropped[:2]] == [1, 8]
    assert result.dropped[2].score == pytest.approx(np.cos(np.radians(1)), abs=1e-6)
    assert result.dropped[2].detail == "test row 1"


def test_each_protected_set_holds_beside_the_others() -> None:
    rows = deduplicator()
    rows.protect(["gold 0"], "dev")
    rows.protect([], "nothing")
    rows.protect(["gold 180"], "test")
    result = rows.filter(candidates_of(["a 1", "b 90", "c 181"]))
    assert ids(result.kept) == ["1"]
    assert [drop.reason for drop in result.dropped] == ["near_dev", "near_test"]


def test_a_row_dropped_for_gold_hides_no_later_row() -> None:
    rows = Deduplicator(AngleEmbedder(), DedupSettings(threshold=0.9, gold_threshold=0.999))
    rows.protect(["gold 0"], "dev")
    # both are near each other, at 19 degrees; the first is nearer to gold than any row may be
    result = rows.filter(candidates_of(["words 1", "others 20"]))
    assert ids(result.kept) == ["1"]
    assert [drop.reason for drop in result.dropped] == ["near_dev"]


def test_the_target_field_is_compared_among_equal_source_fields() -> None:
    rows = deduplicator(compared_field="question")
    result = rows.filter(
        [
            candidate("a", context="The port opened in 1892.", question="When 10"),
            candidate("b", context="The school opened in 1920.", question="When 10"),
            candidate("c", context="The port opened in 1892.", question="At what time 12"),
            candidate("d", context="The port opened in 1892.", question="Who 90"),
        ]
    )
    assert ids(result.kept) == ["a", "b", "d"]
    assert fates(result) == [("c", "near_duplicate", 'a: "When 10"')]


def test_settings_refuse_a_cosine_that_is_none() -> None:
    for name in ("threshold", "gold_threshold"):
        with pytest.raises(ValueError, match=f"{name} must be above 0 and at most 1, got 1.5"):
            DedupSettings(**{name: 1.5})


# The embedded model


@pytest.fixture(scope="module")
def minilm() -> CachedEmbedder:
    if not (MODEL / "model.safetensors").exists():
        pytest.skip("needs the embedded models: models/all-minilm-l6-v2 is absent")
    return CachedEmbedder(SentenceTransformerEmbedder(MODEL))


@pytest.mark.models
@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("The food was great, and the service was quick.", "The service was quick, and the food was great.", "near"),
        ("The food was great, and the service was quick.", "The food was excellent, and the service was fast.", "near"),
        ("The food was great, and the service was quick.", "The food was awful, and the service was slow.", None),
        ("When was the harbour of Rotterdam opened?", "When was the harbour of Hamburg opened?", None),
        ("Where does the river Elbe rise?", "How long is the river Elbe?", None),
    ],
)
def test_real_pairs_at_the_default_threshold(
    minilm: CachedEmbedder, first: str, second: str, reason: str | None
) -> None:
    result = Deduplicator(minilm).filter(candidates_of([first, second]))
    assert [drop.reason for drop in result.dropped] == ([f"{reason}_duplicate"] if reason else [])


@pytest.mark.models
def test_an_extrapolated_row_may_be_near_its_error_but_not_copy_it(minilm: CachedEmbedder) -> None:
    rows = Deduplicator(minilm)
    rows.protect(["A slow, heavy film that never finds its feet."], "dev")
    result = rows.filter(
        candidates_of(
            [
                "A slow, heavy movie that never finds its footing.",
                "A slow film that never finds its feet.",
            ]
        )
    )
    assert ids(result.kept) == ["0"]
    assert isinstance(result.dropped[0], Dropped)
    assert result.dropped[0].reason == "near_dev"
