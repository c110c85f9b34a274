"""Gold rows that no synthetic row may copy.

A guard holds the texts of dev or of test, never their labels, and says which candidates repeat them: word for
word, by a long run of words, or by cosine. Knows nothing of other candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s3local.curation.shared_runs import RunIndex
from s3local.curation.vector_index import VectorIndex
from s3local.embedder import Vectors
from s3local.records import Candidate, Dropped
from s3local.text import normal_form


class GoldGuard:
    """The gold texts of one ``name``, such as "dev" or "test"; the reasons of its drops end in that name.

    ``copies_<name>``: equal in normal form; score 1.
    ``overlaps_<name>``: shares a run of words or characters, see ``RunIndex``; score is its length.
    ``near_<name>``: cosine at or above ``threshold``; score is the cosine.
    """

    def __init__(self, name: str, texts: Sequence[str], vectors: Vectors, runs: RunIndex, threshold: float) -> None:
        self._name = name
        self._row_of_form = {normal_form(text): row for row, text in enumerate(texts)}
        self._runs = runs
        self._index = VectorIndex()
        self._index.add(vectors)
        self._threshold = threshold

    def find_copy(self, candidate: Candidate, text: str) -> Dropped | None:
        """The drop of a candidate whose ``text`` repeats the letters of a gold row, or None."""
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
        """For each candidate, with its row of ``vectors`` (n, dim), the drop if it is too near a gold row, or None."""
        scores, rows = self._index.nearest(vectors)
        verdicts: list[Dropped | None] = [None] * len(candidates)
        for place in np.flatnonzero(scores >= self._threshold).tolist():
            score = min(float(scores[place]), 1.0)  # rounding may carry a cosine just above 1
            verdicts[place] = Dropped(candidates[place], f"near_{self._name}", score, self._describe(int(rows[place])))
        return verdicts

    def _describe(self, row: int) -> str:
        return f"{self._name} row {row + 1}"
