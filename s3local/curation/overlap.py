"""What two texts share, letter by letter: normal form, script, and runs of words or characters.

Works for any script that Unicode names. Knows nothing of vectors, labels or thresholds of quality.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache

SCRIPTS_WITHOUT_SPACES = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"})
"""First words of the Unicode names of letters in scripts that write no space between words."""

EXCERPT_CHARACTERS = 80
"""How much of a neighbour's text a drop quotes."""


class _SpacesForNoise(dict[int, int]):
    """For ``str.translate``: letters, marks, digits and symbols of sense (currency, mathematics, emoji) stay.

    All else becomes a space. Fills itself as characters turn up.
    """

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        self[code] = code if category[0] in "LMN" or category in ("Sc", "Sm", "So") else ord(" ")
        return self[code]


_SPACES_FOR_NOISE = _SpacesForNoise()


def normal_form(text: str) -> str:
    """``text`` without the differences that do not make another text.

    Unicode NFKC, case-folded, every run of white space, punctuation and control characters as one space.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SPACES_FOR_NOISE).split())


@cache
def script_of(character: str) -> str | None:
    """The script of a letter as the first word of its Unicode name, such as "LATIN"; None for what is no letter."""
    if not character.isalpha():
        return None
    return re.split("[ -]", unicodedata.name(character, "UNKNOWN"), maxsplit=1)[0]


def script_counts(text: str) -> Counter[str]:
    """How many letters of each script ``text`` has, after NFKC (so that full-width Latin counts as Latin)."""
    counts: Counter[str] = Counter()
    for character, n in Counter(unicodedata.normalize("NFKC", text)).items():
        script = script_of(character)
        if script is not None:
            counts[script] += n
    return counts


def writes_without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters of ``texts`` belong to scripts that put no space between words."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(script_counts(text))
    return 2 * sum(counts[script] for script in SCRIPTS_WITHOUT_SPACES) > counts.total()


def units_of(text: str, by_character: bool) -> list[str]:
    """The words of the normal form of ``text``, or its characters other than spaces."""
    normal = normal_form(text)
    return list(normal.replace(" ", "")) if by_character else normal.split()


def excerpt(text: str) -> str:
    """The beginning of ``text`` on one line, quoted, for the detail of a drop."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= EXCERPT_CHARACTERS else f'"{line[:EXCERPT_CHARACTERS]}…"'


@dataclass(frozen=True, slots=True)
class SharedRun:
    """A run of words (or characters) that a text has in common with the text at ``row`` of an index."""

    row: int
    n_units: int


class RunIndex:
    """Texts, searchable for long runs of words: of characters, where most of their letters are written unspaced.

    A text shares a run with an indexed one when both have the same ``n_words`` words in a row (``n_characters``
    characters). When one of the two is shorter than that, it has to stand whole in the other and to be at least
    ``short_share`` of it. All of it is compared in normal form.
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
        """The longest run that ``text`` shares with one indexed text, or None if it shares none with any."""
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
        """The hash of each run of ``size`` units: 64 bits tell millions of runs apart."""
        return (hash(tuple(units[start : start + self.size])) for start in range(len(units) - self.size + 1))


def _contains(long: list[str], short: list[str]) -> bool:
    return f" {' '.join(short)} " in f" {' '.join(long)} "
