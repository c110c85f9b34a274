"""Decontamination: no synthetic row may copy a gold row.

The texts of dev or test, never their labels, are compared with each candidate: by normal form, by long shared runs of
words, and by cosine similarity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s3local.curation.shared_runs import RunIndex
from s3local.curation.vector_index import VectorIndex
from s3local.embedder import Vectors
from s3local.records import Candidate, Dropped
from s3local.text import normal_form


class ProtectedTexts:
    """The gold texts of one split, ``name``, such as "dev" or "test". Reasons of drops, and their scores:

    ``copies_<name>``    equal in normal form (1)
    ``overlaps_<name>``  shares a run of words or characters, see ``RunIndex`` (the length of the run)
    ``near_<name>``      cosine at or above ``threshold`` (the cosine)
    """

    def __init__(self, name: str, texts: Sequence[str], vectors: Vectors, runs: RunIndex, threshold: float) -> None:
        self._name = name
        self._row_of_form = {normal_form(text): row for row, text in enumerate(texts)}
        self._runs = runs
        self._index = VectorIndex()
        self._index.add(vectors)
        self._threshold = threshold

    def find_copy(self, candidate: Candidate, text: str) -> Dropped | None:
        """The drop of a candidate whose ``text`` equals or overlaps a gold text, or None."""
        row = self._row_of_form.get(normal_form(text))
        if row is not None:
            return Dropped(candidate, f"copies_{self._name}", 1.0, self._describe(row))
        shared = self._runs.find(text)
        if shared is not None:
            unit = "characters" if self._runs.by_character else "words"
            detail = f"{shared.n_units} {unit} in a row of {self._describe(shared.row)}"
            return Dropped(candidate, f"overlaps_{self._name}", float(shared.n_units), detail)
        return None

    def find_near(self, candidates: Sequence[Candidate], vectors: Vectors) -> list[Dropped | None]:
        """For each candidate, the drop if it is too near a gold row, or None; ``vectors`` are (n_candidates, dim)."""
        scores, rows = self._index.nearest(vectors)
        verdicts: list[Dropped | None] = [None] * len(candidates)
        for place in np.flatnonzero(scores >= self._threshold).tolist():
            score = min(float(scores[place]), 1.0)  # rounding may carry a cosine just above 1
            verdicts[place] = Dropped(candidates[place], f"near_{self._name}", score, self._describe(int(rows[place])))
        return verdicts

    def _describe(self, row: int) -> str:
        return f"{self._name} row {row + 1}"
