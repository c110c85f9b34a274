"""Long runs of words or characters that two texts share. Works for any script that Unicode names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from s3local.text import units_of, writes_without_spaces


@dataclass(frozen=True, slots=True)
class SharedRun:
    """A run of ``n_units`` words (or characters) that a text shares with the text at ``row`` of an index."""

    row: int
    n_units: int


class RunIndex:
    """Texts that can be searched for long runs of words; of characters, if most letters belong to unspaced scripts.

    A text shares a run with an indexed text if both contain the same ``n_words`` consecutive words (``n_characters``
    characters). If one of them is shorter than that, the other one must contain it, and it must make up at least
    ``short_share`` of the other one. Texts are compared in normal form. Raises ``ValueError`` for sizes below 1 and
    shares outside of 0 to 1.
    """

    def __init__(self, texts: Sequence[str], *, n_words: int, n_characters: int, short_share: float) -> None:
        if min(n_words, n_characters) < 1:
            raise ValueError(f"a run has at least 1 unit, got n_words {n_words} and n_characters {n_characters}")
        if not 0 < short_share <= 1:
            raise ValueError(f"short_share must be above 0 and at most 1, got {short_share}")
        self.by_character = writes_without_spaces(texts)
        self.size = n_characters if self.by_character else n_words
        self._short_share = short_share
        self._units = [units_of(text, self.by_character) for text in texts]
        self._row_of_run: dict[int, int] = {}
        self._rows_of_length: dict[int, list[int]] = {}
        for row, units in enumerate(self._units):
            self._rows_of_length.setdefault(len(units), []).append(row)
            for run in self._runs(units):
                self._row_of_run.setdefault(run, row)

    def find(self, text: str) -> SharedRun | None:
        """The longest run that ``text`` shares with the first indexed text that shares one, or None."""
        units = units_of(text, self.by_character)
        for run in self._runs(units):
            row = self._row_of_run.get(run)
            if row is not None:
                shared = SequenceMatcher(None, units, self._units[row], autojunk=False).find_longest_match()
                return SharedRun(row, shared.size)
        return self._find_short(units)

    def _find_short(self, units: list[str]) -> SharedRun | None:
        shortest, longest = math.ceil(len(units) * self._short_share), int(len(units) / self._short_share)
        for length in range(max(shortest, 1), longest + 1):
            n_units = min(length, len(units))
            if n_units >= self.size:
                continue
            for row in self._rows_of_length.get(length, ()):
                if _contains(units, self._units[row]) or _contains(self._units[row], units):
                    return SharedRun(row, n_units)
        return None

    def _runs(self, units: list[str]) -> Iterator[int]:
        """The hash of each run of ``size`` units; 64 bits distinguish millions of runs."""
        return (hash(tuple(units[start : start + self.size])) for start in range(len(units) - self.size + 1))


def _contains(long: list[str], short: list[str]) -> bool:
    return f" {' '.join(short)} " in f" {' '.join(long)} "
