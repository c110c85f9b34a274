"""Drop candidates that repeat gold rows or rows that are already kept.

Copies in normal form are found first, then near-duplicates by cosine similarity of embeddings. The first of several
near-duplicates is kept. Of test rows, only the texts are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3local.curation.decontamination import ProtectedTexts
from s3local.curation.shared_runs import RunIndex
from s3local.curation.vector_index import VectorIndex
from s3local.embedder import Embedder, Vectors
from s3local.progress import Advance, ignore
from s3local.records import Candidate, Dropped, FilterResult
from s3local.text import excerpt, normal_form

BLOCK_ROWS = 1024
"""How many candidates are compared with the kept rows, and with each other, at a time."""


@dataclass(frozen=True, slots=True)
class DedupSettings:
    """What counts as a duplicate; docs/dedup.md shows pairs around each value.

    ``threshold``: a candidate with at least this cosine to a kept row is a near-duplicate.
    ``gold_threshold``: a candidate with at least this cosine to a gold row is a copy. It is higher, because an
    extrapolated row is meant to be near its error.
    ``run_words``: a candidate that shares this many consecutive words with a gold row is a copy; ``run_characters`` is
    the same for scripts without spaces. If one of the two is shorter, it is a copy if the other one contains it and it
    makes up ``short_share`` of the other one.
    """

    threshold: float = 0.9
    gold_threshold: float = 0.95
    run_words: int = 8
    run_characters: int = 16
    short_share: float = 0.75

    def __post_init__(self) -> None:
        for name in ("threshold", "gold_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")


class Deduplicator:
    """Keeps candidates that differ from the protected gold rows and from every row that was kept before them.

    ``compared_field`` names the target field of pairs: only that field is compared, and only among candidates with
    equal source fields (a premise, a paragraph). None compares all text.

    Reasons of drops: those of ``ProtectedTexts``; ``exact_duplicate`` (equal in normal form, score 1) and
    ``near_duplicate`` (the score is the cosine), whose detail names the kept row by id and text. The result does not
    depend on how candidates are divided into calls.
    """

    def __init__(
        self, embedder: Embedder, settings: DedupSettings | None = None, *, compared_field: str | None = None
    ) -> None:
        self._embedder = embedder
        self._settings = settings or DedupSettings()
        self._compared_field = compared_field
        self._protected: list[ProtectedTexts] = []
        self._groups: dict[tuple[str, ...], _Group] = {}

    def protect(self, texts: Sequence[str], name: str, advance: Advance = ignore) -> None:
        """Drop candidates that copy one of ``texts``: of ``compared_field``, if set. ``name`` is "dev" or "test"."""
        settings = self._settings
        runs = RunIndex(
            texts,
            n_words=settings.run_words,
            n_characters=settings.run_characters,
            short_share=settings.short_share,
        )
        vectors = self._embedder.embed(texts, advance)
        self._protected.append(ProtectedTexts(name, texts, vectors, runs, settings.gold_threshold))

    def drop_copies(self, candidates: Sequence[Candidate]) -> FilterResult:
        """Keep the candidates that neither equal nor overlap a protected text. Nothing is embedded or remembered."""
        verdicts = [self._find_copy(candidate) for candidate in candidates]
        return FilterResult(
            kept=[candidate for candidate, verdict in zip(candidates, verdicts, strict=True) if verdict is None],
            dropped=[verdict for verdict in verdicts if verdict is not None],
        )

    def filter(self, candidates: Sequence[Candidate], advance: Advance = ignore) -> FilterResult:
        """Keep the new candidates, in order, and remember them; ``advance`` is called with the number just done."""
        verdicts = [self._find_copy(candidate) for candidate in candidates]
        unique = [place for place, verdict in enumerate(verdicts) if verdict is None]
        advance(len(candidates) - len(unique))
        vectors = self._embedder.embed([self._text(candidates[place]) for place in unique], advance)  # (n_unique, dim)
        for protected in self._protected:
            for place, near in zip(unique, protected.find_near([candidates[p] for p in unique], vectors), strict=True):
                verdicts[place] = verdicts[place] or near
        for group, rows in self._by_group([candidates[place] for place in unique]):
            rows = [row for row in rows if verdicts[unique[row]] is None]
            members = [candidates[unique[row]] for row in rows]
            texts = [self._text(member) for member in members]
            found = group.sift(members, texts, vectors[rows], self._settings.threshold)
            for row, verdict in zip(rows, found, strict=True):
                verdicts[unique[row]] = verdict
        return FilterResult(
            kept=[candidate for candidate, verdict in zip(candidates, verdicts, strict=True) if verdict is None],
            dropped=[verdict for verdict in verdicts if verdict is not None],
        )

    def restore(self, kept: Sequence[Candidate], advance: Advance = ignore) -> None:
        """Replace all remembered rows by ``kept``, the rows of a run in their order, without checking them.

        Call it when a run is resumed, and when a later filter has dropped rows that were kept here.
        """
        self._groups = {}
        vectors = self._embedder.embed([self._text(candidate) for candidate in kept], advance)
        for group, rows in self._by_group(kept):
            group.remember([kept[row] for row in rows], [self._text(kept[row]) for row in rows], vectors[rows])

    def _text(self, candidate: Candidate) -> str:
        return candidate.text if self._compared_field is None else candidate.example.fields[self._compared_field]

    def _find_copy(self, candidate: Candidate) -> Dropped | None:
        text = self._text(candidate)
        return next((copy for protected in self._protected if (copy := protected.find_copy(candidate, text))), None)

    def _by_group(self, candidates: Sequence[Candidate]) -> list[tuple[_Group, list[int]]]:
        """The groups of ``candidates``, new groups included, each with the positions of its candidates."""
        places: dict[tuple[str, ...], list[int]] = {}
        for place, candidate in enumerate(candidates):
            source = (
                ()
                if self._compared_field is None
                else tuple(text for name, text in candidate.example.fields.items() if name != self._compared_field)
            )
            places.setdefault(source, []).append(place)
        return [(self._groups.setdefault(source, _Group()), rows) for source, rows in places.items()]


class _Group:
    """The kept rows that a candidate is compared with: all of them, or those with the same source fields."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._row_of_form: dict[str, int] = {}
        self._index = VectorIndex()

    def remember(self, candidates: Sequence[Candidate], texts: Sequence[str], vectors: Vectors) -> None:
        for candidate, text in zip(candidates, texts, strict=True):
            self._note(candidate, text, normal_form(text))
        self._index.add(vectors)

    def sift(
        self, candidates: Sequence[Candidate], texts: Sequence[str], vectors: Vectors, threshold: float
    ) -> list[Dropped | None]:
        """The drop of each candidate, None for those that are kept; ``vectors`` is (n_candidates, dim)."""
        verdicts: list[Dropped | None] = []
        for start in range(0, len(candidates), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            verdicts += self._sift_block(candidates[block], texts[block], vectors[block], threshold)
        return verdicts

    def _sift_block(
        self, candidates: Sequence[Candidate], texts: Sequence[str], vectors: Vectors, threshold: float
    ) -> list[Dropped | None]:
        n_before = len(self._ids)
        scores, rows = self._index.nearest(vectors)  # among the rows kept before this block
        within = vectors @ vectors.T  # (n, n)
        has_near_earlier: NDArray[np.bool_] = np.any(np.tril(within, -1) >= threshold, axis=1)
        verdicts: list[Dropped | None] = []
        kept: list[int] = []  # places in this block
        for place, (candidate, text) in enumerate(zip(candidates, texts, strict=True)):
            score, row = float(scores[place]), int(rows[place])
            if has_near_earlier[place] and kept:
                best = int(within[place, kept].argmax())
                if within[place, kept[best]] > score:
                    score, row = float(within[place, kept[best]]), n_before + best
            form = normal_form(text)
            if form in self._row_of_form:
                verdicts.append(Dropped(candidate, "exact_duplicate", 1.0, self._describe(self._row_of_form[form])))
            elif score >= threshold:
                verdicts.append(Dropped(candidate, "near_duplicate", min(score, 1.0), self._describe(row)))
            else:
                self._note(candidate, text, form)
                kept.append(place)
                verdicts.append(None)
        self._index.add(vectors[kept])
        return verdicts

    def _note(self, candidate: Candidate, text: str, form: str) -> None:
        self._row_of_form.setdefault(form, len(self._ids))
        self._ids.append(candidate.example.id)
        self._texts.append(text)

    def _describe(self, row: int) -> str:
        return f"{self._ids[row]}: {excerpt(self._texts[row])}"
